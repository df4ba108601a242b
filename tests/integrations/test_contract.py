"""What every integration of the list promises. Drawn from the list: one that is added is held to it the same day."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, ValidationError

from integrations import base
from integrations.base import HttpRequest, Integration, MailRequest, Request, Response, Settings
from integrations.catalogue import ALL, NAMES
from integrations.hands import BadConnection, Hands
from schemas.commands import Command
from schemas.definitions import Connection
from schemas.delivery import Delivered, Delivery, Rejected, Retry
from schemas.envelope import derived_id
from tests.helpers.words import NOON, a_command

ROOM = Path(base.__file__).parent
NOT_INTEGRATIONS = {"__init__", "base", "catalogue", "hands"}

CANONICAL = {
    "url", "base_url", "webhook_url", "secret", "api_key", "bot_token", "username", "password", "headers", "channel",
    "topic", "host", "port", "security", "sender", "recipients", "project", "workspace", "region", "timeout_s",
}  # fmt: skip
"""Field names that mean the same everywhere. A new word is added here, where a synonym would be seen."""

FORBIDDEN = {
    "socket", "ssl", "http", "httpx", "aiohttp", "aiosmtplib", "smtplib", "requests", "subprocess", "asyncio", "threading",
    "os", "pathlib", "time", "random", "secrets", "faust", "mode", "aiokafka", "app", "agents", "transport",
}  # fmt: skip
"""Sockets, files, the environment, clocks, chance, and rooms that an integration must not know."""

INTEGRATIONS = pytest.mark.parametrize("integration", ALL, ids=lambda i: i.NAME)
COMMAND = a_command(
    type="product.tutorial.deploy", traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
)


def a_delivery(command: Command = COMMAND) -> Delivery:
    return Delivery(
        id=derived_id("delivery", command.id),
        tenant=command.tenant,
        connection="mine",
        integration="any",
        sandboxed=False,
        command=command,
    )


def example(integration: Integration) -> Settings:
    return integration.Config.model_validate(integration.EXAMPLE)


def secrets_of(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_of(getattr(value, name))
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from secrets_of(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from secrets_of(part)


def everything(request: Request) -> bytes:
    if isinstance(request, HttpRequest):
        return json.dumps(dict(request.headers)).encode() + request.url.encode() + request.body
    if isinstance(request, MailRequest):
        return request.message
    return request.value + b"".join(name.encode() + value for name, value in request.headers)


def test_the_list_is_the_folder_and_is_not_empty() -> None:
    assert len(ALL) >= 4
    assert sorted(NAMES) == sorted(p.stem for p in ROOM.glob("*.py") if p.stem not in NOT_INTEGRATIONS)
    assert [i.NAME for i in ALL] == list(NAMES)


def test_mypy_sees_each_of_them_as_an_integration(tmp_path: Path) -> None:
    lines = ["from integrations.base import Integration"]
    lines += [f"import integrations.{name}" for name in NAMES]
    lines += [f"check_{name}: Integration = integrations.{name}" for name in NAMES]
    snippet = tmp_path / "checked.py"
    snippet.write_text("\n".join(lines) + "\n")
    run = subprocess.run(
        [sys.executable, "-m", "mypy", str(snippet)],
        capture_output=True,
        text=True,
        cwd=ROOM.parent,
        env={**os.environ, "MYPYPATH": str(ROOM.parent)},
        timeout=250,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@INTEGRATIONS
def test_names_its_vendors_page(integration: Integration) -> None:
    assert "https://" in (integration.__doc__ or "")
    assert re.fullmatch(r"[a-z][a-z0-9_]*", integration.NAME)


@INTEGRATIONS
def test_config_is_documented_closed_and_immutable(integration: Integration) -> None:
    fields = integration.Config.model_fields
    assert fields
    assert [name for name, field in fields.items() if not field.description] == []
    assert integration.Config.__doc__
    with pytest.raises(ValidationError):
        integration.Config.model_validate({**integration.EXAMPLE, "surprise": 1})
    with pytest.raises(ValidationError):
        setattr(example(integration), next(iter(fields)), "changed")


@INTEGRATIONS
def test_fields_have_canonical_names(integration: Integration) -> None:
    assert set(integration.Config.model_fields) <= CANONICAL


@INTEGRATIONS
def test_render_is_repeatable_and_keeps_its_key_over_attempts(integration: Integration) -> None:
    delivery, config = a_delivery(), example(integration)
    assert integration.render(delivery, config, NOON) == integration.render(delivery, config, NOON)
    for now in (NOON, NOON + 3_600_000):
        assert delivery.id.encode() in everything(integration.render(delivery, config, now))


@INTEGRATIONS
def test_a_timeout_is_set(integration: Integration) -> None:
    request = integration.render(a_delivery(), example(integration), NOON)
    assert 0 < request.timeout_s <= 120


@INTEGRATIONS
def test_no_secret_is_shown(integration: Integration) -> None:
    config = example(integration)
    request = integration.render(a_delivery(), config, NOON)
    shown = repr(config) + str(config) + repr(request) + str(request) + config.model_dump_json()
    for secret in secrets_of(config):
        assert secret not in shown


@INTEGRATIONS
def test_errors_about_a_config_do_not_repeat_it(integration: Integration) -> None:
    hands = Hands()
    for name in integration.Config.model_fields:
        for bad in ({"deep": "hunter2"}, "hunter2\n", ["hunter2"]):
            try:
                integration.Config.model_validate({**integration.EXAMPLE, name: bad})
            except ValidationError as error:
                assert "hunter2" not in str(error)
            connection = Connection(name="c", integration=integration.NAME, config={**integration.EXAMPLE, name: bad})
            assert not any("hunter2" in problem for problem in hands.problems(connection))


@INTEGRATIONS
def test_sends_nothing_and_knows_no_time(integration: Integration) -> None:
    path = ROOM / f"{integration.NAME}.py"
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Attribute):
            assert node.attr not in {"now", "utcnow", "today", "environ", "uuid4"}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "eval", "exec", "print", "__import__"}
    assert names
    roots = {name.split(".")[0] for name in names}
    assert roots & FORBIDDEN == set()
    ours = {name for name in names if name.startswith("integrations")}
    assert ours <= {"integrations.base"}, "integrations are unaware of each other"


@INTEGRATIONS
def test_what_each_status_means(integration: Integration) -> None:
    request = integration.render(a_delivery(), example(integration), NOON)
    for status in range(100, 600):
        outcome = integration.interpret(Response(status=status, at=NOON, body=b"ok"))
        if 200 <= status < 300:
            meant: type = Delivered
        elif isinstance(request, MailRequest):
            # RFC 5321: 4xx is for now, 5xx for good; other codes are no answer to a message.
            meant = Rejected if status >= 500 else Retry
        else:
            meant = Retry if status in (408, 425, 429) or status >= 500 else Rejected
        assert isinstance(outcome, meant), status


@INTEGRATIONS
@pytest.mark.parametrize("failure", ["dns", "connect", "tls", "timeout", "protocol", "no_topic", "blocked"])
def test_no_answer_is_tried_again_and_a_blocked_address_is_not(integration: Integration, failure: Any) -> None:
    outcome = integration.interpret(Response(status=0, at=NOON, failure=failure))
    assert isinstance(outcome, Rejected if failure == "blocked" else Retry)
    assert outcome.reason == failure


@INTEGRATIONS
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=60) | st.sampled_from([b"{}", b"[]", b"null", b'{"ok":1}', b'{"ok":true,"ts":5}', b'"x"']),
    status=st.integers(0, 999),
    retry_after=st.text(max_size=20) | st.sampled_from(["-1", "1e999", "nan", "9" * 400, "Wed, 21 Oct 2015 07:28:00"]),
)
def test_any_answer_has_a_meaning(integration: Integration, body: bytes, status: int, retry_after: str) -> None:
    outcome = integration.interpret(Response(status=status, at=NOON, headers={"retry-after": retry_after}, body=body))
    assert isinstance(outcome, Delivered | Retry | Rejected)
    if isinstance(outcome, Retry) and outcome.after_s is not None:
        assert outcome.after_s >= 0


@INTEGRATIONS
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(title=st.text(max_size=80), text=st.text(max_size=80), link=st.text(max_size=40))
def test_any_command_can_be_rendered(integration: Integration, title: str, text: str, link: str) -> None:
    why = COMMAND.why.model_copy(update={"links": {link: link}, "numbers": {"rate": None, "n": 1e300}})
    command = COMMAND.model_copy(update={"title": title, "text": text, "why": why})
    request = integration.render(a_delivery(command), example(integration), NOON)
    if isinstance(request, HttpRequest):
        assert all(value.isprintable() for value in request.headers.values())
        json.loads(request.body)
    elif isinstance(request, MailRequest):
        head = request.message.partition(b"\r\n\r\n")[0]
        names = re.findall(rb"^([A-Za-z-]+):", head, re.MULTILINE)
        assert len(names) == len(set(names))
        assert b"Bcc" not in names


@INTEGRATIONS
def test_the_sandbox_shows_the_request_and_no_secret(integration: Integration) -> None:
    def refer(value: object, secret: bool) -> Any:
        return {"env": "UPTAKE_SECRET_X"} if secret else value

    config = example(integration)
    written: dict[str, Any] = {}
    for name, value in integration.EXAMPLE.items():
        parsed = getattr(config, name)
        if isinstance(parsed, dict):
            written[name] = {k: refer(v, isinstance(parsed[k], SecretStr)) for k, v in value.items()}
        else:
            written[name] = refer(value, isinstance(parsed, SecretStr))
    connection = Connection(name="c", integration=integration.NAME, config=written)
    hands = Hands()
    assert hands.problems(connection) == []
    sketch = hands.sketch(a_delivery(), connection, NOON)
    assert "problems" not in sketch
    assert a_delivery().id in json.dumps(sketch) or integration.NAME == "kafka"


@INTEGRATIONS
def test_a_secret_written_into_a_definition_is_refused(integration: Integration) -> None:
    connection = Connection(name="c", integration=integration.NAME, config=dict(integration.EXAMPLE))
    found = list(secrets_of(example(integration)))
    problems = Hands().problems(connection)
    assert bool(problems) is bool(found)
    assert not any(secret in problem for problem in problems for secret in found)
    if found:
        with pytest.raises(BadConnection, match="env"):
            Hands().render(a_delivery(), connection, NOON, lambda reference: "never asked")
        assert "problems" in Hands().sketch(a_delivery(), connection, NOON)


def test_an_unknown_integration_is_a_problem_that_names_those_there_are() -> None:
    [problem] = Hands().problems(Connection(name="c", integration="fax", config={}))
    assert "fax" in problem
    assert all(name in problem for name in NAMES)

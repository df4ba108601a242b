"""All roles, the gateway and the command line through TLS and SCRAM, with marked secrets; afterwards nobody finds a mark.

The destinations are unkind on purpose: one takes, one repeats the whole request back in a refusal, one says 200 and "no", one is
not there. So receipts, dead letters, retries and logs all have their chance to show what they should not.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.kafka import client, settle
from app.main import make_options
from app.probes import targets
from app.settings import ROLES, Settings
from tests.helpers.kafka import free_port
from tests.helpers.secure import SecureKafka, provide_secure
from tests.helpers.web import Seen, WebServer, serving

PASSWORD = "m4rk3d-kafka-password"
HOOK = "whsec_" + base64.b64encode(b"m4rk3d-webhook-signing-key-1").decode()
HEADER = "Bearer m4rk3d-header"
TOKEN = "xoxb-m4rk3d-slack-token"
MAIL = "m4rk3d-mail-password"
VARIABLES = {
    "UPTAKE_SECRET_ACME__HOOK": HOOK,
    "UPTAKE_SECRET_ACME__HEADER": HEADER,
    "UPTAKE_SECRET_ACME__SLACK": TOKEN,
}
MARKS = (PASSWORD, HOOK, HOOK.removeprefix("whsec_"), HEADER, TOKEN, MAIL, "m4rk3d")


@dataclass(slots=True)
class Machine:
    """A deployment as an operator has it: settings in the environment, everything else by the command line."""

    kafka: SecureKafka
    directory: Path
    api_port: int = field(default_factory=free_port)
    heard: list[str] = field(default_factory=list)
    """All that commands and processes said."""

    def environment(self, **changed: str) -> dict[str, str]:
        mine = {
            "UPTAKE_KAFKA": self.kafka.address,
            "UPTAKE_KAFKA_SECURITY": "SASL_SSL",
            "UPTAKE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "UPTAKE_KAFKA_USERNAME": "uptake",
            "UPTAKE_KAFKA_PASSWORD": PASSWORD,
            "UPTAKE_KAFKA_CA_FILE": str(self.kafka.ca),
            "UPTAKE_DATA_DIR": str(self.directory / "data"),
            "UPTAKE_SECRET_DIR": str(self.directory / "secrets"),
            "UPTAKE_ALLOWED_HOSTS": '["127.0.0.0/8", "localhost"]',
            "UPTAKE_TOPIC_PREFIX": "safe.",
            "UPTAKE_PARTITIONS": "2",
            "UPTAKE_API_PORT": str(self.api_port),
        }
        return {**os.environ, **mine, **VARIABLES, **changed}

    def run(self, *arguments: str, expect: int = 0, **changed: str) -> str:
        """A command to its end; its output."""
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            env=self.environment(**changed), capture_output=True, text=True, timeout=120, cwd=self.directory,
        )  # fmt: skip
        self.heard += [done.stdout, done.stderr]
        assert done.returncode == expect, (arguments, done.stdout[-500:], done.stderr[-2000:])
        return done.stdout if expect == 0 else done.stderr

    @asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[subprocess.Popen[bytes]]:
        """A command that goes on, for the length of the block."""
        said = self.directory / f"{arguments[0]}.said"
        with said.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", *arguments], env=self.environment(), stdout=out, stderr=out,
                cwd=self.directory,
            )  # fmt: skip
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            self.heard.append(said.read_text())

    def settings(self) -> Settings:
        return Settings(
            kafka=self.kafka.address, kafka_security="SASL_SSL", kafka_sasl_mechanism="SCRAM-SHA-256",
            kafka_username="uptake", kafka_password=PASSWORD, kafka_ca_file=self.kafka.ca, topic_prefix="safe.",
            partitions=2, data_dir=self.directory / "data",
        )  # fmt: skip


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    with provide_secure(tmp_path_factory.mktemp("secure"), {"uptake": PASSWORD}) as kafka:
        yield kafka


@pytest.fixture
def machine(secure: SecureKafka, tmp_path: Path) -> Machine:
    (tmp_path / "secrets" / "acme").mkdir(parents=True)
    (tmp_path / "secrets" / "acme" / "mail").write_text(f"{MAIL}\n")
    return Machine(secure, tmp_path)


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"UPTAKE_KAFKA_PASSWORD": "m4rk3d-wrong"}, "refuses user 'uptake' (SCRAM-SHA-512): check UPTAKE_KAFKA_USERNAME"),
        ({"UPTAKE_KAFKA_CA_FILE": "other"}, "not trusted (unable to get local issuer certificate): name its authority in"),
        ({"UPTAKE_KAFKA_CA_FILE": "/nowhere.pem"}, "TLS files cannot be read (No such file or directory) among /nowhere.pem"),
        ({"UPTAKE_KAFKA_SASL_MECHANISM": "PLAIN"}, "does not take PLAIN: set UPTAKE_KAFKA_SASL_MECHANISM"),
        ({"UPTAKE_KAFKA_SECURITY": "PLAINTEXT"}, "hangs up on PLAINTEXT: check that UPTAKE_KAFKA_SECURITY"),
        ({"UPTAKE_KAFKA_SECURITY": "SSL"}, "hangs up on SSL: check that UPTAKE_KAFKA_SECURITY"),
    ],
    ids=["password", "authority", "no file", "mechanism", "plain", "no sasl"],
)  # fmt: skip
def test_whoever_is_not_let_in_hears_why_in_one_line(machine: Machine, changed: dict[str, str], says: str) -> None:
    changed = {k: str(machine.kafka.other_ca) if v == "other" else v for k, v in changed.items()}
    thorough = "refuses" in says or "not trusted" in says  # a start of Python each, so not every reason at every door
    for arguments in (("topics", "list"), ("worker",), ("api",)) if thorough else (("topics", "list"),):
        said = machine.run(*arguments, expect=3, **changed)
        assert said.startswith("uptake: ") and said.count("\n") == 1, said
        assert says in said and "m4rk3d" not in said
    if not thorough:
        return
    role = subprocess.run(
        [sys.executable, "-m", "app.process", "meter", "0"],
        env=machine.environment(**changed), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert role.returncode == 3 and says in role.stderr, role.stderr
    assert role.stderr.count("\n") == 1 and "m4rk3d" not in role.stderr + role.stdout


def answer(seen: Seen) -> web.Response:
    """Takes, refuses while repeating everything, or says no in Slack's way."""
    if seen.path == "/good":
        return web.Response(text="ok")
    if seen.path.startswith("/api/"):
        return web.json_response({"ok": False, "error": "invalid_auth"})
    return web.Response(
        status=401, text=json.dumps(seen.headers) + seen.body.decode(), headers={"x-seen": str(seen.headers)}
    )


def definitions(server: WebServer, mail_port: int) -> str:
    hook = {
        "secret": {"env": "UPTAKE_SECRET_ACME__HOOK"},
        "headers": {"authorization": {"env": "UPTAKE_SECRET_ACME__HEADER"}},
    }
    mail = {
        "host": "127.0.0.1", "port": mail_port, "username": "uptake", "password": {"file": "mail"},
        "sender": "uptake@example.com", "recipients": ["team@example.com"],
    }  # fmt: skip
    slack = {"bot_token": {"env": "UPTAKE_SECRET_ACME__SLACK"}, "channel": "C1", "base_url": server.url("/api")}
    connections: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
        "good": ("webhook", {**hook, "url": server.url("/good")}, {}),
        "rude": ("webhook", {**hook, "url": server.url("/rude")}, {}),
        "chat": ("slack", slack, {}),
        "mail": ("email", mail, {"max_attempts": 1}),
        "unset": ("webhook", {"url": server.url("/good"), "secret": {"env": "UPTAKE_SECRET_ACME__NONE"}}, {"max_attempts": 1}),
        "sandbox": ("webhook", {**hook, "url": server.url("/good")}, {"enabled": False}),
    }  # fmt: skip
    rule = {
        "kind": "rule", "tenant": "acme", "name": "first", "id": "T1", "cooldown_s": 31_536_000,
        "trigger": {"kind": "event", "topic": "events.usage", "subject": "user"},
        "command": {"type": "product.tutorial.deploy", "title": "{{ user }} used {{ feature }}", "text": "Once."},
    }  # fmt: skip
    made = [
        {
            "kind": "connection",
            "tenant": "acme",
            "name": name,
            "integration": kind,
            "config": config,
            "enabled": True,
            **more,
        }
        for name, (kind, config, more) in connections.items()
    ]
    return json.dumps({"definitions": [rule, *made]})


@pytest.mark.kafka
@pytest.mark.timeout(600)
async def test_a_whole_run_through_tls_and_scram_shows_no_secret(machine: Machine) -> None:
    async with serving(answer) as server:
        (machine.directory / "rules.yaml").write_text(definitions(server, free_port()))
        rows = [
            {"id": f"e{n}", "tenant": "acme", "product": "shop", "type": "feature.used", "feature": "search", "user": f"u{n % 5}",
             "occurred_at": 1_760_000_000_000 + n * 1_000} for n in range(40)
        ]  # fmt: skip
        (machine.directory / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [*rows, {"id": "bad"}]))
        machine.run("topics", "create")
        machine.run("apply", "rules.yaml")
        keys = {
            role: machine.run("keys", "create", role, "--role", role, "--tenant", tenant).strip()
            for role, tenant in (("operations", "all"), ("product_director", "acme"), ("development", "acme"))
        }
        async with machine.running("worker") as workers, machine.running("api"):
            machine.run("status", "--wait", "90")
            machine.run("send", "rows.jsonl", "--act")
            shown = await _everything_ended(machine, keys)
            shown["processes"] = _command_lines(workers.pid)
            shown["metrics"] = await _metrics(machine)
            shown |= {c: machine.run(*c.split()) for c in COMMANDS}
        assert {s.path for s in server.seen} >= {"/good", "/rude", "/api/chat.postMessage"}
        used = str([s.headers for s in server.seen])
    assert HEADER in used and TOKEN in used and "webhook-signature" in used, "the secrets were not even used"
    shown["said"] = "".join(machine.heard)
    shown["files"] = _files(machine.directory / "data")
    shown["topics"] = await _topics(machine.settings())
    shown["repr"] = repr(machine.settings()) + repr(make_options(machine.settings(), "deliver"))
    # What must be found where, so that a search that finds nothing has looked into something.
    present = {
        "processes": "app.process", "metrics": "uptake_deliveries_total", "said": "rows sent", "files": "deliver-0 starts",
        "topics": "UPTAKE_SECRET_ACME__HOOK", "repr": "SASL_SSL", "connections list --json": "UPTAKE_SECRET_ACME__SLACK",
        "settings": "UPTAKE_KAFKA_PASSWORD=***", "/api/v1/receipts": "invalid_auth", "/api/v1/dead-letters": "http_401",
        "/api/v1/definitions": "UPTAKE_SECRET_ACME__HEADER", "/api/v1/sink": "bearer example",
    }  # fmt: skip
    for where, text in present.items():
        assert text.lower() in shown[where].lower(), (where, shown[where][:2_000])
    for where, text in shown.items():
        for mark in MARKS:
            for form in {mark, quote(mark), quote(mark, safe=""), base64.b64encode(mark.encode()).decode().rstrip("=")}:
                assert form not in text, f"{form} stands in {where}: …{text[max(0, text.find(form) - 200) :][:400]}"
        for role, key in keys.items():
            assert where == "said" or key not in text, (where, role)


COMMANDS = (
    "settings", "connections list --json", "keys list --json", "tail receipts --json", "tail dead-letters --json",
)  # fmt: skip
ENDED = {
    "good": "delivered",
    "rude": "rejected",
    "chat": "rejected",
    "mail": "rejected",
    "unset": "rejected",
    "sandbox": "delivered",
}


async def _everything_ended(machine: Machine, keys: dict[str, str]) -> dict[str, str]:
    """Every answer of the gateway, once each of five commands has ended at each of six connections."""
    base = f"http://127.0.0.1:{machine.api_port}"
    shown: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=base, timeout=30) as http:

        async def get(path: str, key: str) -> httpx.Response | None:
            try:
                return await http.get(path, headers={"authorization": f"Bearer {key}"})
            except httpx.TransportError:
                return None  # not open yet

        async def ended() -> dict[str, int]:
            found = await get("/api/v1/deliveries?limit=1000", keys["operations"])
            done = [d for d in found.json()["items"] if d["final"]] if found is not None and found.is_success else []
            assert all(ENDED[d["connection"]] == d["status"] for d in done if d["connection"] in ENDED), done
            return {name: sum(d["connection"] == name for d in done) for name in ENDED}

        counts: dict[str, int] = {}
        for _ in range(600):
            counts = await ended()
            if set(counts.values()) == {5}:
                break
            await settle(lambda: False, within_s=0.2)
        assert set(counts.values()) == {5}, counts
        document = (await http.get("/openapi.json")).json()
        for path, methods in document["paths"].items():
            if "get" in methods and "{" not in path:
                asked = [p for p in methods["get"].get("parameters", ()) if p["in"] == "query" and p.get("required")]
                query = {p["name"]: "feature:f" if p["name"] == "subject" else "x" for p in asked}
                for role, key in keys.items():
                    more = {"tenant": "acme"} if role != "operations" else {}
                    found = await get(f"{path}?{urlencode({**query, **more})}", key)
                    assert found is not None and found.status_code in (200, 403, 404, 422), (path, role, found)
                    shown[path] = shown.get(path, "") + found.text + str(found.headers)
        events = await http.post(
            "/api/v1/products/shop/events",
            headers={"authorization": f"Bearer {keys['development']}"},
            json=[{"id": "x", "type": "feature.used", "feature": "search", "user": "u", "occurred_at": 1}, {"id": "y"}],
        )
        assert events.status_code == 207
        shown["events"] = events.text
    return shown


def _command_lines(parent: int) -> str:
    """How the processes were started: everybody on the machine may read that."""
    import psutil

    family = [psutil.Process(parent), *psutil.Process(parent).children(recursive=True)]
    assert len(family) == 2 + len(ROLES)  # the supervisor, its fork server, a process a role
    return "\n".join(" ".join(process.cmdline()) for process in family)


async def _metrics(machine: Machine) -> str:
    found = ""
    async with httpx.AsyncClient() as http:
        for _, address in targets(machine.directory / "data" / "run" / "targets").values():
            for path in ("/metrics", "/readyz"):
                found += (await http.get(f"http://{address}{path}")).text
    return found


def _files(directory: Path) -> str:
    """Logs, the read model, journals: every byte."""
    return "\n".join(p.read_bytes().decode("latin-1") for p in sorted(directory.rglob("*")) if p.is_file())


async def _topics(settings: Settings) -> str:
    """Every record of every topic, the aborted and the internal ones too."""
    consumer = AIOKafkaConsumer(**client(settings), enable_auto_commit=False, isolation_level="read_uncommitted")
    await consumer.start()
    try:
        names = [t for t in await consumer.topics() if t.startswith(settings.topic_prefix)]
        assert len(names) > 30
        await consumer._client.set_topics(names)
        places = [TopicPartition(t, p) for t in names for p in consumer.partitions_for_topic(t) or ()]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        parts: list[bytes] = []
        while any([await consumer.position(p) < ends[p] for p in places]):
            for rows in (await consumer.getmany(timeout_ms=500)).values():
                for row in rows:
                    parts += [row.key or b"", row.value or b"", *(n.encode() + b"=" + v for n, v in row.headers)]
    finally:
        await consumer.stop()
    return b"\n".join(parts).decode("latin-1")

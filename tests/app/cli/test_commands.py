"""The command line as people and scripts meet it: results, errors in one line, exit codes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app import topics
from app.cli.root import build
from app.cli.run import execute
from app.kafka import producer, read
from app.settings import Settings
from schemas.delivery import DEAD_LETTER_HEADERS
from tests.helpers.kafka import free_port, make_topic, run_anywhere
from tests.helpers.settings import settings_for


class Shell:
    """Runs commands in this process against one deployment."""

    def __init__(self, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = settings
        self.capsys = capsys
        for name, value in settings.environment().items():
            monkeypatch.setenv(name, value)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr. On a thread of its own, as a command brings its own event loop."""

        async def off_loop() -> int:
            return await asyncio.to_thread(execute, build(), arguments)

        self.capsys.readouterr()
        code = run_anywhere(off_loop())
        out = self.capsys.readouterr()
        return code, out.out, out.err

    def ok(self, *arguments: str) -> str:
        code, out, err = self.run(*arguments)
        assert code == 0, err
        return out

    def json(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ok(*arguments).splitlines()]


@pytest.fixture
def shell(
    kafka: str, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:
    settings = settings_for(kafka, prefix, tmp_path)
    run_anywhere(topics.create(settings))
    return Shell(settings, capsys, monkeypatch)


def write(settings: Settings, topic: str, rows: Sequence[tuple[bytes | None, bytes, list[tuple[str, bytes]]]]) -> None:
    async def work() -> None:
        async with producer(settings) as made:
            for key, value, headers in rows:
                await made.send_and_wait(settings.topic(topic), value, key=key, headers=headers)

    run_anywhere(work())


@pytest.mark.kafka
def test_tail_prints_what_is_there_and_ends(shell: Shell) -> None:
    for n in range(5):
        write(
            shell.settings,
            "commands.product" if n % 2 else "commands.sales",
            [(b"acme|user:u", b'{"id":"%d"}' % n, [])],
        )
    assert [c["id"] for c in shell.json("tail", "commands", "--json")] == ["0", "1", "2", "3", "4"]
    assert [c["id"] for c in shell.json("tail", "commands", "--json", "--limit", "2")] == ["3", "4"]
    assert shell.ok("tail", "detections", "--json") == ""


@pytest.mark.kafka
def test_dead_letters_show_reason_place_and_original_bytes(shell: Shell) -> None:
    told = ("meter", "not_json", "why", "events.usage", "1", "42", "t.meter", "0", "1760000000000")
    headers = [(n, v.encode()) for n, v in zip(DEAD_LETTER_HEADERS, told, strict=True)]
    write(shell.settings, "dead-letters", [(b"acme|u", b"\xffoops", headers)])
    [letter] = shell.json("tail", "dead-letters", "--json")
    assert letter["reason"] == "not_json" and letter["offset"] == 42 and letter["value"] == "\ufffdoops"


@pytest.mark.kafka
def test_pause_and_resume(shell: Shell) -> None:
    shell.ok("pause", "--tenant", "acme")
    shell.ok("pause")
    [status] = shell.json("status", "--json")
    assert sorted(status["paused"]) == ["tenant:acme", "tenant:all"]
    shell.ok("resume")
    code, _, err = shell.run("resume")
    assert code == 5 and "paused: tenant acme" in err
    code, _, err = shell.run("pause", "--rule", "Z9")
    assert code == 5 and "no rule 'Z9'" in err
    assert shell.run("pause", "--rule", "a", "--tenant", "b")[0] == 2


@pytest.mark.kafka
def test_retire(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text(
        "definitions:\n- {kind: workflow, name: flow, id: F1, trigger: {kind: event, topic: events.usage}, start: a,\n"
        "   nodes: [{kind: exit, id: a}]}\n"
    )
    shell.ok("apply", str(file))
    code, _, err = shell.run("retire", "F1", "--runs", "undo", "--dry-run")
    assert code == 0 and "would be out of force; 0 runs take back" in err
    code, _, err = shell.run("retire", "F1", "--runs", "cancel", "--by", "ann")
    assert code == 0 and "workflow all/flow is out of force; 0 runs end now" in err
    code, _, err = shell.run("retire", "F2")
    assert code == 5 and "there are: " in err and "F1" in err
    code, _, err = shell.run("apply", str(file))
    assert code == 0 and "workflow all/flow is now version 3" in err
    shell.ok("retire", "F1")


@pytest.mark.kafka
def test_connections_are_born_in_the_sandbox_and_hold_no_secret(shell: Shell) -> None:
    config = {"url": "https://example.com/hook", "secret": {"env": "UPTAKE_SECRET_HOOK"}}
    shell.ok("connections", "add", "hook", "--integration", "webhook", "--config", json.dumps(config))
    [made] = shell.json("connections", "list", "--json")
    assert made["enabled"] is False and made["config"] == config
    shell.ok("connections", "enable", "hook")
    assert shell.json("connections", "list", "--json")[0]["enabled"] is True
    shell.ok("connections", "remove", "hook")
    assert shell.json("connections", "list", "--json") == []

    literal = {"url": "https://example.com/hook", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    code, _, err = shell.run("connections", "add", "x", "--integration", "webhook", "--config", json.dumps(literal))
    assert code == 4 and "MfKQ9r8" not in err
    code, _, err = shell.run("connections", "add", "x", "--integration", "pigeon")
    assert code == 4 and "pigeon" in err


@pytest.mark.kafka
def test_hooks_are_tried_on_a_body_and_show_their_address_once(shell: Shell, tmp_path: Path) -> None:
    file, body = tmp_path / "orders.yaml", tmp_path / "call.json"
    file.write_text(
        "name: orders\ntenant: acme\nproduct: shop\ntarget: events.commerce\n"
        "fields: {user: customer.id, amount: total}\nconstants: {type: order.completed}\n"
    )
    body.write_text('{"customer": {"id": 7}, "total": "12.5"}')
    [tried] = shell.json("hooks", "test", str(file), str(body))
    assert tried["topic"] == "events.commerce"
    assert {"user": "7", "amount": 12.5, "tenant": "acme", "product": "shop"}.items() <= tried["event"].items()
    path = shell.ok("hooks", "create", str(file)).strip()
    assert path.startswith("/hooks/upt_")
    [listed] = shell.json("hooks", "list", "--json")
    assert listed["name"] == "orders" and "hash" not in listed
    assert shell.run("hooks", "create", str(file))[0] == 4, "the name is taken"
    shell.ok("hooks", "remove", "orders", "--tenant", "acme")
    assert shell.json("hooks", "list", "--json") == []
    file.write_text("name: orders\ntenant: all\nproduct: shop\ntarget: events.commerce\nfields: {}\n")
    code, _, err = shell.run("hooks", "create", str(file))
    assert code == 4 and "one tenant" in err


@pytest.mark.kafka
def test_keys_are_shown_once_and_kept_as_hashes(shell: Shell) -> None:
    key = shell.ok("keys", "create", "ci", "--role", "read_only", "--tenant", "acme").strip()
    [listed] = shell.json("keys", "list", "--json")
    assert listed["name"] == "ci" and key not in json.dumps(listed)
    assert shell.run("keys", "create", "ci", "--role", "read_only", "--tenant", "acme")[0] == 4
    shell.ok("keys", "revoke", "ci", "--tenant", "acme")
    assert shell.json("keys", "list", "--json") == []
    code, _, err = shell.run("keys", "create", "x", "--role", "king")
    assert code == 4 and "role" in err


@pytest.mark.kafka
def test_sources_are_shown_before_they_are_read(shell: Shell, tmp_path: Path) -> None:
    own = f"{shell.settings.topic_prefix}their.clicks"

    run_anywhere(make_topic(shell.settings, own))
    row = {"who": {"id": 7}, "ts": 1760000000, "screen": "board"}
    write(shell.settings, "their.clicks", [(None, json.dumps(row).encode(), []) for _ in range(12)])
    file = tmp_path / "clicks.yaml"
    definition = {
        "name": "clicks",
        "topic": own,
        "target": "events.usage",
        "fields": {"user": "who.id", "feature": "screen", "occurred_at": "ts"},
        "constants": {"tenant": "acme", "product": "studio"},
        "time_unit": "s",
        "id_from": "position",
    }
    file.write_text(json.dumps(definition))
    shown = shell.json("sources", "test", str(file), "--json")
    assert len(shown) == 10 and shown[0]["key"] == "acme|7"
    assert shown[0]["event"]["id"] == f"{own}/0/0" and shown[0]["event"]["occurred_at"] == 1760000000000
    assert shell.json("sources", "list", "--json") == []
    shell.ok("sources", "add", str(file))
    assert [s["name"] for s in shell.json("sources", "list", "--json")] == ["clicks"]

    file.write_text(json.dumps({**definition, "fields": {"user": "nobody", "occurred_at": "ts"}}))
    code, out, err = shell.run("sources", "add", str(file))
    assert code == 4 and "10 of 10 rows are no events" in err and "missing user" in out


@pytest.mark.kafka
def test_apply_publishes_what_changed(shell: Shell, tmp_path: Path) -> None:
    code, _, err = shell.run("apply", str(tmp_path / "none"))
    assert code == 4 and "no file or folder" in err
    assert shell.run("apply")[0] == 0
    rules = shell.json("status", "--json")[0]["definitions"]["rule"]
    assert rules >= 32
    _, _, err = shell.run("apply")
    assert err.startswith("0 of ")


@pytest.mark.kafka
def test_tables_and_traces_before_there_is_anything(shell: Shell) -> None:
    code, _, err = shell.run("table", "adoption", "--json")
    assert code == 3 and "no read model" in err
    code, _, err = shell.run("table", "adoption", "--at", "yesterday")
    assert code == 2 and "'yesterday' is no time" in err


def test_no_kafka_is_one_line_with_the_next_move(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(settings_for(f"127.0.0.1:{free_port()}", "", tmp_path), capsys, monkeypatch)
    code, out, err = shell.run("topics", "create")
    assert (code, out) == (3, "") and err.count("\n") == 1 and "uptake broker status" in err


def test_wrong_use_is_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(settings_for("127.0.0.1:1", "", tmp_path), capsys, monkeypatch)
    assert shell.run("nonsense")[0] == 2
    assert shell.run("worker", "--roles", "king")[0] == 2
    assert shell.run("send", "x.jsonl", "--rate", "fast")[0] in (2, 4)
    monkeypatch.setenv("UPTAKE_PARTITIONS", "none")
    code, _, err = shell.run("status")
    assert code == 2 and "UPTAKE_PARTITIONS" in err


def test_settings_are_shown_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hunter2-very-secret"
    settings = settings_for(
        "127.0.0.1:1",
        "",
        tmp_path,
        kafka_security="SASL_SSL",
        kafka_username="u",
        kafka_password=secret,
        database_url=f"postgresql://u:{secret}@db/x",
    )
    shell = Shell(settings, capsys, monkeypatch)
    assert secret not in shell.ok("settings") + shell.ok("settings", "--json")


@pytest.mark.kafka
def test_reset_keeps_events_and_commands_and_everything_takes_all(shell: Shell) -> None:
    write(shell.settings, "events.usage", [(b"acme|u", b"{}", [])])
    write(shell.settings, "tables.adoption", [(b"k", b"{}", [])])
    write(shell.settings, "commands.sales", [(b"acme|user:u", b'{"id":"1"}', [])])
    assert shell.run("reset")[0] == 2
    shell.ok("reset", "--yes")
    assert count(shell.settings, "events.usage") == 1
    assert count(shell.settings, "commands.sales") == 1
    assert count(shell.settings, "tables.adoption") == 0
    shell.ok("reset", "--everything", "--yes")
    assert count(shell.settings, "events.usage") == 0


def count(settings: Settings, topic: str) -> int:
    async def work() -> int:
        return len([record async for record in read(settings, [topic])])

    return run_anywhere(work())


@pytest.mark.kafka
def test_dead_letters_are_listed_shown_counted_and_sent_again(shell: Shell) -> None:
    def told(offset: int, reason: str = "invalid") -> list[tuple[str, bytes]]:
        said = ("meter", reason, "why", "events.usage", "1", str(offset), "t.meter", "0", f"17600000000{offset:02d}")
        return [*((n, v.encode()) for n, v in zip(DEAD_LETTER_HEADERS, said, strict=True)), ("own", b"x")]

    bad = b'\xff{"id": 1'
    rows = [(b"acme|u", bad, told(1)), (b"other|u", b"{}", told(2)), (None, b"?", told(3, "not_json"))]
    write(shell.settings, "dead-letters", rows)
    listed = shell.json("dlq", "ls", "--json")
    assert [(d["offset"], d["tenant"], d["reason"]) for d in listed] == [
        (1, "acme", "invalid"), (2, "other", "invalid"), (3, None, "not_json"),
    ]  # fmt: skip
    assert [d["offset"] for d in shell.json("dlq", "ls", "--json", "--limit", "1")] == [3]
    assert [
        d["offset"] for d in shell.json("dlq", "ls", "--json", "--since", "1760000000002", "--tenant", "other")
    ] == [2]
    [one] = shell.json("dlq", "show", listed[0]["id"], "--json")
    assert one["headers"] == {"own": "x"} and one["redriven"] is None
    assert shell.run("dlq", "show", "nothing")[0] == 5
    counted = shell.json("dlq", "stats", "--json", "--reason", "invalid")
    assert sorted((c["tenant"], c["letters"], c["topic"]) for c in counted) == [
        ("acme", 1, "events.usage"), ("other", 1, "events.usage"),
    ]  # fmt: skip
    code, _, err = shell.run("dlq", "redrive")
    assert code == 2 and "--all" in err
    [dry] = shell.json("dlq", "redrive", "--tenant", "acme", "--dry-run", "--json")
    assert (dry["matched"], dry["redriven"], dry["dry_run"]) == (1, 1, True)
    assert "1 sent again" in shell.ok("dlq", "redrive", "--tenant", "acme", "--by", "ann")
    assert "redriven_before" in shell.ok("dlq", "redrive", "--tenant", "acme", "--by", "ann")
    [done] = shell.json("dlq", "log", "--json")
    assert (done["by"], done["tenant"], done["offset"], done["replays"]) == ("ann", "acme", 1, 1)
    [again] = shell.json("dlq", "show", listed[0]["id"], "--json")
    assert again["redriven"]["by"] == "ann"

    async def origin() -> list[tuple[int, bytes | None, bytes | None]]:
        return [(r.partition, r.key, r.value) async for r in read(shell.settings, ["events.usage"])]

    assert run_anywhere(origin()) == [(1, b"acme|u", bad)]


@pytest.mark.kafka
def test_forget_and_export(shell: Shell) -> None:
    code, _, said = shell.run("forget", "ann")
    assert code == 2 and "--tenant TENANT" in said
    code, _, said = shell.run("forget", "user:", "--tenant", "acme")
    assert code == 2 and "give user:NAME or contact:NAME" in said
    event = {
        "id": "e1",
        "tenant": "acme",
        "product": "studio",
        "type": "feature.used",
        "feature": "board",
        "user": "ann",
    }
    write(shell.settings, "events.usage", [(b"acme|ann", json.dumps({**event, "occurred_at": 1}).encode(), [])])
    [held] = shell.json("export", "ann", "--tenant", "acme")
    assert held["subject"] == "user:ann" and [r["value"]["id"] for r in held["log"]["events.usage"]] == ["e1"]
    assert held["read_model"]["commands"] == [] and held["profiles"] == []
    [asked] = shell.json("forget", "ann", "--tenant", "acme", "--json")
    assert asked["tenant"] == "acme" and not asked["before"] and asked["expire_days"]["dead-letters"] == 30
    code, out, said = shell.run("forget", "user:ann", "--tenant", "acme")
    assert code == 0 and out == "" and said.startswith(f"was asked for before: acme/{asked['digest']}")
    [record] = shell.json("forget", "--list", "--json")
    assert record["name"] == asked["digest"] and record["by"] == "uptake forget" and "salt" not in record
    assert "ann" not in shell.ok("forget", "--list")

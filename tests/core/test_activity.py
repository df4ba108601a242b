"""Activity: every command, receipt and note of a run is a line, and it says what the record said."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.activity import of_command, of_receipt, of_record
from core.decide.explain import Case
from core.definitions import Catalogue
from core.effects import Emit
from core.project import project
from core.rules.acting import Actor, Occasion
from core.rules.trying import AT
from core.workflows.jobs import Note, Record, Start, Timer
from schemas.activity import Activity
from schemas.definitions import DEFINITION, Rule
from schemas.delivery import Receipt
from tests.helpers.words import NOON, a_batch, a_command, a_receipt


def a_record(seq: int = 1, notes: list[Note] | None = None, **changed: Any) -> Record:
    job = Start(NOON, "c1", "user:ann", "shop", {}, []) if seq == 1 else Timer(NOON + seq)
    told = [Note(NOON, "", "began", {"cause": "c1"})] if notes is None else notes
    values: dict[str, Any] = {
        "run": "r1", "tenant": "acme", "subject": "user:ann", "workflow": "cart", "versions": {"": 1}, "seq": seq, "now": NOON,
        "job": job, "notes": told, "commands": [], "status": "running",
    }  # fmt: skip
    return Record(**{**values, **changed})


def test_a_command_is_a_firing_with_its_reasons() -> None:
    command = a_command(detection="d1")
    line = of_command(command)
    assert (line.what, line.rule, line.at, line.reason, line.command) == (
        "commanded",
        "A1.2",
        NOON,
        "10 of 40 use it.",
        command.id,
    )
    assert line.detail["numbers"] == {"rate": 0.25}
    assert line.detail["detection"] == "d1"


def test_a_receipt_is_what_became_of_it() -> None:
    command = a_command()
    tried = of_receipt(a_receipt(command))
    assert (tried.what, tried.at, tried.detail["connection"], tried.detail["attempt"]) == ("delivered", NOON, "hook", 1)
    held = of_receipt(
        a_receipt(command, status="suppressed", reason="cooldown", judged_at=5, why=command.why, connection=None)
    )
    assert (held.what, held.at, held.reason, held.detail["because"]) == (
        "suppressed",
        5,
        "cooldown",
        "10 of 40 use it.",
    )


@given(
    st.lists(st.sampled_from(["began", "entered", "waits", "ended", "a word of tomorrow"]), min_size=1, max_size=5),
    st.integers(1, 9),
)
def test_each_note_of_a_run_is_a_line_of_its_own(whats: list[str], seq: int) -> None:
    notes = [Note(NOON + i, "", what, {"status": "goal"}) for i, what in enumerate(whats)]
    lines = list(of_record(msgspec.json.encode(a_record(seq, notes))))
    assert [line.at for line in lines] == [n.at for n in notes]
    assert len({line.id for line in lines}) == len(whats)
    for line, what in zip(lines, whats, strict=True):
        assert line.what == (what if what != "a word of tomorrow" else "other")
        assert line.reason == ("goal" if what == "ended" else None)
        assert line.detail.get("what") == (what if line.what == "other" else None)


def test_what_is_no_record_is_set_aside_and_counted() -> None:
    made = project(a_batch("runs", [msgspec.json.encode(a_record()), b"{}", None]))
    assert [row["what"] for row in made.rows["activity"]] == ["began"]
    assert sum(type(e).__name__ == "DeadLetter" for e in made.effects) == 1


@pytest.mark.parametrize(("title", "paused", "what", "reason"), [
    ("{{ nothing }}", False, "failed", "render"), ("t", True, "suppressed", "paused"), ("t", False, "commanded", None),
])  # fmt: skip
def test_every_match_has_a_line(title: str, paused: bool, what: str, reason: str | None) -> None:
    catalogue = Catalogue()
    command = {"type": "sales.task.create", "title": title, "text": "t"}
    rule = DEFINITION.validate_python(
        {"kind": "rule", "name": "r", "id": "R", "trigger": {"kind": "viral"}, "command": command}
    )
    assert isinstance(rule, Rule)
    catalogue.put(rule)
    if paused:
        catalogue.put(DEFINITION.validate_python({"kind": "pause", "name": "rule:r", "scope": "rule", "of": "r"}))
    case = Case(reason="because", numbers={"n": 1.0}, thresholds={}, links={})
    occasion = Occasion("acme", "shop", "user:ann", "c1", AT, True, {}, case, AT + 5)
    emitted = [e for e in Actor(catalogue, "test").meet([rule], occasion) if isinstance(e, Emit)]
    rows = [row for e in emitted for row in project(a_batch(e.topic, [e.value])).rows["activity"]]
    lines = [Activity.model_validate_json(str(row["body"])) for row in rows]
    assert [line.what for line in lines] == [what]
    assert lines[0].at == AT and lines[0].detail["numbers"] == {"n": 1.0}
    if reason is not None:
        assert lines[0].reason == reason
        assert Receipt.model_validate_json(emitted[0].value or b"").judged_at == AT

"""Golden histories: runs of before, through today's code, decide the same. A changed engine breaks a test, not somebody's run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from core.workflows.graph import Library
from core.workflows.replay import replay
from schemas.definitions import DEFINITION, Workflow
from tests.core.workflows.record import FOLDER, Golden, stories

FILES = sorted(FOLDER.glob("*.json"))


def read(file: Path) -> tuple[Library, Golden]:
    golden = msgspec.json.decode(file.read_bytes(), type=Golden)
    library = Library()
    for body in golden.workflows:
        definition = DEFINITION.validate_python(body)
        assert isinstance(definition, Workflow)
        library.put(definition)
    return library, golden


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_replays(file: Path) -> None:
    library, golden = read(file)
    assert golden.runs
    for history in golden.runs:
        assert replay(library, history) == []


def test_every_shipped_journey_has_a_golden_history() -> None:
    assert set(stories()) <= {f.name for f in FILES}


def test_another_decision_is_told() -> None:
    library, golden = read(FILES[0])
    history = golden.runs[0]
    first = history[0]
    other = msgspec.structs.replace(first, notes=first.notes[:-1], commands=["x"], status="goal")
    told = "\n".join(replay(library, [other, *history[1:]]))
    assert "job 1 (start): note" in told and "commands: then ['x']" in told and "status: then goal" in told
    assert replay(library, history[1:]) != []
    with pytest.raises(LookupError):
        replay(Library(), history)

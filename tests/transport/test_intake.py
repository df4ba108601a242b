"""What gets through to a task: its own seek's blocks, in order, without a gap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.effects import Count, DeadLetter, Emit
from transport.blocks import Block, Spoiled
from transport.intake import Gap, Intake
from transport.options import Options

OPTIONS = Options(bootstrap="nowhere:1", role="r", prefix="p.", data_dir=Path())


def block(start: int, following: int, rows: int, seek: int = 2, topic: str = "p.a") -> Block:
    offsets = np.arange(start, start + rows, dtype=np.int64)
    return Block(topic, 0, start, following, seek, 20, [b"x"] * rows, offsets, offsets)


@pytest.fixture
def intake() -> Intake:
    intake = Intake(0, OPTIONS, {"p.a": 5, "p.b": 0})
    intake.sought({"p.a": 2, "p.b": 2})
    return intake


def test_batches_and_positions(intake: Intake) -> None:
    batch = intake.accept(block(5, 9, 3))
    assert batch is not None and (batch.topic, batch.next_offset, batch.lag, len(batch)) == ("a", 9, 11, 3)
    assert intake.holds(batch) and not intake.idle.is_set() and intake.next == {"p.a": 5, "p.b": 0}
    intake.finish(batch, (effect for effect in [Count("c"), Emit("t", b"k", b"v")]))
    assert intake.idle.is_set() and intake.next == {"p.a": 9, "p.b": 0}
    held = intake.take()
    assert (held.rows, held.outputs, len(held.effects)) == (3, True, 2) and not intake.take().effects


def test_blocks_of_an_earlier_seek_are_nobodys(intake: Intake) -> None:
    assert intake.accept(block(5, 9, 3, seek=1)) is None
    assert intake.accept(block(5, 9, 3)) is not None


def test_a_gap_is_told(intake: Intake) -> None:
    with pytest.raises(Gap, match="expected offset 5, got 7"):
        intake.accept(block(7, 9, 2))


def test_no_rows_only_move_the_position(intake: Intake) -> None:
    assert intake.accept(block(5, 8, 0)) is None
    assert intake.next["p.a"] == 8 and intake.idle.is_set()


def test_a_spoiled_stored_batch_is_a_dead_letter_with_its_bytes(intake: Intake) -> None:
    given = block(5, 9, 1)
    given.spoiled.append(Spoiled(6, 9, b"\x00raw", "unknown_codec", "compression codec 6 is unknown", 77))
    batch = intake.accept(given)
    assert batch is not None
    intake.finish(batch, ())
    (letter,) = intake.take().effects
    assert isinstance(letter, DeadLetter)
    assert (letter.topic, letter.offset, letter.reason, letter.value, letter.at) == (
        "a",
        6,
        "unknown_codec",
        b"\x00raw",
        77,
    )
    assert letter.detail.endswith("offsets 6 to 8")

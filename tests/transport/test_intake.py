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


class Keyed:
    def __init__(self, keys: list[bytes]) -> None:
        self._keys = keys

    def key(self, row: int) -> bytes | None:
        return self._keys[row]


@pytest.fixture
def intake() -> Intake:
    intake = Intake(0, OPTIONS, {"p.a": 5, "p.b": 0})
    intake.sought({"p.a": 2, "p.b": 2})
    return intake


def test_batches_and_positions(intake: Intake) -> None:
    assert intake.accept(block(5, 9, 3))
    batch = intake.cut(3)
    assert (batch.topic, batch.next_offset, batch.lag, len(batch)) == ("a", 9, 11, 3)
    assert intake.holds(batch) and not intake.idle.is_set() and intake.next == {"p.a": 5, "p.b": 0}
    intake.finish(batch, (effect for effect in [Count("c"), Emit("t", b"k", b"v")]))
    assert intake.idle.is_set() and intake.next == {"p.a": 9, "p.b": 0}
    held = intake.take()
    assert (held.rows, held.outputs, len(held.effects)) == (3, True, 2) and not intake.take().effects


def test_blocks_of_an_earlier_seek_are_nobodys(intake: Intake) -> None:
    assert not intake.accept(block(5, 9, 3, seek=1))
    assert intake.accept(block(5, 9, 3))


def test_pieces_of_a_block_move_the_position_one_by_one(intake: Intake) -> None:
    whole = block(5, 20, 4)
    whole.offsets = np.array([5, 9, 12, 13])
    whole.headed = {1: [("a", b"1")], 2: [("b", b"2")]}
    whole.keys = Keyed([b"k0", b"k1", b"k2", b"k3"])
    assert intake.accept(whole)
    first = intake.cut(1)
    assert (len(first), first.next_offset, first.lag, first.headed) == (1, 9, 11, {})
    intake.finish(first, ())
    assert intake.next["p.a"] == 9 and intake.row == 1
    intake.set_aside(2, "r", "poison", "why")
    assert intake.next["p.a"] == 12
    last = intake.cut(4)
    assert (last.offsets.tolist(), last.next_offset, last.headed) == ([12, 13], 20, {0: [("b", b"2")]})
    assert [last.rows.key(0), last.rows.key(1)] == [b"k2", b"k3"]
    intake.finish(last, ())
    assert intake.block is None and intake.next["p.a"] == 20
    (letter,) = [e for e in intake.take().effects if isinstance(e, DeadLetter)]
    assert (letter.topic, letter.offset, letter.key, letter.headers) == ("a", 9, b"k1", [("a", b"1")])
    assert (letter.step, letter.reason, letter.detail, letter.value) == ("r", "poison", "why", b"x")


def test_a_gap_is_told(intake: Intake) -> None:
    with pytest.raises(Gap, match="expected offset 5, got 7"):
        intake.accept(block(7, 9, 2))


def test_no_rows_only_move_the_position(intake: Intake) -> None:
    assert not intake.accept(block(5, 8, 0))
    assert intake.next["p.a"] == 8 and intake.idle.is_set()


def test_a_spoiled_stored_batch_is_a_dead_letter_with_its_bytes(intake: Intake) -> None:
    given = block(5, 9, 1)
    given.spoiled.append(Spoiled(6, 9, b"\x00raw", "unknown_codec", "compression codec 6 is unknown", 77))
    assert intake.accept(given)
    intake.finish(intake.cut(1), ())
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

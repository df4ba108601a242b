"""When checkpoints begin, on a clock of the test's own."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from core.effects import Emit
from transport.intake import Held
from transport.options import Options
from transport.pace import AIR, FEW_ROWS, LONGEST_GAP_BEHIND_S, LONGEST_GAP_S, NEVER, Pace

OPTIONS = Options(
    bootstrap="nowhere:1",
    role="tester",
    data_dir=Path(),
    batch_rows=20_000,
    checkpoint_gap_ms=10,
    checkpoint_interval_ms=250,
    checkpoint_rows=50_000,
)


def _held(rows: int = 0, *, output: bool = False) -> Held:
    held = Held()
    held.rows = rows
    if output:
        held.add([Emit("out", b"key", b"value")])
    return held


def _paced(*took: float) -> tuple[Pace, float]:
    """After checkpoints that took so long, and when the last one ended."""
    now, pace = 100.0, Pace(OPTIONS, 100.0)
    for seconds in took:
        pace.begun(now)
        now += seconds
        pace.done(now)
    return pace, now


def test_an_output_waits_for_the_gap_only() -> None:
    pace, now = _paced(0.02, 0.02)
    assert pace.next_at(_held(1, output=True), moved=True) == now + 0.01
    pace, now = _paced(0.2, 0.2)
    assert pace.next_at(_held(1, output=True), moved=True) == now + 0.2 * AIR


def test_rows_without_an_output_wait_for_the_interval() -> None:
    pace, now = _paced(0.02)
    assert pace.next_at(_held(FEW_ROWS), moved=True) == now - 0.02 + 0.25


def test_what_came_from_outside_waits_for_the_interval() -> None:
    pace, now = _paced(0.02)
    held = _held()
    held.touched = True
    assert pace.next_at(held, moved=False) == now - 0.02 + 0.25


def test_few_rows_ticks_and_a_position_wait_for_a_second_and_nothing_for_ever() -> None:
    pace, now = _paced(0.02)
    ticked = _held()
    ticked.ticked = True
    for held, moved in ((_held(1), True), (_held(FEW_ROWS - 1), True), (ticked, False), (_held(), True)):
        assert pace.next_at(held, moved=moved) == now - 0.02 + 1.0
    assert pace.next_at(_held(), moved=False) == NEVER


def test_a_backlog_has_the_longer_gap() -> None:
    pace, now = _paced(0.5, 0.5)
    assert pace.next_at(_held(1, output=True), moved=True) == now + LONGEST_GAP_S
    assert pace.next_at(_held(10_000, output=True), moved=True) == now + LONGEST_GAP_BEHIND_S


def test_one_that_is_held_up_hardly_lengthens_the_gap() -> None:
    pace, now = _paced(*[0.01] * 20, 0.5)
    assert pace.next_at(_held(1, output=True), moved=True) <= now + 0.0111
    pace, now = _paced(*[0.01] * 20, *[0.5] * 60)
    assert pace.next_at(_held(1, output=True), moved=True) == now + LONGEST_GAP_S


@given(st.lists(st.floats(0.0, 5.0), max_size=50), st.integers(0, 200_000), st.booleans(), st.booleans())
def test_a_gap_is_never_shorter_than_the_option_nor_longer_than_the_longest(
    took: list[float], rows: int, output: bool, moved: bool
) -> None:
    pace, now = _paced(*took)
    at = pace.next_at(_held(rows, output=output), moved)
    assert at >= now + 0.01
    if output:
        assert at <= now + LONGEST_GAP_BEHIND_S

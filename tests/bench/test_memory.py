"""Memory in hand: what is let go is what others take, and nothing is taken from who is measured."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.memory import CHUNK, LEFT, SLACK, step


@given(st.integers(0, 40 * 2**30), st.booleans())
def test_what_is_free_comes_to_what_is_to_stay(total: int, taking: bool) -> None:
    """`total`: free and held together. Nobody else takes or frees."""
    held = 0
    while more := step(total - held * CHUNK, held, taking):
        held += more
    free = total - held * CHUNK
    assert held == 0 if total <= LEFT + SLACK or not taking else LEFT <= free <= LEFT + SLACK


@given(st.integers(0, 400), st.lists(st.integers(0, 3 * 2**30), max_size=20))
def test_whoever_is_measured_finds_memory_as_long_as_some_is_held(held: int, takes: list[int]) -> None:
    free = LEFT
    for taken in takes:
        free -= taken
        while more := step(free, held, False):
            assert more < 0
            held, free = held + more, free - more * CHUNK
        assert held >= 0 and (free >= LEFT or held == 0)
        assert free < LEFT + CHUNK or taken == 0

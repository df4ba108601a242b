"""The breaker: opens on what fails, probes with one, and never lets more through than it says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.delivery.breaker import LEAST, LONGEST_MS, OPEN_MS, RECENT, Breaker, Verdict


def opened(now: int = 1_000) -> Breaker:
    breaker = Breaker()
    for n in range(LEAST):
        breaker.ended(f"d{n}", "failed", now)
    return breaker


def test_a_few_failures_open_nothing_and_half_of_enough_do() -> None:
    breaker = Breaker()
    for n in range(LEAST - 1):
        breaker.ended(f"d{n}", "failed", 0)
    assert breaker.state == "closed" and breaker.room(0) is None and breaker.next_at() == 0
    breaker.ended("last", "failed", 7)
    assert (breaker.state, breaker.until, breaker.room(7), breaker.next_at()) == ("open", 7 + OPEN_MS, 0, 7 + OPEN_MS)


def test_a_destination_that_mostly_works_stays_closed() -> None:
    breaker = Breaker()
    for n in range(200):
        breaker.ended(f"d{n}", "failed" if n % 3 == 2 else "well", n)
    assert breaker.state == "closed"


def test_old_failures_are_forgotten() -> None:
    breaker = Breaker()
    for n in range(LEAST // 2 - 1):
        breaker.ended(f"a{n}", "failed", n)
    for n in range(RECENT):
        breaker.ended(f"b{n}", "well", n)
    for n in range(RECENT // 2 - 1):
        breaker.ended(f"c{n}", "failed", n)
    assert breaker.state == "closed"


def test_one_probe_decides() -> None:
    breaker = opened()
    at = breaker.until
    assert breaker.room(at - 1) == 0 and breaker.room(at) == 1
    breaker.started("probe")
    assert (breaker.state, breaker.room(at), breaker.next_at()) == ("half_open", 0, None)
    breaker.ended("older", "well", at)  # began before the breaker opened
    assert breaker.state == "half_open"
    breaker.ended("probe", "failed", at)
    assert (breaker.state, breaker.until) == ("open", at + 2 * OPEN_MS)
    breaker.started("probe")
    breaker.ended("probe", "neither", at)
    assert (breaker.state, breaker.until) == ("open", at + 4 * OPEN_MS)
    breaker.started("probe")
    breaker.ended("probe", "well", at)
    assert breaker.state == "closed" and breaker.room(at) is None
    for n in range(LEAST):
        breaker.ended(f"d{n}", "failed", at)
    assert breaker.until == at + OPEN_MS  # it was well in between


@given(
    st.lists(st.tuples(st.sampled_from(["begin", "well", "failed", "neither"]), st.integers(0, 20_000)), max_size=200)
)
def test_whatever_happens_there_is_at_most_one_probe_and_it_always_gets_out_again(moves: list[tuple[str, int]]) -> None:
    breaker, now, flying, serial = Breaker(), 0, dict[str, bool](), 0
    for move, passed in moves:
        now += passed
        if move == "begin":
            room = breaker.room(now)
            if room is None or room > 0:
                serial += 1
                flying[f"d{serial}"] = breaker.state != "closed"
                breaker.started(f"d{serial}")
        elif flying:
            id_ = next(iter(flying))
            del flying[id_]
            verdict: Verdict = "well" if move == "well" else "failed" if move == "failed" else "neither"
            breaker.ended(id_, verdict, now)
        assert sum(flying.values()) <= 1
        assert (breaker.state == "half_open") == any(flying.values())
        assert breaker.until <= now + LONGEST_MS
    for id_ in list(flying):
        breaker.ended(id_, "failed", now)
    now += LONGEST_MS
    if breaker.room(now) is not None:
        assert breaker.room(now) == 1
        breaker.started("last")
        breaker.ended("last", "well", now)
    assert breaker.room(now) is None

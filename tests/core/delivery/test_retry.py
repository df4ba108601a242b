"""What follows a failed attempt: the laws of waiting and of budgets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.delivery.retry import BASE_MS, LONGEST_MS, Again, Limits, Over, after, delay_ms
from schemas.delivery import Retry

ids = st.uuids().map(str)
attempts = st.integers(1, 1_000)
asked = st.none() | st.floats(min_value=0, max_value=1e6)
times = st.integers(0, 4_000_000_000_000)


@given(ids, attempts, asked)
def test_waits_at_least_what_was_asked_and_at_most_the_ceiling_more(id_: str, attempt: int, s: float | None) -> None:
    least = int(1_000 * s) if s is not None else 0
    ceiling = min(LONGEST_MS, BASE_MS * 2 ** min(attempt - 1, 20))
    assert least <= delay_ms(id_, attempt, s) <= least + ceiling


@given(ids, attempts, asked)
def test_a_replay_waits_as_long(id_: str, attempt: int, s: float | None) -> None:
    assert delay_ms(id_, attempt, s) == delay_ms(id_, attempt, s)


def test_jitter_is_full_spread_over_the_whole_ceiling() -> None:
    delays = [delay_ms(f"delivery-{n}", 4) for n in range(2_000)]
    assert min(delays) < 100
    assert max(delays) > 7_900
    assert 3_800 < sum(delays) / len(delays) < 4_200


@given(ids, attempts, asked, times, times, times, st.integers(1, 20))
def test_a_retry_that_is_granted_fits_every_budget(
    id_: str, attempt: int, s: float | None, now: int, until: int, expires_at: int, most: int
) -> None:
    verdict = after(Retry(reason="x", after_s=s), id_, attempt, Limits(most, until, expires_at), now)
    at = now + delay_ms(id_, attempt, s)
    if isinstance(verdict, Again):
        assert verdict.at == at >= now
        assert attempt < most
        assert at <= until
        assert at < expires_at
    else:
        assert {
            "attempts_exhausted": attempt >= most,
            "would_expire": at >= expires_at,
            "too_old": at > until,
        }[verdict.budget]


@given(ids, st.integers(1, 10), times)
def test_it_ends_after_exactly_the_attempts_allowed(id_: str, most: int, now: int) -> None:
    made = 0
    while True:
        made += 1
        verdict = after(Retry(reason="x"), id_, made, Limits(most, 2**62, 2**62), now)
        if isinstance(verdict, Over):
            break
        now = verdict.at
    assert made == most
    assert verdict.budget == "attempts_exhausted"


def test_an_endless_retry_after_is_over_now() -> None:
    verdict = after(Retry(reason="x", after_s=float("inf")), "d", 1, Limits(8, 11 * 10**11, 11 * 10**11), 10**12)
    assert verdict == Over("would_expire")

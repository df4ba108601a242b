"""Figures of tiny logs, each number counted by hand."""

from __future__ import annotations

from app.oracle.figures import NO_USE, Figures, Requests, Use
from tests.app.oracle.logs import MIN, T0, folded, marker, request, use

P = ("t", "p")
H = 60 * MIN


def test_an_id_is_known_for_ten_to_twenty_minutes() -> None:
    log = [use(1, T0 + 9 * MIN), use(2, T0 + 10 * MIN), use(1, T0 + 10 * MIN)]
    assert folded(log).outcomes == {"accepted": 2, "duplicate": 1}
    log = [use(1, T0 + 9 * MIN), use(2, T0 + 10 * MIN), use(3, T0 + 20 * MIN), use(1, T0 + 20 * MIN)]
    assert folded(log).outcomes == {"accepted": 4}


def test_a_jump_forgets_both_generations() -> None:
    assert folded([use(1, T0), use(1, T0 + 20 * MIN)]).outcomes == {"accepted": 2}


def test_watermarks_follow_rows_and_markers() -> None:
    log = folded([use(1, T0), use(2, T0 - 1000), marker(T0 + MIN), use(3, T0 + 2000)])
    assert log.watermark.tolist() == [T0 - 2000, T0 - 2000, T0 + MIN - 2000]
    assert log.clock == T0 + MIN - 2000


def test_windows_are_half_open_and_count_users_once() -> None:
    log = [use(1, T0, "a"), use(2, T0 + 1, "a"), use(3, T0 + H - 1, "b"), use(4, T0 + H, "c")]
    figures = Figures([folded([*log, use(5, T0 + H, "d", None)])])
    assert figures.usage("1h", T0 + H, newest=True)[P] == {"f": Use(2, 3, 2), "*": Use(2, 3, 2)}
    assert figures.usage("1h", T0 + H + MIN, newest=True)[P] == {"f": Use(2, 2, 2), "*": Use(3, 3, 3)}
    assert figures.usage("1h", T0, newest=True)[P].get("f", NO_USE) == NO_USE


def test_a_late_row_is_in_later_versions_only_and_beyond_grace_in_none() -> None:
    late = T0 + 50 * MIN
    within = Figures([folded([use(1, late, "a"), marker(T0 + H + 2000 + 5 * MIN), use(2, late, "b")])])
    assert within.usage("1h", T0 + H, newest=False)[P]["f"] == Use(1, 1, 1)
    assert within.usage("1h", T0 + H, newest=True)[P]["f"] == Use(2, 2, 2)
    beyond = Figures([folded([use(1, late, "a"), marker(T0 + H + 2000 + 10 * MIN), use(2, late, "b")])])
    assert beyond.usage("1h", T0 + H, newest=True)[P]["f"] == Use(1, 1, 1)
    assert beyond.usage("1h", T0 + H + 11 * MIN, newest=False)[P]["f"] == Use(2, 2, 2)


def test_a_late_first_use_changes_who_is_organic() -> None:
    log = [use(1, T0 + 58 * MIN, "a"), marker(T0 + H + 2000), use(2, T0 - 9 * H, "a", attribution="campaign:x")]
    figures = Figures([folded(log)])
    assert figures.usage("1h", T0 + H, newest=False)[P]["f"] == Use(1, 1, 1)
    assert figures.usage("1h", T0 + H, newest=True)[P]["f"] == Use(1, 1, 0)


def test_of_two_first_uses_at_one_moment_one_without_campaign_is_not_enough() -> None:
    figures = Figures([folded([use(1, T0, attribution="organic"), use(2, T0, attribution="command:c")])])
    assert figures.usage("5m", T0 + MIN, newest=True)[P]["f"] == Use(1, 2, 0)


def test_users_add_up_over_partitions() -> None:
    parts = [folded([use(n, T0 + n, f"u{n}")], partition=n) for n in range(3)]
    assert Figures(parts).usage("1d", T0 + 24 * H, newest=True)[P]["f"] == Use(3, 3, 3)


def test_requests() -> None:
    log = [request(1, T0, 300), request(2, T0, 300.001), request(3, T0, 1200, error=True), request(4, T0, 1200.1)]
    figures = Figures([folded(log, performance=True)])
    total = 300_000 + 300_001 + 1_200_000 + 1_200_100
    assert figures.requests("5m", T0 + MIN)[P] == dict.fromkeys(("*", "service:s"), Requests(4, 1, 1, 2, total))


def test_the_first_end_with_a_use() -> None:
    figures = Figures([folded([use(1, T0), use(2, T0 + 10_000, "b", "g")])])
    assert figures.appeared == {(P, "f"): T0 + 10_000, (P, "g"): T0 + 20_000}
    assert figures.began == {P: T0 + 10_000}


def test_an_expired_use_still_is_the_first_one() -> None:
    log = [marker(T0), use(1, T0 - 40 * 24 * H, "a", attribution="campaign:x"), use(2, T0 + MIN, "a")]
    figures = Figures([folded(log)])
    assert figures.usage("28d", T0 + 24 * H, newest=True)[P]["f"] == Use(1, 1, 0)
    assert figures.appeared == {(P, "f"): T0 + MIN + 10_000}


def test_a_product_new_to_a_replay_begins_at_its_earliest_row_whatever_the_clock() -> None:
    begun = marker(T0, "begun", products=[["t", "p"], ["t", "known"]])
    log = [
        use(0, T0, product="known"),
        marker(T0 + 100 * H),
        begun,
        use(1, T0, "a"),
        use(2, T0, "a", product="known"),
        use(3, T0, "a", product="unnamed"),
        marker(T0 + MIN),
        use(4, T0 + MIN, "b"),
        use(5, T0 + 30_000, "c"),
    ]
    clock = T0 + 100 * H - 2000
    first = [T0 - 2000, T0 - 2000, clock, clock, T0 + MIN - 2000, T0 + MIN - 2000]
    during = folded(log)
    assert during.watermark.tolist() == first
    assert (during.clock, during.held) == (clock, {P: T0 + MIN - 2000})
    figures = Figures([during])
    assert (figures.clock_of(P), figures.clock_of(("t", "known"))) == (T0 + MIN - 2000, clock)
    assert figures.usage("1h", T0 + H, newest=False)[P]["f"] == Use(3, 3, 3)
    assert figures.usage("5m", T0 + 40_000, newest=False)[P]["f"] == Use(1, 1, 1)
    after = folded([*log, marker(T0 + MIN, "ended"), use(6, T0 + MIN, "d")])
    assert after.watermark.tolist() == [*first, clock]
    assert after.held == {}

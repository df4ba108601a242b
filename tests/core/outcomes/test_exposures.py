"""Exposures beside a plain count of what happened, in any order of reading and with the state taken back in between."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from core.decide.packing import decode, encode, key, read_key
from core.outcomes.arms import Exposed
from core.outcomes.exposures import HOUR_MS, Exposures
from schemas.definitions import CommandTemplate, Rule
from schemas.parts import Arms

BEGIN = 1_767_225_600_000
WITHIN = 5_400_000
RULE = Rule.model_validate(
    {
        "name": "r",
        "id": "r",
        "trigger": {"kind": "event", "topic": "events.usage"},
        "holdout": 0.5,
        "command": CommandTemplate(type="marketing.email.send", title="t", text="t"),
        "outcome": {"metric": {"kind": "conversion", "where": "has(x)"}, "within_s": WITHIN // 1000},
    }
)


OTHER = RULE.model_copy(update={"version": 2, "holdout": 0.25})
"""Another experiment of the same rule."""


def exposed(user: str, at: int, rule: Rule = RULE) -> Exposed:
    return Exposed(rule, "acme", "shop", user, at, user in "uv", 0.25)


def again(task: Exposures, most: int = 500_000) -> Exposures:
    """The same, back from its rows (all that were ever drained)."""
    fresh = Exposures(task.partition, most)
    for raw, value in ROWS.items():
        row, *rest = read_key(raw)
        fresh.load(row, rest, decode(value))
    fresh.loaded()
    return fresh


ROWS: dict[bytes, bytes] = {}


def keep(task: Exposures) -> None:
    for row, value in task.drain():
        if value is None:
            ROWS.pop(row, None)
        else:
            ROWS[row] = value


Happening = tuple[int, str, str]
happenings = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from("uvwx"), st.sampled_from(["meet", "convert"])),
    max_size=30,
    unique=True,
)


def plain(rows: list[Happening]) -> dict[int, tuple[list[float], list[float]]]:
    """End → what is counted there, by the words of the docs alone."""
    found: defaultdict[int, tuple[list[float], list[float]]] = defaultdict(lambda: ([0.0] * 4, [0.0] * 4))
    for user in "uvwx":
        met = sorted(t for t, who, what in rows if who == user and what == "meet")
        if not met:
            continue
        at = BEGIN + met[0] * 1_200_000
        times = [BEGIN + t * 1_200_000 for t, who, what in rows if who == user and what == "convert"]
        hits = [t for t in times if at < t <= at + WITHIN]
        sums = found[((at + WITHIN) // HOUR_MS + 1) * HOUR_MS][user in "uv"]
        value = 10.0 * len(hits)
        for i, more in enumerate((1.0, float(bool(hits)), value, value**2)):
            sums[i] += more
    return dict(found)


@settings(deadline=None)
@given(happenings, st.randoms(use_true_random=False), st.lists(st.integers(0, 40), max_size=6), st.booleans())
def test_equals_a_plain_count(rows: list[Happening], random: object, clocks: list[int], restart: bool) -> None:
    ROWS.clear()
    task, parts = Exposures(3), []
    told = sorted({c * 1_200_000 for c in clocks} | {60 * 1_200_000})
    left = sorted(rows)
    for clock in told:
        now = [r for r in left if r[0] * 1_200_000 < clock]
        left = [r for r in left if r not in now]
        random.shuffle(now)  # type: ignore[attr-defined]
        meets = sorted(r for r in now if r[2] == "meet")
        # within a subject a rule fires in order of event time; everything else comes as it likes
        now = [r if r[2] == "convert" else meets.pop(0) for r in now]
        for t, user, what in now:
            at = BEGIN + t * 1_200_000
            if what == "meet":
                assert task.begin(exposed(user, at)) is None
            else:
                assert task.did("acme", "shop", user, f"c{t}", at, {"r": 10.0}) is None
        part = task.tell("acme", "shop", BEGIN + clock)
        if part is not None:
            parts.append(part)
        if restart:
            keep(task)
            task = again(task)
    counted = {c.end: (c.treated, c.held) for part in parts for c in part.counted}
    assert counted == plain(rows)
    assert [p.upto for p in parts] == sorted({p.upto for p in parts})
    assert all(c.end <= p.upto for p in parts for c in p.counted)


def test_late_exposures_are_let_go_and_a_subject_counts_once() -> None:
    task = Exposures(0)
    assert task.begin(exposed("w", BEGIN)) is None and task.begin(exposed("w", BEGIN + 5)) is None
    assert isinstance(task.tell("acme", "shop", BEGIN + 4 * HOUR_MS), Arms)
    assert task.begin(exposed("x", BEGIN + 1)) == "late"
    assert task.begin(exposed("w", BEGIN + 5 * HOUR_MS)) is None
    part = task.tell("acme", "shop", BEGIN + 20 * HOUR_MS)
    assert part is not None and part.counted == []


def test_a_late_conversion_counts_until_its_hour_is_counted() -> None:
    task = Exposures(0)
    task.begin(exposed("w", BEGIN))
    task.tell("acme", "shop", BEGIN + 30_000)
    task.did("acme", "shop", "w", "c", BEGIN + 10_000, {"r": 2.5})
    part = task.tell("acme", "shop", BEGIN + 2 * HOUR_MS)
    assert part is not None and [c.treated for c in part.counted] == [[1.0, 1.0, 2.5, 6.25]]


def test_predictions_about_the_held_are_compared_with_what_they_did() -> None:
    task = Exposures(0)
    for user in "uvwx":
        task.begin(exposed(user, BEGIN))
    task.did("acme", "shop", "u", "c", BEGIN + 10_000, {"r": 0.0})
    part = task.tell("acme", "shop", BEGIN + 2 * HOUR_MS)
    assert part is not None and part.counted[0].forecast == [2.0, 0.5, 1.0, 0.75**2 + 0.25**2]


def test_who_is_forgotten_is_in_no_comparison() -> None:
    task = Exposures(0)
    task.begin(exposed("w", BEGIN))
    task.did("acme", "shop", "w", "c", BEGIN + 10_000, {"r": 0.0})
    assert task.forget(lambda tenant, subject: subject == "w") == 2
    part = task.tell("acme", "shop", BEGIN + 9 * HOUR_MS)
    assert part is not None and part.counted == []


def subjects(part: Arms | None) -> float:
    assert part is not None
    return sum(c.treated[0] + c.held[0] for c in part.counted)


def test_the_bound_is_on_exposures_whose_time_is_not_over() -> None:
    ROWS.clear()
    task, counted = Exposures(0, most=10), 0.0
    for day in range(5):
        at = BEGIN + day * 24 * HOUR_MS
        refused = [task.begin(exposed(f"w{day}-{n}", at)) for n in range(12)]
        assert refused == [None] * 10 + ["full"] * 2
        counted += subjects(task.tell("acme", "shop", at + 4 * HOUR_MS))
        keep(task)
        task = again(task, most=10)
    assert counted == 50
    assert {read_key(raw)[0] for raw in ROWS} == {"counted", "met"}, "what is counted has left"
    late = BEGIN + 200 * HOUR_MS
    assert [task.begin(exposed(f"w{day}-{n}", late)) for day in range(5) for n in range(10)] == [None] * 50
    assert subjects(task.tell("acme", "shop", late + 9 * HOUR_MS)) == 0, "nobody counts twice"


def test_a_changed_experiment_begins_with_everybody_anew_and_forgets_who_was_in_the_one_before() -> None:
    ROWS.clear()
    task = Exposures(0)
    for n, rule in enumerate((RULE, OTHER, RULE)):
        at = BEGIN + n * 24 * HOUR_MS
        version = rule.model_copy(update={"version": n + 1})
        for user in ("w", "x"):
            assert task.begin(exposed(user, at, version)) is None
        keep(task)
        task = again(task)
        assert subjects(task.tell("acme", "shop", at + 9 * HOUR_MS)) == 2
        task.begin(exposed("w", at + 10 * HOUR_MS, version))
        assert subjects(task.tell("acme", "shop", at + 20 * HOUR_MS)) == 0
    keep(task)
    assert [read_key(raw)[1:] for raw in ROWS if read_key(raw)[0] == "met"] == [["acme", "shop", "r", 0]]


def test_the_end_of_an_experiment_that_is_over_says_nothing_of_the_present_one() -> None:
    task = Exposures(0)
    task.begin(exposed("w", BEGIN))
    task.begin(exposed("x", BEGIN + 10, OTHER))
    assert subjects(task.tell("acme", "shop", BEGIN + 9 * HOUR_MS)) == 2
    at = BEGIN + 10 * HOUR_MS
    assert task.begin(exposed("w", at, OTHER)) is None and task.begin(exposed("x", at, OTHER)) is None
    assert subjects(task.tell("acme", "shop", at + 9 * HOUR_MS)) == 1, "w was in the first one only"


def test_who_may_be_remembered_is_bounded_and_a_small_tenant_still_gets_in() -> None:
    task = Exposures(0, most_met=20)
    for n in range(20):
        task.begin(exposed(f"w{n}", BEGIN))
    task.tell("acme", "shop", BEGIN + 9 * HOUR_MS)
    late = exposed("y", BEGIN + 10 * HOUR_MS)
    assert task.begin(late) == "full"
    assert task.begin(Exposed(RULE, "small", "shop", "y", late.at, False)) is None


def test_a_row_of_before_that_was_counted_still_counts_nobody_twice_and_goes() -> None:
    ROWS.clear()
    task = Exposures(0)
    task.begin(exposed("w", BEGIN))
    task.begin(exposed("x", BEGIN + 5 * HOUR_MS))
    rows = dict(task.drain())
    places = {user: key("exposed", "acme", "shop", "r", user) for user in "wx"}
    for user, place in places.items():
        ROWS[place] = encode([*decode(rows[place] or b""), user == "w"])
    ROWS[key("counted", "acme", "shop")] = encode([BEGIN + 4 * HOUR_MS, BEGIN + 4 * HOUR_MS])
    task = again(task)
    keep(task)
    assert places["w"] not in ROWS and places["x"] in ROWS
    task = again(task)
    assert task.begin(exposed("w", BEGIN + 6 * HOUR_MS)) is None
    assert subjects(task.tell("acme", "shop", BEGIN + 20 * HOUR_MS)) == 1, "x, whose time went on"

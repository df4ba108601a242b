"""Exposures beside a plain count of what happened, in any order of reading and with the state taken back in between."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from core.decide.packing import decode, read_key
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


def exposed(user: str, at: int) -> Exposed:
    return Exposed(RULE, "acme", "shop", user, at, user in "uv", 0.25)


def again(task: Exposures) -> Exposures:
    """The same, back from its rows (all that were ever drained)."""
    fresh = Exposures(task.partition)
    for raw, value in ROWS.items():
        row, *rest = read_key(raw)
        fresh.load(row, rest, decode(value))
    fresh.loaded()
    return fresh


ROWS: dict[bytes, bytes] = {}


def keep(task: Exposures) -> None:
    for key, value in task.drain():
        if value is None:
            ROWS.pop(key, None)
        else:
            ROWS[key] = value


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

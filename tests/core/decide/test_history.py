"""What waits for the slowest source: nothing of it is lost, whatever the order in which it is judged, and it takes few bytes."""

from __future__ import annotations

import tracemalloc
from collections import defaultdict
from tempfile import TemporaryFile

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.backtest.metering import Rows
from core.batch import Batch
from core.decide.attic import Attic
from core.decide.figures import Figures
from core.decide.history import TICK, Entries, History
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Observe
from schemas.registers import HOT, Clock, Patch, Registers, encode
from transport.segments import Segments

WIDTH = 3
DAYS_OF_ENDS = 3 * 8_640


def random_parts(seed: int, parts: int, ordered: bool) -> list[Entries]:
    """Parts of all sizes; numbers of every width."""
    rng, made, at = np.random.default_rng(seed), [], 0
    for _ in range(parts):
        n = int(rng.choice([0, 1, 3, 40, 3_000], p=[0.1, 0.3, 0.3, 0.28, 0.02]))
        steps = np.sort(rng.integers(0, 50, n)) + at
        if not ordered:
            rng.shuffle(steps)
        at = int(steps.max()) if n and ordered else at
        bits = int(rng.choice([6, 14, 30, 50]))
        deltas = rng.integers(-(1 << bits), 1 << bits, (n, WIDTH))
        made.append(Entries(steps * TICK, rng.integers(0, 1 << rng.choice([5, 20]), n), deltas))
    return made


def an_attic(filed: bool) -> Attic:
    """One that keeps all in memory, or all in many small files."""
    return Attic(0, Segments(TemporaryFile, segment=10_000)) if filed else Attic()


def rows_of(parts: list[Entries]) -> list[tuple[int, ...]]:
    return sorted(
        (int(e), int(c), *d) for p in parts for e, c, d in zip(p.ends, p.cells, p.deltas.tolist(), strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(0, 150), st.booleans(), st.integers(-1, 400), st.integers(-1, 400), st.booleans()
)
def test_what_was_taken_in_is_given_back(
    seed: int, parts: int, ordered: bool, after: int, until: int, filed: bool
) -> None:
    history, taken = History(WIDTH, an_attic(filed)), random_parts(seed, parts, ordered)
    for part in taken:
        history.add(part)
    wanted = [p.where((p.ends > after * TICK) & (p.ends <= until * TICK)) for p in taken]
    assert rows_of(list(history.between(after * TICK, until * TICK))) == rows_of(wanted)
    assert rows_of(list(history.between(-1))) == rows_of(taken)
    assert len(history) == sum(map(len, taken))

    history.forget(until * TICK)
    kept = [p.where(p.ends > until * TICK) for p in taken]
    assert rows_of(list(history.between(until * TICK))) == rows_of(kept)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from([3, 200, 4_000]), st.booleans())
def test_a_source_may_be_days_ahead(seed: int, sources: int, lead: int, filed: bool) -> None:
    """Each source is up to `lead` ends ahead of what is judged; the sums are those of the plain rule, restarts or none."""
    rng = np.random.default_rng(seed)
    attic = an_attic(filed)
    figures = Figures(sources, 1, attic)
    stands: dict[tuple[int, int], int] = defaultdict(int)
    queued: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    told = [0] * sources
    judged, totals = 0, np.zeros(16, np.int64)
    for _ in range(40):
        source = int(rng.integers(sources))
        begin = max(told[source], judged + 1)
        told[source] = int(rng.integers(begin, max(begin, judged + lead) + 1))
        ends = np.sort(rng.integers(begin, told[source] + 1, int(rng.integers(1, 30))))
        cells, values = rng.integers(0, 5, len(ends)), rng.integers(0, 9, len(ends))
        figures.take(source, ends * TICK, cells, values[:, None])
        for end, cell, value in zip(ends.tolist(), cells.tolist(), values.tolist(), strict=True):
            queued[end][cell] += value - stands[source, cell]
            stands[source, cell] = value
        assert figures.waiting() == {end * TICK for end in queued}
        if rng.random() < 0.2:
            figures = restarted(figures, judged, attic)
        upto = judged + int(rng.integers(0, max(2, lead // 4)))
        for end in sorted(e for e in queued if e <= upto):
            changed = queued.pop(end)
            for cell, delta in changed.items():
                totals[cell] += delta
            assert figures.waits(end * TICK)
            assert figures.apply(end * TICK).tolist() == sorted(c for c, d in changed.items() if d)
            assert figures.totals[:16, 0].tolist() == totals.tolist()
            judged = end


def restarted(figures: Figures, judged: int, attic: Attic) -> Figures:
    """From what a checkpoint keeps: where sources stand, and the differences that are not judged."""
    again = Figures(figures.sources, figures.width, attic)
    again.current = figures.current.copy()
    for source, log in enumerate(figures.log):
        for part in log.between(judged * TICK):
            again.restore(source, part.ordered())
    again.restored(judged * TICK)
    return again


def test_memory_for_what_waits_has_a_bound() -> None:
    """A month of a source that is ahead: what is beyond the bound is in files, and all of it comes back when it is judged."""
    rng, attic = np.random.default_rng(2), Attic(200_000, Segments(TemporaryFile, segment=500_000))
    figures = Figures(1, WIDTH, attic)
    figures.grow(42)
    ends = np.arange(1, 30 * 8_640 + 1, dtype=np.int64) * TICK
    values = rng.integers(0, 300, (len(ends), WIDTH))
    for part in np.array_split(np.arange(len(ends)), 400):
        figures.take(0, ends[part], np.zeros(len(part), np.int64), values[part])
        figures.fresh.clear()
        assert attic.held < 200_000
    assert attic.stored > 1_000_000
    for number in range(0, len(ends), 97):
        for end in ends[max(0, number - 96) : number + 1].tolist():
            figures.apply(end)
        assert figures.totals[0].tolist() == values[number].tolist()
        figures.forget(int(ends[number]) - 1_000 * TICK)
    assert attic.held + attic.stored < 1_500_000, "what is over is in nobody's way"


def test_three_days_ahead_take_a_dozen_bytes_a_difference() -> None:
    """Nothing else grows with the lead of a source: no object for an end, no row for a cell that has no news."""
    rng, figures, told = np.random.default_rng(1), Figures(2, WIDTH), 0
    figures.grow(42)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for hour in range(72):
            ends = np.repeat(np.arange(hour * 360 + 1, (hour + 1) * 360 + 1), 4) * TICK
            cells = rng.integers(0, 42, len(ends))
            figures.take(0, ends, cells, rng.integers(0, 300, (len(ends), WIDTH)))
            figures.fix(0, ends[-40::4], cells[-40::4], rng.integers(0, 300, (10, WIDTH)))
            figures.fresh.clear()
            told += len(ends)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert told == DAYS_OF_ENDS * 4
    assert len(figures.waiting()) == DAYS_OF_ENDS
    assert sum(log.nbytes for log in figures.log) / told < 14
    assert held / told < 24, f"{held / told:.1f} bytes a difference"


def test_how_far_sources_are_apart_is_told() -> None:
    task, hour, begin = RegistersTask(0, 2, Catalogue(), sources=HOT), 3_600_000, 1_767_225_600_000
    one = Registers(
        source=HOT[0], partition=0, tenant="acme", product="shop", names=["*"], columns=["users"],
        patches=[Patch("5m", begin + i * 10_000, 0, b"\0" * 8, [b"\1" + b"\0" * 7]) for i in range(360)],
        clock=begin + hour, act=True,
    )  # fmt: skip

    def told() -> float:
        return next(
            e.value
            for e in task.tick(0, [])
            if isinstance(e, Observe) and e.metric == "uptake_judging_behind_seconds" and e.labels == ("0",)
        )

    assert told() == 0
    list(task.step(batch_of([encode(one)])))
    assert told() == 3_600
    others = [(source, partition) for source in HOT for partition in range(2)][1:]
    for at, behind in ((begin + hour // 2, 1_800), (begin + hour, 0)):
        clocks = [Clock(source=s, partition=p, at=at, replaying=False) for s, p in others]
        list(task.step(batch_of([encode(clock) for clock in clocks])))
        assert told() == behind


def batch_of(values: list[bytes]) -> Batch:
    n = len(values)
    rows = Rows("meter.registers", 0, np.arange(n), np.zeros(n, np.int64), [None] * n, [*values], {})
    return rows.cut(0, n)

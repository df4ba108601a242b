"""Recovered state is live state: after any drain, with deltas alone, with a base, in the middle of a base."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.meter import checkpoints, snapshot, state
from core.meter.checkpoints import StateLost
from core.meter.gathering import Gathering
from core.meter.levels import LEVELS
from core.meter.source import Source
from core.meter.task import MeterTask
from core.meter.usage import Usage
from tests.core.meter import test_performance, test_usage
from tests.core.meter.logs import PERFORMANCE, T0, USAGE, Published, batches, usage


def plain(source: Source) -> dict[str, Any]:
    """The state by its meaning: numbers that only order things inside are replaced by names."""
    out: dict[str, Any] = {
        "clock": (source.clock.at, source.clock.replays, source.clock.quiet),
        "seen": (source.seen.clock, sorted(source.seen.current.keys()), sorted(source.seen.before.keys())),
        "replays": [
            {(source.groups[g].tenant, source.groups[g].product) for g in s} for s in (source.born, source.held)
        ],
        "groups": {(g.tenant, g.product): source.watermark_of(i) for i, g in enumerate(source.groups)},
    }
    for number, windows in source.windows.items():
        group = source.groups[number]
        names = [source.cell_names[c] for c in source.locals[number]]
        for w, window in enumerate(windows):
            dumped = window.dump()
            ends, cells, values = source.pending.peek(number, w)
            dumped["pending"] = ends, source.cell_local[cells], values
            # Recovery folds several batches as one, and changes that cancel out leave no mark at the range's borders. What is
            # published is the same: `test_usage` compares every end's newest figures after recoveries.
            low, high = dumped.pop("dirty") or (0, 0)
            assert low <= high
            dumped["running"] = {n: tuple(v) for n, v in zip(names, dumped["running"].tolist(), strict=False) if any(v)}
            dumped["late_base"] = {
                n: tuple(v) for n, v in zip(names, dumped["late_base"].tolist(), strict=False) if any(v)
            }
            for part in ("pending", "history", "late"):
                sums: dict[tuple[int, str], Any] = {}
                for end, cell, values in zip(*(a.tolist() for a in dumped[part]), strict=True):
                    at = end, names[cell]
                    sums[at] = tuple(np.add(sums.get(at, 0), values))
                dumped[part] = {k: v for k, v in sums.items() if any(v)}
            out[f"{group.tenant}|{group.product}|{window.name}"] = dumped
    if isinstance(source, Usage):
        out["pairs"] = {}
        out["profiles"] = {
            (number, user): source.profile(group.tenant, group.product, user)
            for number, group in enumerate(source.groups)
            for user in source.users.names
        }
        for i, key in enumerate(source.pairs.rows[: len(source.pairs), 0].tolist()):
            marks = source.pairs.panes(i)
            cell, user = key >> 32, source.users.names[key & 0xFFFFFFFF]
            group_number = int(source.cell_group[cell])
            limit = source.watermark_of(group_number) - source.groups[group_number].grace
            alive = [
                {p for p in panes if p + level.reach > limit // level.step}
                for level, panes in zip(LEVELS, marks, strict=True)
            ]
            out["pairs"][group_number, source.cell_names[cell], user] = source.pairs.first(i), alive
    return out


class Store:
    """The state topic: the newest value of every key."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}

    def write(self, task: MeterTask) -> int:
        """How many of the records are a base's pages."""
        pages = 0
        for key, value in task.drain():
            if value is None:
                self.records.pop(key, None)
            else:
                assert len(value) < 900_000
                self.records[key] = value
                pages += key.startswith(b"base") and not key.endswith(b"end")
        return pages

    def recover(self, order: random.Random | None = None) -> MeterTask:
        task = MeterTask(0, 1, Catalogue())
        items = list(self.records.items())
        if order:
            order.shuffle(items)
        for key, value in items:
            task.load(key, value)
        task.loaded()
        return task


def same(a: MeterTask, b: MeterTask) -> None:
    for one, other in ((a.usage, b.usage), (a.performance, b.performance)):
        left, right = plain(one), plain(other)
        for name in left.keys() | right.keys():
            assert left.get(name) == right.get(name), name


@settings(max_examples=40, deadline=None)
@example(36173, 21, [9, 17, 79, 79, 56, 16], True)  # two batches' changes cancel out at the end of what is dirty
@given(st.integers(0, 2**32), st.integers(1, 60), st.lists(st.integers(0, 99), max_size=10), st.booleans())
def test_recovered_is_live(seed: int, size: int, cuts: list[int], small_bases: bool) -> None:
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        if small_bases:  # a base after nearly every drain, one page at a time
            patch.setattr(checkpoints, "MIN_DELTAS", 10)
            patch.setattr(checkpoints, "PAGES_A_DRAIN", rng.choice((1, 7, 500)))
            patch.setattr(state, "MAX_RECORD", rng.choice((64, 900_000)))
            patch.setattr(state, "MAX_ROWS", 3)
        live, store = MeterTask(0, 1, Catalogue()), Store()
        log = [
            *batches((test_usage.a_log if seed % 2 else test_usage.a_replayed_log)(seed, size), cuts),
            *batches(test_performance.a_log(seed, size), cuts, PERFORMANCE),
        ]
        rng.shuffle(log)
        log.sort(key=lambda b: int(b.offsets[0]))
        for one in log:
            list(live.step(one))
            if rng.random() < 0.2:
                list(live.tick(int(one.timestamps[-1]) + 3_000, [(USAGE, 0), (PERFORMANCE, 0)]))
            if rng.random() < 0.6:
                store.write(live)
                same(live, store.recover(rng))
                if rng.random() < 0.3:
                    live = store.recover()


def test_a_state_that_says_only_that_ends_were_revised_is_read_as_it_was_written() -> None:
    live, store, old = MeterTask(0, 1, Catalogue()), Store(), Store()
    rows = [
        usage("1", T0, "a"),
        usage("2", T0 + 60_000, "b"),
        usage("3", T0 + 1_000, "c"),
        usage("4", T0 + 61_000, "d"),
    ]
    list(live.step(batches(rows, [])[0]))
    store.write(live)
    assert live.usage.dirty()
    list(live.tick(T0 + 3_000, [(USAGE, 0)]))
    list(live.step(batches([usage("5", T0 + 2_000, "e")], [])[0]))
    assert live.usage.dirty()
    store.write(live)
    same(live, store.recover())
    noted = 0
    for key, value in store.records.items():
        operations = state.decode(value)
        for operation in operations:
            if operation[0] == "revise":
                assert operation[2]
                operation[2], noted = T0 + 3_000, noted + 1
        old.records[key] = state.encode(operations)
    assert noted
    same(live, old.recover())


def test_a_base_replaces_the_deltas_before_it() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "MIN_DELTAS", 2_000)
        live, store = MeterTask(0, 1, Catalogue()), Store()
        for i in range(60):
            list(live.step(batches([usage(f"{i}-{k}", T0 + i * 1000, f"u{k}") for k in range(50)], [])[0]))
            store.write(live)
            same(live, store.recover())
        kinds = [key.split(b"|") for key in store.records]
        assert sum(kind == b"base" and rest[-1] == b"end" for kind, *rest in kinds) == 1
        assert 0 < sum(kind == b"delta" for kind, *_ in kinds) < 60


def test_pages_of_a_base_are_few_in_a_small_checkpoint_unless_nobody_waits_for_it() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "MIN_DELTAS", 20_000)
        patch.setattr(state, "MAX_RECORD", 3_000)
        live, store = MeterTask(0, 1, Catalogue()), Store()
        list(live.step(batches([usage(f"a{k}", T0, f"u{k}") for k in range(3_000)], [])[0]))
        assert store.write(live) == checkpoints.PAGES_A_DRAIN  # its deltas are large
        for i in range(3):
            list(live.step(batches([usage(f"b{i}", T0 + i, "u1")], [])[0]))
            assert 1 <= store.write(live) < checkpoints.PAGES_A_DRAIN
        assert store.write(live) == checkpoints.PAGES_A_DRAIN
        live._checkpoints.renew()  # something is to be forgotten
        list(live.step(batches([usage("c", T0 + 4, "u1")], [])[0]))
        assert store.write(live) == checkpoints.PAGES_A_DRAIN
        same(live, store.recover())


def test_a_base_of_another_version_is_an_error_that_says_what_to_do() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "MIN_DELTAS", 10)
        live, store = MeterTask(0, 1, Catalogue()), Store()
        list(live.step(batches([usage("1", T0)], [])[0]))
        real = snapshot.dump
        patch.setattr(snapshot, "dump", lambda s: {n: v for n, v in real(s).items() if not n.startswith("profile")})
        while not any(key.endswith(b"end") for key in store.records):
            store.write(live)
        with pytest.raises(StateLost, match="uptake reset"):
            store.recover()


def test_a_hole_in_the_state_is_an_error_that_says_what_to_do() -> None:
    live, store = MeterTask(0, 1, Catalogue()), Store()
    for i in range(3):
        list(live.step(batches([usage(f"{i}", T0 + i)], [])[0]))
        store.write(live)
    del store.records[b"delta|2"]
    with pytest.raises(StateLost, match="uptake reset"):
        store.recover()


def test_nothing_new_drains_nothing() -> None:
    live = MeterTask(0, 1, Catalogue())
    list(live.step(batches([usage("1", T0)], [])[0]))
    assert live.drain() and live.drain() == []


def test_after_recovery_duplicates_are_still_known_and_figures_go_on() -> None:
    live, store = MeterTask(0, 1, Catalogue()), Store()
    list(live.step(batches([usage("1", T0, "a")], [])[0]))
    store.write(live)
    told = Published().take(store.recover().step(batches([usage("1", T0, "a"), usage("2", T0 + 20_000, "b")], [])[0]))
    assert told.counts["uptake_rows_total", (USAGE, "duplicate")] == 1
    assert told.version_0(USAGE, "acme|app", "5m", "f1", T0 + 10_000) == (1, 1, 1)


def test_snapshot_names_every_part_of_the_state() -> None:
    task = MeterTask(0, 1, Catalogue())
    list(task.step(batches(test_usage.a_log(5, 40), [])[0]))
    other = MeterTask(0, 1, Catalogue())
    gathering = Gathering()
    for name, value in snapshot.dump(task.usage).items():
        for page in state.pages(name, value):
            gathering.add(page)
    snapshot.restore(other.usage, gathering.values())
    same(task, other)

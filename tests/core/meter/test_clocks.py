"""Watermarks and clocks: what a partition says about its time, and when."""

from __future__ import annotations

from core.definitions import Catalogue
from core.meter.task import MeterTask
from schemas.definitions import Product
from tests.core.meter.logs import PERFORMANCE, T0, USAGE, Published, batch, marker, usage

BOTH = [(USAGE, 0), (PERFORMANCE, 0)]


def test_an_idle_partition_tells_its_clock_every_400_ms_to_every_partition() -> None:
    task = MeterTask(0, 12, Catalogue())
    effects = list(task.tick(T0, BOTH))
    told = Published().take(effects)
    assert told.shared == {USAGE: T0 - 2_000, PERFORMANCE: T0 - 2_000}
    emitted = [e.partition for e in effects if hasattr(e, "partition")]
    assert emitted == [*range(12), *range(12)]
    assert task.wake_at() == T0 + 400
    assert Published().take(task.tick(T0 + 300, BOTH)).shared == {}
    assert Published().take(task.tick(T0 + 400, BOTH)).shared[USAGE] == T0 - 1_600


def test_an_idle_clock_is_held_back_by_the_largest_disorder_that_is_declared() -> None:
    catalogue = Catalogue()
    catalogue.put(Product(tenant="acme", name="app", disorder_ms=100))
    catalogue.put(Product(tenant="globex", name="app", disorder_ms=300))
    task = MeterTask(0, 1, catalogue)
    assert Published().take(task.tick(T0, BOTH)).shared == {USAGE: T0 - 300, PERFORMANCE: T0 - 300}
    catalogue.put(Product(tenant="globex", name="slow", disorder_ms=60_000))
    assert Published().take(task.tick(T0 + 5_000, BOTH)).shared[USAGE] == T0 + 3_000, "never more than 2 s"
    catalogue.apply(b"globex|product|slow", None)
    list(task.step(batch([usage("1", T0, product="nobody's")])))
    assert Published().take(task.tick(T0 + 9_000, BOTH)).shared[USAGE] == T0 + 7_000, "one that nobody defined: 2 s"


def test_a_partition_with_unread_rows_says_nothing() -> None:
    task = MeterTask(0, 1, Catalogue())
    assert Published().take(task.tick(T0, [(PERFORMANCE, 0), (USAGE, 5)])).shared == {PERFORMANCE: T0 - 2_000}


def test_idle_clocks_close_windows_and_stand_still_between_replay_markers() -> None:
    task = MeterTask(0, 1, Catalogue())
    told = Published().take(task.step(batch([usage("1", T0)])))
    assert told.version_0(USAGE, "acme|app", "5m", "f1", T0 + 10_000) == (0, 0, 0)
    told.take(task.step(batch([marker("begun", T0, T0)], offset=1)))
    told.take(task.tick(T0 + 60_000, BOTH))
    assert USAGE not in told.shared and PERFORMANCE in told.shared
    told.take(task.step(batch([marker("progressed", T0 + 15_000, T0)], offset=2)))
    assert told.shared[USAGE] == T0 + 13_000
    assert told.version_0(USAGE, "acme|app", "5m", "f1", T0 + 10_000) == (1, 1, 1)
    told.take(task.step(batch([marker("ended", T0, T0)], offset=3)))
    told.take(task.tick(T0 + 120_000, BOTH))
    assert told.shared[USAGE] == T0 + 118_000 == told.clocks[USAGE, "acme|app"]


def test_the_watermark_is_capped_by_the_broker_and_held_back_by_the_disorder() -> None:
    catalogue = Catalogue()
    catalogue.put(Product(tenant="acme", name="slow", disorder_ms=60_000))
    rows = [
        usage("1", T0 + 3_000_000, broker=T0),
        usage("2", T0, product="slow"),
    ]
    told = Published().take(MeterTask(0, 1, catalogue).step(batch(rows)))
    assert told.clocks[USAGE, "acme|app"] == T0 + 5_000 - 2_000
    assert told.clocks[USAGE, "acme|slow"] == T0 - 60_000


def test_a_late_row_revises_closed_ends_soon_after_when_the_partition_is_read() -> None:
    task = MeterTask(0, 1, Catalogue())
    told = Published().take(task.step(batch([usage("1", T0, "a"), usage("2", T0 + 60_000, "a")])))
    told.take(task.step(batch([usage("3", T0 + 1_000, "b", broker=T0 + 60_000)], offset=2)))
    end = T0 + 10_000
    assert told.newest(USAGE, "acme|app", "5m", "f1", end) == (1, 1, 1)
    told.take(task.tick(T0 + 61_000, BOTH))
    assert told.newest(USAGE, "acme|app", "5m", "f1", end) == (2, 2, 2)
    assert told.version_0(USAGE, "acme|app", "5m", "f1", end) == (1, 1, 1)
    again = Published().take(task.tick(T0 + 64_000, BOTH))
    assert not any(version for patches in again.patches.values() for _, version, _ in patches)


def test_a_late_row_leaves_at_the_end_of_grace_without_any_tick() -> None:
    task = MeterTask(0, 1, Catalogue())
    rows = [usage("1", T0, "a"), usage("2", T0 + 60_000, "a"), usage("3", T0 + 1_000, "b", broker=T0 + 60_000)]
    told = Published().take(task.step(batch(rows)))
    assert told.newest(USAGE, "acme|app", "5m", "f1", T0 + 10_000) == (1, 1, 1)
    told.take(task.step(batch([usage("4", T0 + 700_000, "a")], offset=3)))
    assert told.newest(USAGE, "acme|app", "5m", "f1", T0 + 10_000) == (2, 2, 2)


def test_registers_of_old_data_in_a_replay_do_not_act() -> None:
    now = T0 + 10 * 86_400_000
    rows = [
        marker("begun", T0, now),
        usage("1", T0, broker=now),
        marker("progressed", T0 + 86_400_000, now),
    ]
    told = Published().take(MeterTask(0, 1, Catalogue()).step(batch(rows)))
    assert told.acts and not any(told.acts)
    told = Published().take(MeterTask(0, 1, Catalogue()).step(batch(rows[1:])))
    assert told.acts and all(told.acts)


def test_a_wrong_key_is_counted() -> None:
    right, wrong = usage("1", T0, "u1"), usage("2", T0, "u2")
    told = Published().take(MeterTask(0, 1, Catalogue()).step(batch([right])))
    assert "uptake_key_mismatch_total" not in {name for name, _ in told.counts}
    moved = type(wrong)(wrong.value, wrong.at, b"acme|somebody")
    told = Published().take(MeterTask(0, 1, Catalogue()).step(batch([moved])))
    assert told.counts["uptake_key_mismatch_total", (USAGE,)] == 1


def test_members_of_segments() -> None:
    task = MeterTask(0, 1, Catalogue())
    day = 86_400_000
    rows = [
        usage("1", T0 - 8 * day, "old", "f1"),
        usage("2", T0 - 2 * day, "ann", "f1"),
        usage("3", T0 - day, "bob", "f2"),
        usage("4", T0 + day, "next", "f1"),
    ]
    list(task.step(batch(rows)))
    assert task.members("acme", "app", "f1", T0) == ["ann"]
    assert task.members("acme", "app", None, T0) == ["ann", "bob"]
    assert task.non_adopters("acme", "app", "f1", T0) == ["bob"]
    assert task.members("acme", "app", "f1", T0, 28) == ["ann", "old"]
    assert task.members("acme", "nope", None, T0) == []


def test_a_product_new_to_a_replay_begins_there_in_every_partition_and_others_stay() -> None:
    task = MeterTask(0, 1, Catalogue())
    told = Published().take(task.step(batch([usage("1", T0, product="known")])))
    day = 86_400_000
    told.take(task.tick(T0 + 10 * day, BOTH))
    clock = T0 + 10 * day - 2_000
    told.take(task.step(batch([marker("begun", T0, T0 + 10 * day, products=["app", "known"])], offset=1)))
    assert (told.clocks[USAGE, "acme|app"], told.replays[USAGE, "acme|app"]) == (T0 - 2_000, True)
    assert (told.clocks[USAGE, "acme|known"], told.replays[USAGE, "acme|known"]) == (clock, False)
    rows = [
        usage("2", T0, "a", broker=T0 + 10 * day),
        usage("3", T0, "a", product="known", broker=T0 + 10 * day),
        usage("4", T0, "a", product="unnamed", broker=T0 + 10 * day),
    ]
    told.take(task.step(batch(rows, offset=2)))
    told.take(task.step(batch([marker("progressed", T0 + 3_600_000, T0 + 10 * day)], offset=5)))
    assert told.clocks[USAGE, "acme|app"] == T0 + 3_600_000 - 2_000
    assert told.version_0(USAGE, "acme|app", "5m", "f1", T0 + 10_000) == (1, 1, 1)
    assert told.version_0(USAGE, "acme|unnamed", "5m", "f1", T0 + 10_000) == (0, 0, 0)
    assert told.clocks[USAGE, "acme|unnamed"] == clock
    told.take(task.step(batch([marker("ended", T0, T0 + 10 * day)], offset=6)))
    assert told.clocks[USAGE, "acme|app"] == clock, "no replay is open: the partition's clock speaks for it too"
    assert told.version_0(USAGE, "acme|app", "7d", "f1", T0 + day) == (1, 1, 1)
    assert told.newest(USAGE, "acme|known", "5m", "f1", T0 + 10_000) == (1, 1, 1)

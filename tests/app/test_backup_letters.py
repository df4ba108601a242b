"""A letter that was sent again is not sent again after a restore, where its place is another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backup.place import Place
from app.backup.redriven import GONE, sent_again
from app.backup.refill import Moved
from app.backup.restore import restore
from app.backup.run import backup
from app.kafka import producer
from app.letters import Order, letters, redrive, redrive_id, redrives
from app.main import make_options
from app.settings import Settings
from app.topics import create
from core.effects import DeadLetter
from core.letters import Filter
from core.task import TaskSpec
from schemas.delivery import CHECKPOINT_HEADER, Redrive
from tests.helpers.kafka import delete_topics, fresh_prefix
from tests.helpers.settings import settings_for
from tests.helpers.shown import all_shown, rows_in
from transport.checkpoint import Checkpoint, Committer
from transport.state import Positions

NOW = 1_800_000_000_000


def _make(partition: int) -> Any:
    raise AssertionError("nobody runs here")


METER = TaskSpec("meter", "events", ("events.usage", "events.performance"), _make, "state.meter")


def a_death(offset: int) -> DeadLetter:
    key, value = b"acme|u", b'{"id": "%d"}' % offset
    return DeadLetter("events.usage", 0, offset, "meter", "invalid", "no user", key, value, NOW, (("own", b"x"),))


async def die(settings: Settings, number: int, *offsets: int) -> None:
    """A checkpoint of METER that sets rows aside; its marker takes an offset of its own."""
    committer = Committer(make_options(settings, "meter"), METER, 0)
    await committer.start()
    try:
        positions = Positions(partitions=2, next={"events.usage": 0, "events.performance": 0}, at=1, number=number)
        await committer.commit(Checkpoint([], [a_death(offset) for offset in offsets], positions, {}))
    finally:
        await committer.close()
    await all_shown(settings)


async def send_again(settings: Settings, **changed: Any) -> tuple[int, dict[str, int]]:
    made = await redrive(settings, Order(Filter(), "ann", 10_000.0, **changed), lambda: NOW)
    return made.redriven, dict(made.refused)


@pytest.mark.kafka
async def test_what_was_sent_again_stays_sent(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings, place = settings_for(kafka, prefix, tmp_path / "a"), Place(str(tmp_path / "backups"))
    await create(settings)
    for number, offset in enumerate((10, 20, 30), 1):
        await die(settings, number, offset)
    assert await send_again(settings, limit=2) == (2, {})
    [*kept] = [record async for record in redrives(settings)]
    # somebody's record of a letter whose time was over before the backup
    old = kept[0].model_copy(update={"letter_offset": 1_000, "id": redrive_id(kept[0].letter_partition, 1_000)})
    async with producer(settings) as made:
        await made.send_and_wait(settings.topic("redrives"), old.model_dump_json().encode(), key=b"k", partition=0)
        await made.send_and_wait(settings.topic("redrives"), b"not ours", partition=1)
    manifest = (await backup(settings, place)).manifest
    assert len(await sent_again(place, manifest.topics["redrives"])) == 3

    elsewhere = fresh_prefix("restored")
    target = settings_for(kafka, elsewhere, tmp_path / "b")
    try:
        await restore(target, place, manifest)
        there = {letter.place: letter async for letter in letters(target, Filter())}
        before = {letter.place async for letter in letters(settings, Filter())}
        assert there.keys() != before, "the markers between them took offsets"
        found: list[Redrive] = [record async for record in redrives(target)]
        placed = [r for r in found if r.letter_offset != GONE]
        assert len(found) == 3 and len(placed) == 2
        for record in placed:
            assert record.id == redrive_id(record.letter_partition, record.letter_offset)
            assert there[record.letter_partition, record.letter_offset].origin_offset == record.offset
        assert await send_again(target) == (1, {"redriven_before": 2})
        assert await send_again(target) == (0, {"redriven_before": 3})
        sent = await rows_in(target, "events.usage")
        assert sorted(row.value or b"" for row in sent) == [b'{"id": "%d"}' % n for n in (10, 20, 30)]
        # The letter was written by a checkpoint; the row that goes back to its topic was not.
        assert all(dict(row.headers) == {"own": b"x", "uptake-replays": b"1"} for row in sent)
        letter_headers = [dict(r.headers) for r in await rows_in(target, "dead-letters")]
        assert all(CHECKPOINT_HEADER in headers for headers in letter_headers)
    finally:
        delete_topics(kafka, elsewhere)


@given(
    st.lists(st.tuples(st.integers(0, 200), st.booleans()), unique_by=lambda row: row[0], max_size=60),
    st.lists(st.integers(-1, 210), max_size=8),
    st.integers(1, 60),
)
def test_a_named_row_is_where_it_was_written_and_nowhere_else(
    log: list[tuple[int, bool]], named: list[int], cut: int
) -> None:
    log.sort()
    moved = Moved([], [(0, offset) for offset in named])
    for start in range(0, len(log), cut):
        part = log[start : start + cut]
        kept = np.array([offset for offset, keep in part if keep], np.int64)
        moved.see(0, kept, np.array([offset for offset, keep in part if not keep], np.int64))
    written = [offset for offset, keep in log if keep]
    for offset in named:
        assert moved.row(0, offset) == (written.index(offset) if offset in written else None)
        assert moved.row(1, offset) is None
    assert moved.overtaken == 0

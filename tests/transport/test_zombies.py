"""A worker that falls asleep in the middle of a checkpoint, is replaced, and wakes: nothing of what it held counts."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from app.chaos.aim import frozen_in, some
from tests.transport.kit import counting_topics, until
from tests.transport.test_life import check_once
from tests.transport.test_processes import Feed, Workers, owners, rows_out, workers
from transport.phases import Phase, PhaseReader

pytestmark = pytest.mark.kafka
PARTITIONS = 4
ASLEEP_IN = (Phase.FILLING, Phase.OFFSETS, Phase.COMMITTING)


async def freeze(crew: Workers, name: str, phase: Phase) -> dict[str, Phase]:
    reader = PhaseReader(crew.path / name / "phases")
    found, hit = await asyncio.to_thread(frozen_in, crew.processes[name].pid, reader, some(frozenset({phase})), 20.0)
    assert hit, f"{name} was never seen {phase.name}: {found}"
    return found


@pytest.mark.timeout(280)
async def test_asleep_in_each_phase_of_a_checkpoint(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, PARTITIONS)
    feed = Feed(kafka, f"{prefix}in", seed=5)
    producing = asyncio.ensure_future(feed.run())
    with workers(kafka, prefix, tmp_path, checkpoint_interval_ms=40, offsets_interval_ms=40) as crew:
        crew.start("a")
        crew.start("b")
        await until(lambda: more(kafka, prefix, 0))
        await until(lambda: owned(kafka, prefix, 2))
        for turn, phase in enumerate(ASLEEP_IN):
            name = "ab"[turn % 2]
            await freeze(crew, name, phase)
            # Its session ends, the other takes its partitions, and what it left open is ended: rows of all of them come out.
            await until(lambda: owned(kafka, prefix, 1))
            await comes_out(kafka, prefix, len(feed.rows))
            os.kill(crew.processes[name].pid, signal.SIGCONT)
            await until(lambda: owned(kafka, prefix, 2))
            await comes_out(kafka, prefix, len(feed.rows))
        feed.going = False
        await producing
        await until(lambda: more(kafka, prefix, len(feed.rows) - 1))
        assert [crew.stop("a"), crew.stop("b")] == [0, 0], crew.log()
    await check_once(kafka, prefix, feed.rows, PARTITIONS)


async def owned(kafka: str, prefix: str, members: int) -> bool:
    """All partitions are owned by so many members."""
    found = [count for count in (await owners(kafka, prefix)).values() if count]
    return len(found) == members and sum(found) == PARTITIONS


async def comes_out(kafka: str, prefix: str, than: int) -> None:
    await until(lambda: more(kafka, prefix, than))


async def more(kafka: str, prefix: str, than: int) -> bool:
    return await rows_out(kafka, prefix) > than

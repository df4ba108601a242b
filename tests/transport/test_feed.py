"""Feeding a task: a long step lets others have their turn, and what is taken away meanwhile is not worked on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.batch import Batch
from core.effects import Count, Effect
from core.task import Task
from tests.helpers.words import a_batch
from tests.transport.counting import CountingTask, spec
from transport.feed import Feed, Hunted
from transport.metrics import Unmetered
from transport.options import Options

OPTIONS = Options(bootstrap="nowhere:1", role="r", data_dir=Path())


class Long(CountingTask):
    """Tells an effect a row; `seen` is what it has worked. Raises at row `raises`."""

    def __init__(self, raises: int = -1) -> None:
        super().__init__(0)
        self.seen: list[int] = []
        self._raises = raises

    def step(self, batch: Batch) -> Iterator[Effect]:
        for row in range(len(batch.values)):
            if row == self._raises:
                raise ValueError("planted")
            self.seen.append(row)
            yield Count("rows", row)


def fed(
    task: Task, taken_at: int | None = None, turn_s: float = 0.0
) -> tuple[list[Effect] | None, list[int], list[Exception]]:
    """What the step came to, how many rows were worked at each turn of somebody else, and what failed."""
    failures: list[Exception] = []
    feed = Feed("r|g|0", spec(), 0, OPTIONS, Unmetered(), failures.append)
    turns: list[int] = []
    assert isinstance(task, Long)

    async def another() -> None:
        while True:
            turns.append(len(task.seen))
            await asyncio.sleep(0)

    async def both() -> list[Effect] | None:
        other = asyncio.ensure_future(another())
        held = lambda: taken_at is None or len(task.seen) < taken_at  # noqa: E731
        try:
            return await feed.work(task, a_batch("t", [b"x"] * 6), held, turn_s)
        finally:
            other.cancel()

    return asyncio.run(both()), turns, failures


def test_others_have_their_turn_after_each_effect_where_the_step_is_over_its_time() -> None:
    effects, turns, failures = fed(Long())
    assert effects == [Count("rows", n) for n in range(6)] and not failures
    assert turns[:6] == [1, 2, 3, 4, 5, 6]


def test_a_short_step_is_not_interrupted() -> None:
    effects, turns, _ = fed(Long(), turn_s=60.0)
    assert effects is not None and len(effects) == 6 and turns == []


@pytest.mark.parametrize("taken_at", [1, 4])
def test_a_batch_that_was_taken_away_is_not_worked_to_its_end(taken_at: int) -> None:
    task = Long()
    effects, _, failures = fed(task, taken_at)
    assert effects is None and len(task.seen) == taken_at and not failures


@pytest.mark.parametrize("turn_s", [0.0, 60.0])
def test_where_the_task_raises_in_the_middle_nothing_is_performed(turn_s: float) -> None:
    effects, _, failures = fed(Long(raises=3), turn_s=turn_s)
    assert effects is None
    [failure] = failures
    assert isinstance(failure, Hunted)

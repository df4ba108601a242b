"""Feeding: a block's rows go to the task in one batch; where the task raises, in pieces, until the rows that did it are found.

What is tried is always tried on a state that belongs to its position: whatever raised ends the task's life (`fail`), and the
runner recovers a new one. `transport.poison` keeps the book, this does what it says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from core.batch import Batch
from core.effects import Effect
from core.task import Task, TaskSpec
from transport.blocks import Block
from transport.intake import Intake
from transport.metrics import Metrics
from transport.options import Options
from transport.poison import Case, Hunt, place

log = logging.getLogger(__name__)
POISON: Final = "poison"
"""Reason of a row on which the task raises."""
POISONED_BATCH: Final = "poisoned_batch"
"""Reason of the rows of a batch of which more than half does."""


class Hunted(Exception):
    """The task raised: its state is thrown away, and the rows that did it are looked for."""


class Poisoned(Exception):
    """More than half of a batch raises, and the operator wants that to stop the partition."""


class Feed:
    """Of one runner; outlives its tasks. `fail` ends the life of the present one."""

    def __init__(
        self,
        name: str,
        spec: TaskSpec,
        partition: int,
        options: Options,
        metrics: Metrics,
        fail: Callable[[Exception], None],
    ) -> None:
        self._name = name
        self._spec = spec
        self._partition = partition
        self._options = options
        self._metrics = metrics
        self._fail = fail
        self._hunt = Hunt()

    def next(self, intake: Intake, task: Task) -> Batch | None:
        """The block's next rows to be worked, in hand from then on. None: some were dealt with here; look again."""
        block, row = intake.block, intake.row
        assert block is not None
        stop, doing = self._hunt.cut(block.topic, block.offsets, row)
        if doing == "work":
            batch = intake.cut(stop)
            self._metrics.observe("uptake_batch_rows", len(batch), (batch.topic,))
            return batch
        if doing == "condemned":
            intake.set_aside(stop, self._spec.role, POISON, self._hunt.why(block.topic, int(block.offsets[row])))
        elif doing == "aside":
            intake.set_aside(stop, self._spec.role, POISONED_BATCH, "more than half of its batch raises")
        else:
            self._survey(intake, block, row, task)
        return None

    def step(self, task: Task, batch: Batch) -> list[Effect] | None:
        """What the task makes of the batch; None where it raised."""
        try:
            return list(task.step(batch))
        except MemoryError:
            raise
        except Exception as error:
            self._raised(batch, error)
            return None

    async def work(self, task: Task, batch: Batch, held: Callable[[], bool], turn_s: float) -> list[Effect] | None:
        """`step`, but after every `turn_s` seconds, as soon as the task tells an effect, the event loop has its turn: a task may
        have minutes of work in one row. None where it raised, or where `held` says that the batch is in hand no longer.
        """
        clock, effects = asyncio.get_running_loop().time, []
        try:
            until = clock() + turn_s
            for effect in task.step(batch):
                effects.append(effect)
                if clock() >= until:
                    await asyncio.sleep(0)
                    if not held():
                        return None
                    until = clock() + turn_s
        except MemoryError:
            raise
        except Exception as error:
            self._raised(batch, error)
            return None
        return effects

    def settled(self, positions: Mapping[str, int]) -> None:
        """A checkpoint stands at these next offsets (topics with prefix)."""
        if self._hunt:
            self._hunt.forget(positions)

    def _raised(self, batch: Batch, error: Exception) -> None:
        why, topic = place(error), self._options.topic(batch.topic)
        trace = None if self._hunt else error  # once: what follows is the same again
        log.error(
            "%s: %d rows of %s from offset %d on: %s",
            self._name, len(batch), batch.topic, batch.offsets[0], why, exc_info=trace,
        )  # fmt: skip
        self._metrics.count("uptake_poison_total", 1, (self._spec.role, batch.topic, "raised"))
        self._judge(topic, self._hunt.raised(topic, batch.offsets, why))
        self._fail(Hunted(str(self._hunt)))

    def _survey(self, intake: Intake, block: Block, row: int, task: Task) -> None:
        """Try a few rows of what is left of a case alone, on a state that is not kept."""
        case = self._hunt.surveyed(block.topic, int(block.offsets[row]))
        assert case is not None
        for offset in case.untried(block.offsets[row:]):
            at = int(np.searchsorted(block.offsets, offset))
            try:
                list(task.step(intake.piece(at, at + 1)))
                case.tried[offset] = True
            except Exception as error:
                case.tried[offset] = False
                log.info("%s: offset %d of %s, tried alone: %s", self._name, offset, block.topic, place(error))
                break
        else:
            self._judge(block.topic, case if self._hunt.over(case) else None)
        self._fail(Hunted(str(self._hunt)))

    def _judge(self, topic: str, poisonous: Case | None) -> None:
        if poisonous is None:
            return
        stop = self._options.on_poison == "stop"
        labels = (self._spec.role, self._options.name(topic), "stopped" if stop else "set_aside")
        self._metrics.count("uptake_poison_total", 1, labels)
        rows = f"offsets {poisonous.begin} to {poisonous.end - 1} of {topic}/{self._partition}"
        log.error("%s raises on more than half of %s", self._name, rows)
        if stop:
            self._fail(
                Poisoned(
                    f"the task raises on more than half of {rows}, and UPTAKE_ON_POISON is stop: repair it and restart the "
                    "worker, or set UPTAKE_ON_POISON=set_aside, which makes them dead letters"
                )
            )
        else:
            self._hunt.set_aside(topic, poisonous)

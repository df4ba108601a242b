"""What a runner takes in: blocks in the log's order without a gap, one batch in the agent's hand, effects held back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from core.batch import Batch
from core.effects import Count, DeadLetter, Effect, Emit, Observe
from transport.blocks import Block, Spoiled
from transport.metrics import Metrics
from transport.options import Options


class Gap(Exception):
    """The place in the log must be sought again: blocks were dropped on their way, or the log has moved on."""


@dataclass(slots=True)
class Held:
    """What waits for the next checkpoint."""

    effects: list[Effect] = field(default_factory=list)
    rows: int = 0
    outputs: bool = False
    """There is something to write, and somebody may be waiting for it."""
    touched: bool = False
    """A tick or an outside effect may have changed the task's state."""

    def add(self, effects: Iterable[Effect]) -> None:
        """Take effects, in order."""
        for effect in effects:
            self.effects.append(effect)
            if isinstance(effect, Emit | DeadLetter):
                self.outputs = True


class Intake:
    """One partition's way in. Made anew with each life of a task, so nothing of an earlier one gets through."""

    def __init__(self, partition: int, options: Options, start: Mapping[str, int]) -> None:
        self.next = dict(start)
        """Next offset of each topic (with prefix) after the last finished batch."""
        self.held = Held()
        self.idle = asyncio.Event()
        """Set while the agent has no batch in hand."""
        self.idle.set()
        self._partition = partition
        self._options = options
        self.expected = dict(start)
        """Where the next block of each topic must begin."""
        self._seeks: Mapping[str, int] = {}
        self._batch: Batch | None = None

    def sought(self, numbers: Mapping[str, int]) -> None:
        """Blocks of these seeks, by topic, are ours."""
        self._seeks = numbers

    def accept(self, block: Block) -> Batch | None:
        """The block as a batch, which is then in hand; None where it is of an earlier seek or has no rows.

        Raises `Gap` where it does not begin where the last one ended.
        """
        topic = block.topic
        if block.seek != self._seeks.get(topic):
            return None
        if block.start != self.expected[topic]:
            raise Gap(f"{topic}/{self._partition}: expected offset {self.expected[topic]}, got {block.start}")
        self.expected[topic] = block.next_offset
        self.held.add(self.letters(block))
        if not len(block):
            self.next[topic] = block.next_offset
            return None
        self._batch = Batch(
            self._options.name(topic),
            self._partition,
            block.values,
            block.offsets,
            block.timestamps,
            block.next_offset,
            block.keys,
            block.headed,
            max(0, block.end - block.next_offset),
        )
        self.idle.clear()
        return self._batch

    def letters(self, block: Block) -> list[DeadLetter]:
        """Dead letters of the stored batches that cannot be read; none for a block of an earlier seek."""
        if block.seek != self._seeks.get(block.topic):
            return []
        return [self._letter(block.topic, spoiled) for spoiled in block.spoiled]

    def holds(self, batch: Batch) -> bool:
        """Whether the agent has this batch in hand."""
        return self._batch is batch

    def finish(self, batch: Batch, effects: Iterable[Effect]) -> None:
        """The batch in hand is worked. `effects` may be a generator, which is run here."""
        self.held.add(effects)
        self.held.rows += len(batch)
        self.next[self._options.topic(batch.topic)] = batch.next_offset
        self._batch = None
        self.idle.set()

    def take(self) -> Held:
        """What is held, for a checkpoint that begins now."""
        held, self.held = self.held, Held()
        return held

    def _letter(self, topic: str, spoiled: Spoiled) -> DeadLetter:
        return DeadLetter(
            topic=self._options.name(topic),
            partition=self._partition,
            offset=spoiled.offset,
            step="transport",
            reason=spoiled.reason,
            detail=f"{spoiled.detail}; offsets {spoiled.offset} to {spoiled.next_offset - 1}",
            key=None,
            value=spoiled.stored,
            at=spoiled.timestamp,
        )


def measure(effects: Iterable[Effect], metrics: Metrics) -> None:
    """Count what was committed: figures a task asked for, and dead letters by reason."""
    for effect in effects:
        match effect:
            case Count(metric, n, labels):
                metrics.count(metric, n, labels)
            case Observe(metric, value, labels):
                metrics.observe(metric, value, labels)
            case DeadLetter():
                metrics.count("uptake_dead_letters_total", 1, (effect.step, effect.reason))
            case Emit():
                pass

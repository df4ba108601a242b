"""What a runner takes in: blocks in the log's order without a gap, one batch in the agent's hand, effects held back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from core.batch import Batch, Rows
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
    """An outside effect may have changed the task's state."""
    ticked: bool = False
    """A tick may have."""

    def add(self, effects: Iterable[Effect]) -> None:
        """Take effects, in order."""
        for effect in effects:
            self.effects.append(effect)
            if isinstance(effect, Emit | DeadLetter):
                self.outputs = True


@dataclass(frozen=True, slots=True)
class Behind:
    """Keys of the rows behind a block's first ones."""

    keys: Rows
    skipped: int

    def key(self, row: int) -> bytes | None:
        """The row's Kafka key."""
        return self.keys.key(row + self.skipped)


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
        self._block: Block | None = None
        self._row = 0
        """Of the block: the first that is not worked yet."""
        self._batch: Batch | None = None

    def sought(self, numbers: Mapping[str, int]) -> None:
        """Blocks of these seeks, by topic, are ours."""
        self._seeks = numbers

    def accept(self, block: Block) -> bool:
        """Take a block in, to be handed out by `cut`; False where it is of an earlier seek or has no rows.

        Raises `Gap` where it does not begin where the last one ended.
        """
        topic = block.topic
        if block.seek != self._seeks.get(topic):
            return False
        if block.start != self.expected[topic]:
            raise Gap(f"{topic}/{self._partition}: expected offset {self.expected[topic]}, got {block.start}")
        self.expected[topic] = block.next_offset
        self.held.add(self.letters(block))
        if not len(block):
            self.next[topic] = block.next_offset
            return False
        self._block, self._row = block, 0
        return True

    @property
    def block(self) -> Block | None:
        """The block of which rows are left to be worked."""
        return self._block

    @property
    def row(self) -> int:
        """Its first row that is not worked yet."""
        return self._row

    def cut(self, stop: int) -> Batch:
        """The block's rows from the first unworked one up to `stop` as a batch, which is then in hand."""
        assert self._block is not None
        self._batch = self.piece(self._row, stop)
        self.idle.clear()
        return self._batch

    def letters(self, block: Block) -> list[DeadLetter]:
        """Dead letters of the stored batches that cannot be read; none for a block of an earlier seek."""
        if block.seek != self._seeks.get(block.topic):
            return []
        return [self._letter(block.topic, spoiled) for spoiled in block.spoiled]

    def piece(self, row: int, stop: int) -> Batch:
        """Rows of the block as a batch."""
        block = self._block
        assert block is not None
        whole = row == 0 and stop == len(block)
        next_offset = block.next_offset if stop == len(block) else int(block.offsets[stop])
        return Batch(
            self._options.name(block.topic),
            self._partition,
            block.values if whole else block.values[row:stop],
            block.offsets if whole else block.offsets[row:stop],
            block.timestamps if whole else block.timestamps[row:stop],
            next_offset,
            block.keys if whole else Behind(block.keys, row),
            block.headed if whole else {r - row: h for r, h in block.headed.items() if row <= r < stop},
            max(0, block.end - next_offset),
        )

    def set_aside(self, stop: int, step: str, reason: str, detail: str) -> None:
        """The block's rows up to `stop` become dead letters."""
        block = self._block
        assert block is not None
        topic = self._options.name(block.topic)
        self.held.add(
            DeadLetter(
                topic,
                self._partition,
                int(block.offsets[row]),
                step,
                reason,
                detail,
                block.keys.key(row),
                block.values[row],
                int(block.timestamps[row]),
                block.headed.get(row, ()),
            )
            for row in range(self._row, stop)
        )
        self.held.rows += stop - self._row
        self._passed(block.next_offset if stop == len(block) else int(block.offsets[stop]), stop)

    def holds(self, batch: Batch) -> bool:
        """Whether the agent has this batch in hand."""
        return self._batch is batch

    def finish(self, batch: Batch, effects: Iterable[Effect]) -> None:
        """The batch in hand is worked. `effects` may be a generator, which is run here."""
        self.held.add(effects)
        self.held.rows += len(batch)
        self._passed(batch.next_offset, self._row + len(batch))
        self._batch = None
        self.idle.set()

    def _passed(self, next_offset: int, stop: int) -> None:
        block = self._block
        assert block is not None
        self.next[block.topic] = next_offset
        self._row = stop
        if stop == len(block):
            self._block = None

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

"""A task from the log: fence the owner before, read the state to its end, find where to go on, refuse what does not fit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import TopicPartition

from core.task import Task, TaskSpec
from transport.checkpoint import Committer
from transport.metrics import Metrics
from transport.options import Options
from transport.phases import Mark, Phase, Phases
from transport.source import Source
from transport.state import (
    POSITIONS,
    Positions,
    StateFormatError,
    StateReader,
    decode_positions,
    newer_state,
    positions_key,
)
from transport.surroundings import REAL, Surroundings

END_TRIES = 10
END_PAUSE_S = 0.5


class LogLost(Exception):
    """The log starts after, or ends before, the position of the state. Never jumped over."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A task as its last checkpoint left it."""

    task: Task
    next: dict[str, int]
    """Next offset by topic, with prefix."""
    partitions: int
    number: int
    """Of the last checkpoint; where there was none, what the first one counts on from."""


class Recovery:
    """Recovers the task of one partition."""

    def __init__(
        self,
        spec: TaskSpec,
        partition: int,
        options: Options,
        metrics: Metrics,
        source: Source,
        around: Surroundings = REAL,
        mark: Mark | None = None,
    ) -> None:
        self._spec = spec
        self._partition = partition
        self._options = options
        self._metrics = metrics
        self._source = source
        self._around = around
        self._mark = mark or Phases(None).of("")

    async def run(self, committer: Committer | None) -> Recovered:
        """Everything up to the seek. The committer is started first, so that nobody else can write from then on.

        Raises `LogLost` or `StateFormatError`, which say the next move, or what Kafka raises.
        """
        spec, options = self._spec, self._options
        count = await self._partition_count()
        task = spec.make(self._partition)
        if committer is not None and spec.state_topic is not None:
            self._mark.set(Phase.FENCING)
            await committer.start()
            self._mark.set(Phase.LOADING)
            positions = await self._load(task, options.topic(spec.state_topic), count)
            found: Mapping[str, int] = positions.next if positions is not None else {}
            number = positions.number if positions is not None else 0
            number = number or int(self._around.wall() * 1000)
        elif spec.positions is not None:
            found, number = await spec.positions(self._partition), 0
        else:
            raise TypeError(f"{spec.role}|{spec.group}: a task without a state topic needs `positions`")
        task.loaded()
        self._mark.set(Phase.SEEKING)
        return Recovered(task, await self._starting_points(found), count, number)

    async def _partition_count(self) -> int:
        counts = {topic: await self._source.partition_count(self._options.topic(topic)) for topic in self._spec.topics}
        missing = [topic for topic, count in counts.items() if not count]
        if missing:
            raise StateFormatError(f"topics {missing} do not exist: run `uptake topics create`")
        if len(set(counts.values())) > 1:
            raise StateFormatError(
                f"topics of one task have different partition counts, {counts}: run `uptake topics resize`"
            )
        return next(iter(counts.values()))

    async def _load(self, task: Task, state_topic: str, count: int) -> Positions | None:
        mine = positions_key(self._spec.group)
        positions: Positions | None = None
        async with StateReader(
            self._options.bootstrap,
            state_topic,
            self._partition,
            security=self._options.security,
            around=self._around,
        ) as reader:
            trouble: Exception | None = None
            async for key, value in reader.records():
                if not key.startswith(POSITIONS):
                    trouble = trouble or _load(task, key, value)
                elif key == mine and value is not None:
                    positions = decode_positions(value)
        # Positions stand behind the records they speak of: rows of a newer format may have failed to load before that is known.
        if positions is not None and positions.state > self._spec.state_format:
            raise newer_state(f"rows of format {positions.state}", self._spec.state_format)
        if trouble is not None:
            raise trouble
        if positions is not None and positions.partitions != count:
            raise StateFormatError(
                f"the state was made with {positions.partitions} partitions, the topics have {count}: "
                "run `uptake topics resize`"
            )
        return positions

    async def _starting_points(self, found: Mapping[str, int]) -> dict[str, int]:
        """Where to go on in each topic; the log's first offset where nothing was read yet."""
        tps = [TopicPartition(self._options.topic(topic), self._partition) for topic in self._spec.topics]
        bounds = await self._source.bounds(tps)
        names = {tp: self._options.name(tp.topic) for tp in tps}
        for _ in range(END_TRIES):
            if all(found.get(names[tp], 0) <= bounds[tp][1] for tp in tps):
                break
            # A new leader may not know yet how far its followers are: an end in front of us is believed only if it stays.
            await asyncio.sleep(END_PAUSE_S)
            bounds = await self._source.bounds(tps)
        points: dict[str, int] = {}
        for tp in tps:
            first, end = bounds[tp]
            name = names[tp]
            position = found.get(name, first)
            if position < first or position > end:
                missing = (position, first) if position < first else (end, position)
                self._metrics.count("uptake_log_range_lost_total", missing[1] - missing[0], (self._spec.role, name))
                raise LogLost(
                    f"{tp.topic}/{tp.partition}: the state stands at offset {position}, the log holds {first} to {end}; "
                    f"rows {missing[0]} to {missing[1] - 1} are lost. Restore the topic, or run `uptake reset` to "
                    "rebuild the state from what is there"
                )
            points[tp.topic] = position
        return points


def _load(task: Task, key: bytes, value: bytes | None) -> Exception | None:
    try:
        task.load(key, value)
    except Exception as error:
        return error
    return None

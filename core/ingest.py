"""INGEST: rows of topics that others own and shape → our events, under our keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from core.batch import Batch
from core.definitions import Catalogue
from core.effects import Count, DeadLetter, Effect, Emit
from core.sources import Mapped, Unmapped, map_row
from core.task import StateRecord, TaskSpec
from schemas.definitions import Source

STEP = "ingest"


class IngestTask:
    """One partition of one source topic. Keeps nothing but its position: the same row gives the same event."""

    def __init__(self, catalogue: Catalogue, topic: str) -> None:
        self._catalogue = catalogue
        self._topic = topic
        self._generation = -1
        self._sources: list[Source] = []

    def load(self, key: bytes, value: bytes | None) -> None:
        """There is no state."""

    def loaded(self) -> None:
        """Nothing to do."""

    def step(self, batch: Batch) -> Iterable[Effect]:
        """Each row, once for every source that reads its topic."""
        if self._generation != self._catalogue.generation:
            self._generation = self._catalogue.generation
            self._sources = sources_of(self._catalogue).get(self._topic, [])
        effects: list[Effect] = []
        mapped = dead = 0
        for row, value in enumerate(batch.values):
            offset = int(batch.offsets[row])
            for source in self._sources:
                result = self._map(source, value, f"{batch.topic}/{batch.partition}/{offset}")
                if isinstance(result, Mapped):
                    mapped += 1
                    effects.append(Emit(source.target, result.key, msgspec.json.encode(result.event)))
                else:
                    dead += 1
                    effects.append(self._dead(batch, row, result))
        if not self._sources and len(batch):
            effects.append(Count("uptake_rows_total", len(batch), (batch.topic, "unclaimed")))
        for outcome, n in (("accepted", mapped), ("dead", dead)):
            if n:
                effects.append(Count("uptake_rows_total", n, (batch.topic, outcome)))
        return effects

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """Nothing happens by time."""
        return ()

    def wake_at(self) -> int | None:
        """Never needed."""
        return None

    def drain(self) -> list[StateRecord]:
        """Only the position, which the checkpoint carries anyway."""
        return []

    def _map(self, source: Source, value: bytes | None, position: str) -> Mapped | Unmapped:
        if value is None:
            return Unmapped("null_value", "")
        try:
            row = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Unmapped("not_json", str(error))
        return map_row(source, row, position)

    def _dead(self, batch: Batch, row: int, why: Unmapped) -> DeadLetter:
        return DeadLetter(
            topic=batch.topic,
            partition=batch.partition,
            offset=int(batch.offsets[row]),
            step=STEP,
            reason=why.reason,
            detail=why.detail,
            key=batch.rows.key(row),
            value=batch.values[row],
            at=int(batch.timestamps[row]),
            headers=batch.headed.get(row, ()),
        )


def sources_of(catalogue: Catalogue) -> dict[str, list[Source]]:
    """Source definitions by the topic they read."""
    found: dict[str, list[Source]] = {}
    for source in sorted(catalogue.of(Source), key=lambda s: (s.tenant, s.name)):
        found.setdefault(source.topic, []).append(source)
    return found


def ingest_specs(catalogue: Catalogue) -> list[TaskSpec]:
    """One task group a topic, since each has a partition count of its own. They share a state topic, which holds positions."""

    def spec(topic: str) -> TaskSpec:
        return TaskSpec(
            role="meter",
            group=f"sources.{topic}",
            topics=(topic,),
            make=lambda _partition: IngestTask(catalogue, topic),
            state_topic="state.ingest",
        )

    return [spec(topic) for topic in sorted(sources_of(catalogue))]

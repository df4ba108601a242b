"""A task that keeps its state outside Kafka, as the project role does: rows and position in one transaction of a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from core.batch import Batch
from core.effects import NOTHING, DeadLetter, Effect, Emit
from core.task import StateRecord, TaskSpec
from tests.sim.net import Net

TOPIC = "in.c"


def refuses(value: bytes | None) -> bool:
    """Every fourth sequence number."""
    first = (value or b"").split()[0]
    return first.isdigit() and int(first) % 4 == 0


class ReadModel:
    """The database: survives its workers. Repeating a batch, or a slower owner's older one, changes nothing."""

    def __init__(self, net: Net) -> None:
        self.rows: dict[tuple[int, int], bytes | None] = {}
        self.places: dict[int, int] = {}
        self._net = net

    async def positions(self, partition: int) -> Mapping[str, int]:
        found = await self._net.reliably(self.places.get, partition)
        return {} if found is None else {TOPIC: found}

    async def write(self, net: Net, batch: Batch) -> None:
        partition = batch.partition
        rows = {(partition, int(offset)): value for offset, value in zip(batch.offsets, batch.values, strict=True)}

        def transaction() -> None:
            self.rows.update(rows)
            self.places[partition] = max(self.places.get(partition, 0), batch.next_offset)

        await net.reliably(transaction)

    def refused(self, batch: Batch) -> list[DeadLetter]:
        """Rows that the model will not take."""
        return [
            DeadLetter(
                batch.topic, batch.partition, offset, "outside", "refused", "planted", batch.rows.key(row), value, 0
            )
            for row, (offset, value) in enumerate(zip(batch.offsets.tolist(), batch.values, strict=True))
            if refuses(value)
        ]

    def told(self, batch: Batch) -> list[Effect]:
        """An outcome to write, outside any transaction: at least once."""
        return [Emit("told", None, b"%d" % batch.next_offset, batch.partition)]


class Outside:
    """The task: keeps nothing."""

    def __init__(self, partition: int) -> None:
        self.partition = partition

    def load(self, key: bytes, value: bytes | None) -> None:
        raise AssertionError("there is no state topic")

    def loaded(self) -> None:
        pass

    def step(self, batch: Batch) -> Iterable[Effect]:
        return NOTHING

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        return NOTHING

    def wake_at(self) -> int | None:
        return None

    def drain(self) -> list[StateRecord]:
        return []


def spec(model: ReadModel) -> TaskSpec:
    """Positions come from the database."""
    return TaskSpec("sim", "outside", (TOPIC,), Outside, None, model.positions)

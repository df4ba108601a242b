"""What answers are made of: the read model, DECIDE's state as its last checkpoints have it, and the newest rows of logs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
import orjson

from app.kafka import Record, bootstrap, consumer, partitions_of, security_of
from app.settings import Settings
from app.store import Store
from core.decide.signals import SignalsTask
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.meter.keys import partition_of
from core.meter.task import MeterTask
from core.predict.watch import Stands
from core.sources import moment
from schemas.cloudevents import PREFIX, CloudEventError, event_fields, from_headers, from_object
from schemas.definitions import Prediction, Rule, Workflow
from schemas.envelope import key
from schemas.registers import Signal
from transport.state import read_state

MOST_ROWS: Final = 200_000
"""Newest rows of one partition that are looked through for a subject's."""
T = TypeVar("T", RegistersTask, SignalsTask, MeterTask)
_signal = msgspec.json.Decoder(Signal).decode


class CannotTell(Exception):
    """The question does not name one thing; the message names the next move."""


@dataclass(frozen=True, slots=True)
class Question:
    """Why this, for that subject, then."""

    tenant: str
    subject: str
    """`kind:name`."""
    asked: Rule | Workflow
    product: str | None = None
    at: int | None = None
    """Event time; None: now."""

    @property
    def kind(self) -> str:
        """Of the subject."""
        return self.subject.partition(":")[0]

    @property
    def name(self) -> str:
        """Of the subject."""
        return self.subject.partition(":")[2]

    @property
    def until(self) -> int:
        """Nothing later is looked at."""
        return self.at if self.at is not None else (1 << 53) - 1


@dataclass(frozen=True, slots=True)
class Tail:
    """A subject's rows among the newest of their partition, oldest first."""

    rows: list[Record]
    since: int | None
    """Broker time of the oldest row looked at; None: of none."""
    whole: bool
    """Whether that was all that the topic still holds."""


class Sources:
    """Reads for one question. Raises `NoKafka`, `MissingTopic`, and what the read model raises."""

    def __init__(self, settings: Settings, store: Store, catalogue: Catalogue) -> None:
        self.settings, self.store, self.catalogue = settings, store, catalogue

    async def registers(self, tenant: str, product: str) -> RegistersTask:
        """DECIDE's state of the product."""
        partition = partition_of(key(tenant, product), self.settings.partitions)
        task = RegistersTask(partition, self.settings.partitions, self.catalogue)
        return await self._filled(task, "state.decide.registers", partition)

    async def signals(self, tenant: str, subject: str) -> SignalsTask:
        """DECIDE's state of the subject."""
        partition = partition_of(key(tenant, subject), self.settings.partitions)
        task = SignalsTask(partition, self.settings.partitions, self.catalogue)
        return await self._filled(task, "state.decide.signals", partition)

    async def standing(self, tenant: str, product: str, user: str, prediction: Prediction) -> Stands | None:
        """Where a user's probability stands by METER's last checkpoint; None where nobody asks about them."""
        partition = partition_of(f"{tenant}|{user}".encode(), self.settings.partitions)
        task = MeterTask(partition, self.settings.partitions, self.catalogue)
        filled = await self._filled(task, "state.meter", partition)
        return filled.predictions.stands(tenant, product, user, prediction)

    async def tail(self, topic: str, wanted: bytes) -> Tail:
        """The rows with this key among the newest of its partition."""
        number = partition_of(wanted, self.settings.partitions)
        place = next(p for p in await partitions_of(self.settings, [topic]) if p.partition == number)
        async with consumer(self.settings) as made:
            made.assign([place])
            begin = (await made.beginning_offsets([place]))[place]
            end = (await made.end_offsets([place]))[place]
            start = max(begin, end - MOST_ROWS)
            made.seek(place, start)
            rows: list[Record] = []
            since = None
            while await made.position(place) < end:
                for found in (await made.getmany(place, timeout_ms=200)).get(place, ()):
                    since = found.timestamp if since is None else since
                    if found.offset < end and found.key == wanted:
                        said = (topic, number, found.offset, found.timestamp, found.key, found.value, found.headers)
                        rows.append(Record(*said))
        return Tail(rows, since, start == begin)

    async def _filled(self, task: T, topic: str, partition: int) -> T:
        settings = self.settings
        records = [
            record
            async for record in read_state(
                bootstrap(settings), settings.topic(topic), partition, security=security_of(settings)
            )
        ]

        def build() -> T:
            for at, value in records:
                task.load(at, value)
            task.loaded()
            return task

        return await asyncio.to_thread(build)  # many products, or many subjects: not on the loop that answers requests


def signals_of(tail: Tail) -> Iterator[Signal]:
    """The signals among the rows; what is none is skipped."""
    for row in tail.rows:
        try:
            yield _signal(row.value or b"")
        except msgspec.MsgspecError:
            continue


def events_of(tail: Tail) -> Iterator[tuple[int, dict[str, Any]]]:
    """(event time, fields) of events as rules see them, CloudEvents too; what cannot be read is skipped, as METER sets it aside."""
    for row in tail.rows:
        try:
            fields = _fields(row)
            at = fields.get("occurred_at")
            when = moment(at, "rfc3339" if isinstance(at, str) else "ms")
        except (CloudEventError, ValueError):
            continue
        yield when, {**fields, "occurred_at": when, "at": when}


def _fields(row: Record) -> dict[str, Any]:
    if any(name.startswith(PREFIX) for name, _ in row.headers):
        return dict(event_fields(from_headers(row.headers, row.value)))
    body = orjson.loads(row.value or b"")
    if not isinstance(body, dict):
        raise ValueError("no object")
    return dict(event_fields(from_object(body))) if "specversion" in body else body

"""Dead letters in Kafka: reading those that are asked for, and sending them again.

A redrive is bounded (it ends where `dead-letters` ended when it began), throttled, and exclusive: its producer has one
transactional id, so a second redrive fences the first. A row and the record of who sent it again (topic `redrives`) are in one
transaction, and that record is what keeps a letter from being sent twice.
"""

from __future__ import annotations

import asyncio
import heapq
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from pydantic import ValidationError

from app.definitions import load
from app.kafka import partition_counts, producer, read, shown
from app.settings import Settings
from core.forgetting import Forgetting
from core.letters import Filter, Letter, read_letter, refusal, replay_headers
from schemas.delivery import DeadLetter, Redrive
from schemas.envelope import derived_id
from schemas.topics import BY_NAME
from transport.checkpoint import Fenced, transact

MOST_REPLAYS: Final = 2
BATCH: Final = 200
"""Letters of one transaction, at most; and no more than a second's worth."""
TRANSACTION_MS: Final = 30_000
_NEVER_AN_ORIGIN: Final = ("dead-letters", "redrives")
Clock = Callable[[], int]
Ends = dict[TopicPartition, int]
"""Where a partition ends behind the rows that were sent to it."""


class Overtaken(RuntimeError):
    """Another redrive began while this one ran; the message says how far it came."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to send again, and how."""

    wanted: Filter
    by: str
    rate: float
    """Letters a second."""
    most_replays: int = MOST_REPLAYS
    """Of one record, over its life."""
    limit: int | None = None
    """Of this call."""
    dry: bool = False
    """Count, and send nothing."""
    sources: frozenset[str] = frozenset()
    """Topics of others, which carry no prefix of ours."""


@dataclass(slots=True)
class Redriven:
    """What became of the letters that were asked for."""

    run: str
    matched: int = 0
    redriven: int = 0
    """Sent again; with `dry`, those that would be."""
    refused: Counter[str] = field(default_factory=Counter)
    """By reason (`core.letters.Refusal`)."""
    left: int = 0
    """Beyond the limit: another call sends them."""

    def plain(self, order: Order) -> dict[str, Any]:
        """As the command line and the API tell it."""
        return {**asdict(self), "refused": dict(self.refused), "dry_run": order.dry}


async def letters(settings: Settings, wanted: Filter) -> AsyncIterator[Letter]:
    """The letters that stand in the topic now, in order within a partition, without those about subjects to be forgotten.
    Raises `NoKafka`, `MissingTopic`.
    """
    forgotten = Forgetting(await load(settings))
    async with aclosing(read(settings, ["dead-letters"])) as records:
        async for r in records:
            letter = read_letter(r.key, r.value, r.headers, r.timestamp, r.partition, r.offset)
            if wanted.takes(letter) and not forgotten.concerns(letter.key, letter.value):
                yield letter


async def redrives(settings: Settings, tenant: str | None = None) -> AsyncIterator[Redrive]:
    """Who sent what again, as far as it is kept. With a tenant: of its letters. Raises `NoKafka`, `MissingTopic`."""
    async with aclosing(read(settings, ["redrives"])) as records:
        async for record in records:
            try:
                found = Redrive.model_validate_json(record.value or b"")
            except ValidationError:
                continue  # not ours
            if tenant in (None, found.tenant):
                yield found


async def newest_redrives(settings: Settings, tenant: str | None, limit: int) -> list[Redrive]:
    """The last of them, oldest first; no more than `limit` are held. Raises as `redrives`."""
    kept: list[tuple[int, str, int, Redrive]] = []
    number = 0
    async for record in redrives(settings, tenant):
        number += 1
        heapq.heappush(kept, (record.at, record.id, number, record))
        if len(kept) > limit:
            heapq.heappop(kept)
    return [record for *_, record in sorted(kept, key=lambda entry: entry[:3])]


async def redrive(
    settings: Settings, order: Order, clock: Clock, told: Callable[[Redriven], None] = lambda _: None
) -> Redriven:
    """Send letters again: their original key, bytes and headers, to the topic and partition they came from.

    `told` is called after every transaction. Raises `Overtaken`, `NoKafka`, `MissingTopic` or what Kafka raises; what was
    told by then is sent, nothing else is.
    """
    made = Redriven(run=secrets.token_hex(8))
    if order.dry:
        await _work(settings, order, made, None, clock, told)
        return made
    # First the producer, which ends a transaction somebody left open, then the reading: what it left is then seen.
    async with producer(
        settings, transactional_id=f"{settings.topic_prefix}redrive", max_batch_size=768 << 10
    ) as sender:
        try:
            ends = await _work(settings, order, made, sender, clock, told)
        except Fenced as error:
            raise Overtaken(
                f"another redrive began meanwhile and ended this one after {made.redriven} letters; one at a time: "
                "let it finish, then repeat this call, which skips what was sent"
            ) from error
    await shown(settings, ends)
    return made


async def _work(
    settings: Settings,
    order: Order,
    made: Redriven,
    sender: AIOKafkaProducer | None,
    clock: Clock,
    told: Callable[[Redriven], None],
) -> Ends:
    before = {(r.letter_partition, r.letter_offset) async for r in redrives(settings)}
    counts: dict[str, int] = {}
    ends: Ends = {}
    waiting: list[Letter] = []
    size = max(1, min(BATCH, int(order.rate)))
    pace = Pace(order.rate)
    async for letter in letters(settings, order.wanted):
        made.matched += 1
        if letter.topic not in counts:
            counts[letter.topic] = await _partitions(settings, order, letter.topic)
        why = refusal(
            letter, most=order.most_replays, redriven=lambda one: one.place in before, partitions=lambda t: counts[t]
        )
        if why is not None:
            made.refused[why] += 1
        elif order.limit is not None and made.redriven + len(waiting) >= order.limit:
            made.left += 1
        elif sender is None:
            made.redriven += 1
        else:
            waiting.append(letter)
            if len(waiting) >= size:
                ends |= await _send(settings, order, made, sender, waiting, pace, clock)
                told(made)
                waiting = []
    if waiting and sender is not None:
        ends |= await _send(settings, order, made, sender, waiting, pace, clock)
        told(made)
    return ends


async def _send(
    settings: Settings,
    order: Order,
    made: Redriven,
    sender: AIOKafkaProducer,
    waiting: list[Letter],
    pace: Pace,
    clock: Clock,
) -> Ends:
    await asyncio.sleep(pace.wait(asyncio.get_running_loop().time(), len(waiting)))
    ends = await transact(sender, _transaction(settings, order, made.run, sender, waiting, clock()), TRANSACTION_MS)
    made.redriven += len(waiting)
    return ends


async def _transaction(
    settings: Settings, order: Order, run: str, sender: AIOKafkaProducer, waiting: Sequence[Letter], now: int
) -> Ends:
    await sender.begin_transaction()
    sent = []
    for letter in waiting:
        topic, headers = _full(settings, order, letter.topic), replay_headers(letter)
        sent.append(
            await sender.send(topic, letter.value, key=letter.key, partition=letter.origin_partition, headers=headers)
        )
        record = _record(letter, run, order.by, now)
        value = record.model_dump_json().encode()
        sent.append(await sender.send(settings.topic("redrives"), value, key=redrive_key(record)))
    ends: Ends = {}
    for result in await asyncio.gather(*sent, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        place = TopicPartition(result.topic, result.partition)
        ends[place] = max(ends.get(place, 0), result.offset + 1)
    await sender.commit_transaction()
    return ends


class Pace:
    """Lets `rate` letters a second through, evenly over the whole run: nothing that was not used is saved up."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next = 0.0

    def wait(self, now: float, letters: int) -> float:
        """Seconds until these letters may go; they count as gone then."""
        at = max(now, self._next)
        self._next = at + letters / self._rate
        return at - now


async def _partitions(settings: Settings, order: Order, topic: str) -> int:
    """Partitions of an origin; 0 where there is no such topic, or none that a letter may name."""
    if topic in _NEVER_AN_ORIGIN or not (topic in BY_NAME or topic in order.sources):
        return 0
    full = _full(settings, order, topic)
    return (await partition_counts(settings, [full])).get(full, 0)


def _full(settings: Settings, order: Order, topic: str) -> str:
    return topic if topic in order.sources else settings.topic(topic)


def redrive_id(partition: int, offset: int) -> str:
    """The id of the record that the letter of this place was sent again."""
    return derived_id("redrive", str(partition), str(offset))


def redrive_key(record: Redrive) -> bytes:
    """Its key in the topic `redrives`."""
    return f"{record.tenant or ''}|{record.letter_partition}@{record.letter_offset}".encode()


def _record(letter: Letter, run: str, by: str, at: int) -> Redrive:
    return Redrive(
        id=redrive_id(letter.partition, letter.offset),
        run=run,
        by=by,
        at=at,
        tenant=letter.tenant,
        letter_partition=letter.partition,
        letter_offset=letter.offset,
        step=letter.step,
        reason=letter.reason,
        topic=letter.topic,
        partition=letter.origin_partition,
        offset=letter.origin_offset,
        replays=letter.replays + 1,
    )


def shown_letter(letter: Letter) -> DeadLetter:
    """The word that people and the API see; the bytes as text, with replacement."""
    return DeadLetter(
        step=letter.step,
        reason=letter.reason,
        detail=letter.detail,
        topic=letter.topic,
        partition=letter.origin_partition,
        offset=letter.origin_offset,
        group=letter.group,
        replays=letter.replays,
        at=max(0, letter.at),
        key=None if letter.key is None else letter.key.decode(errors="replace"),
        value=None if letter.value is None else letter.value.decode(errors="replace"),
    )

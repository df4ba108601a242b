"""Topics of somebody else's that were compacted: most offsets are gone. Filled before the run, read from some time in it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import orjson
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from app import definitions as defined
from app.compare import Difference
from app.kafka import MissingTopic, NoKafka, admin, producer, read
from app.settings import Settings
from app.simulate.plan import Plan
from schemas.definitions import Source

_PATIENTLY = AsyncRetrying(
    retry=retry_if_exception_type((KafkaError, NoKafka, MissingTopic, OSError, TimeoutError)),
    wait=wait_fixed(0.5),
    stop=stop_after_delay(60),
    reraise=True,
)
"""The other track of faults may have stopped the very broker that is asked."""
PRODUCT = "crm"
KEYS, ROUNDS = 400, 5
PARTITIONS = 2
ROUND_S = 1.2
CONFIG = {
    "cleanup.policy": "compact",
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1000",
    "delete.retention.ms": "100",
}


@dataclass(slots=True)
class Compacted:
    """Some such topics. `fill` makes them, `read_next` has the system read one more of them."""

    settings: Settings
    plan: Plan
    topics: list[str] = field(default_factory=list)
    """Without the prefix."""
    given: list[str] = field(default_factory=list)
    """Those that the system was told to read."""

    @property
    def product(self) -> tuple[str, str]:
        """(tenant, product) of their rows."""
        return self.plan.products[0].tenant, PRODUCT

    async def fill(self, count: int) -> None:
        """Write each key several times over, in segments of their own, so that the cleaner takes all but the last."""
        self.topics = [f"crm.{n}" for n in range(count)]
        async with admin(self.settings) as client:
            await client.create_topics(
                [
                    NewTopic(self.settings.topic(t), PARTITIONS, -1, replica_assignments={}, topic_configs=CONFIG)
                    for t in self.topics
                ]
            )
        await asyncio.sleep(ROUND_S)
        async with producer(self.settings) as made:
            for turn in range(ROUNDS):
                sent = [
                    await made.send(self.settings.topic(topic), self._row(key, turn), key=f"c{key}".encode())
                    for topic in self.topics
                    for key in range(KEYS if turn < ROUNDS - 1 else KEYS // 4)
                ]
                await asyncio.gather(*sent)
                await asyncio.sleep(ROUND_S)

    async def read_next(self) -> str | None:
        """Define one more of them as a source; says how much of it is gone. None: there is no more."""
        if len(self.given) == len(self.topics):
            return None
        topic = self.topics[len(self.given)]
        self.given.append(topic)
        there: int = await _PATIENTLY(self._count, topic)
        source = Source(
            name=topic.replace(".", "-"),
            topic=self.settings.topic(topic),
            target="events.usage",
            fields={"user": "who", "occurred_at": "at"},
            constants={"tenant": self.product[0], "product": PRODUCT, "feature": "contact"},
            time_unit="ms",
            id_from="position",
        )
        await _PATIENTLY(defined.publish, self.settings, [source])
        gone = KEYS * (ROUNDS - 1) + KEYS // 4 - there
        return f"{topic}: {there} rows left, {gone} offsets are holes"

    async def _count(self, topic: str) -> int:
        return len([record async for record in read(self.settings, [topic])])

    async def compare(self) -> Difference:
        """Every row that is left stands among our events, once, and none of a topic does twice."""
        out = Difference("rows of compacted topics")
        prefixes = tuple(f"{self.settings.topic(topic)}/" for topic in self.given)
        events: Counter[str] = Counter()
        async for record in read(self.settings, ["events.usage"]):
            if b'"crm"' in (record.value or b""):
                event = orjson.loads(record.value or b"")
                if event.get("product") == PRODUCT and event["id"].startswith(prefixes):
                    events[event["id"]] += 1
        left = [
            f"{self.settings.topic(r.topic)}/{r.partition}/{r.offset}" async for r in read(self.settings, self.given)
        ]
        for ident in left:
            out.check(ident, events[ident], 1)
        for ident, times in events.items():
            if times > 1:
                out.check(ident, times, 1)
        return out

    def _row(self, key: int, turn: int) -> bytes:
        at = self.plan.start_ms + (self.plan.span_ms * (key * ROUNDS + turn)) // (KEYS * ROUNDS)
        return orjson.dumps({"who": f"c{key}", "at": at, "turn": turn})

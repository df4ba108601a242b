"""A live system in memory: a log, and the real tasks that read it in batches of any size, as `transport` would feed them."""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np

from app.archive.files import pack
from app.backtest.metering import Rows
from app.backtest.running import simulated
from core.archive import TOPICS, Chunk, Keeper
from core.batch import Batch
from core.decide.signals import SignalsTask
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Effect, Emit
from core.meter import others
from core.meter import task as hot
from core.meter.keys import partition_of
from core.task import Task
from core.workflows.task import RunsTask
from schemas.commands import Command
from schemas.definitions import Definition, head_key
from schemas.registers import SOURCES

Record = tuple[int, bytes | None, bytes]
"""Broker time, key, value."""
OUTCOMES: Final[dict[str, tuple[str, int]]] = {
    "commands.success": ("delivered", 1_200_000),
    "commands.marketing": ("rejected", 1_800_000),
    "commands.engineering": ("suppressed", 5),
    "commands.product": ("suppressed", 5),
}
"""Domain → what becomes of its commands, and how long after."""


class Live:
    """`partitions` of every topic. The broker's clock is `now`; whoever writes moves it on."""

    def __init__(self, partitions: int, seed: int, now: int) -> None:
        self.partitions, self.now = partitions, now
        self.random = Random(seed)
        self.log: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self.definitions: list[Record] = []
        self.catalogue = Catalogue()
        self._delivered: dict[tuple[str, int], int] = defaultdict(int)
        self._answers: list[tuple[int, bytes, bytes]] = []
        self._read: dict[tuple[int, str], int] = defaultdict(int)
        self._tasks: list[tuple[int, Sequence[str], Task]] = []
        for p in range(partitions):
            self._tasks += [
                (p, hot.TOPICS, hot.MeterTask(p, partitions, self.catalogue)),
                (p, others.TOPICS, others.OthersTask(p, partitions, self.catalogue)),
                (p, ("meter.registers",), RegistersTask(p, partitions, self.catalogue, sources=SOURCES)),
                (p, ("signals",), SignalsTask(p, partitions, self.catalogue)),
                (
                    p,
                    ("signals", "detections", "receipts", "meter.registers"),
                    RunsTask(p, partitions, self.catalogue, SOURCES),
                ),
            ]

    def define(self, *definitions: Definition) -> None:
        """Publish, and let everybody see it."""
        for definition in definitions:
            key, value = head_key(definition), definition.model_dump_json().encode()
            self.definitions.append((self.now, key, value))
            self.catalogue.apply(key, value)
        self.now += 1

    def write(self, topic: str, key: bytes | None, value: bytes, partition: int | None = None) -> None:
        """Append a record."""
        place = partition if partition is not None else partition_of(key or b"", self.partitions)
        self.log[topic, place].append((self.now, key, value))

    def event(self, topic: str, about: str, body: Mapping[str, Any]) -> None:
        """Append an event and move the broker's clock on to when it happened."""
        self.now = max(self.now, int(body["occurred_at"]))
        self.write(topic, f"acme|{about}".encode(), json.dumps({"tenant": "acme", "product": "shop", **body}).encode())

    def deliver(self) -> None:
        """Receipts of the commands that were given since the last call, as `answer` has them when their time has come: `success` is
        delivered after 20 minutes, `marketing` refused after half an hour's retries, the others wanted by nobody.
        """
        for (topic, p), records in list(self.log.items()):
            if topic.startswith("commands."):
                for at, key, value in records[self._delivered[topic, p] :]:
                    status, after = OUTCOMES[topic]
                    receipt = simulated(Command.model_validate_json(value), at + after).model_copy(
                        update={"status": status, "integration": "test"}
                    )
                    heapq.heappush(self._answers, (at + after, key or b"", receipt.model_dump_json().encode()))
                self._delivered[topic, p] = len(records)

    def answer(self, until: int) -> None:
        """Write the receipts whose time comes by then, each at its time."""
        self.deliver()
        while self._answers and self._answers[0][0] <= until:
            at, key, value = heapq.heappop(self._answers)
            self.now = max(self.now, at)
            self.write("receipts", key, value)
            self.work(tick=True)
            self.deliver()

    def work(self, tick: bool) -> None:
        """Every task reads what is there, in batches of any size, in any order; with `tick`, time passes where all is read."""
        busy = True
        while busy:
            busy = False
            for number in self.random.sample(range(len(self._tasks)), len(self._tasks)):
                p, topics, task = self._tasks[number]
                for topic in topics:
                    log, at = self.log[topic, p], self._read[number, topic]
                    if at < len(log):
                        stop = min(len(log), at + self.random.randint(1, 50))
                        self._read[number, topic] = stop
                        self._perform(task.step(batch(topic, p, log[at:stop], at)))
                        busy = True
            if not busy and tick:
                tick = False
                for later in (0, 300, 301, 302):
                    for number, (p, topics, task) in enumerate(self._tasks):
                        read = [(t, p) for t in topics if self._read[number, t] == len(self.log[t, p])]
                        self._perform(task.tick(self.now + later, read))
                busy = True

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Emit) and effect.value is not None:
                self.write(effect.topic, effect.key, effect.value, effect.partition)

    def sent(self) -> dict[str, dict[str, Any]]:
        """Commands by id."""
        found: dict[str, dict[str, Any]] = {}
        for (topic, _), records in self.log.items():
            for _, _, value in records if topic.startswith("commands.") else ():
                body = json.loads(value)
                assert body["id"] not in found
                found[body["id"]] = body
        return found

    def told(self, *fields: str) -> dict[str, tuple[Any, ...]]:
        """These fields of every command, by id."""
        return {id_: tuple(command[name] for name in fields) for id_, command in self.sent().items()}

    def archive(self, folder: Path, rows_a_file: int = 300) -> None:
        """The log as the role `archive` keeps it; some rows stand in two files, as after a crash."""
        for (topic, p), records in list(self.log.items()):
            if topic not in TOPICS or not records:
                continue
            whole, keeper = batch(topic, p, records, 0), Keeper()
            kept = [i for i in range(len(records)) if keeper.keep(whole, i)]
            for start in range(0, len(kept), rows_a_file):
                chunk = Chunk(topic, p)
                for i in kept[max(0, start - 7) : start + rows_a_file]:
                    chunk.add(i, *records[i])
                _put(folder, chunk)
        chunk = Chunk("definitions", 0)
        for i, record in enumerate(self.definitions):
            chunk.add(i, *record)
        _put(folder, chunk)


def batch(topic: str, partition: int, records: Sequence[Record], first: int) -> Batch:
    """Some records of a partition."""
    n = len(records)
    stamps = np.array([r[0] for r in records], np.int64)
    offsets = np.arange(first, first + n, dtype=np.int64)
    return Rows(topic, partition, offsets, stamps, [r[1] for r in records], [r[2] for r in records], {}).cut(0, n)


def _put(folder: Path, chunk: Chunk) -> None:
    path = folder / chunk.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack(chunk))

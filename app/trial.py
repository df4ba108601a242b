"""A trial: the real system on topics of its own, fed with a simulated log, watched until it has judged all of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from aiokafka import TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from app import definitions as defined
from app.kafka import admin, bootstrap, committed_of, consumer, ends_of, partitions_of, read
from app.probes import targets
from app.settings import Role, Settings
from app.simulate.encode import Encoded
from app.simulate.kafka import Log, Written, replay
from app.simulate.plan import Plan
from app.topics import create
from app.worker import Supervisor, worker_children
from schemas.definitions import Definition
from schemas.events import EVENTS
from schemas.topics import TOPICS

POLL_S = 0.3
QUIET_POLLS = 8
"""The system is done when for so many polls nothing waits anywhere and no output grows."""
_HEAR_CLOCKS: tuple[Role, ...] = ("decide", "orchestrate")
OUTPUTS = ("tables.adoption", "tables.health", "detections", "receipts", "dead-letters")


class TrialFailed(RuntimeError):
    """The system did not get to the end; the message says where it stood."""


@dataclass(slots=True)
class Trial:
    """A running trial. Made by `trial`."""

    settings: Settings
    supervisor: Supervisor
    plan: Plan
    kills: list[str] = field(default_factory=list)
    """Processes that were killed, with the rows that waited then."""

    async def write(self, chunks: Iterable[Encoded], progress: Callable[[Written, int], None]) -> Written:
        """Write the log. It is never marked as ended, so the last judged end is the plan's end."""
        async with Log(self.settings, marked=tuple(EVENTS)) as log:
            return await replay(
                log,
                chunks,
                name=self.plan.name,
                start_ms=self.plan.start_ms,
                end_ms=self.plan.end_ms,
                disorder_ms=self.plan.disorder_ms,
                act=True,
                products=[(product.tenant, product.name) for product in self.plan.products],
                end=False,
                progress=progress,
            )

    def start(self) -> None:
        """Start the workers."""
        self.supervisor.start()

    async def lags(self) -> dict[str, int] | None:
        """Rows that wait, by process; None while one of them is not ready."""
        found: dict[str, int] = {}
        for worker, (_, address) in targets(self.settings.run_dir / "targets").items():
            detail = await asyncio.to_thread(ask, f"http://{address}/readyz")
            if detail is None:
                return None
            found[worker] = int(detail["lag"])
        return found if len(found) == len(self.supervisor.children) else None

    async def settled(self, within_s: float, told: Callable[[str], None] = lambda text: None) -> None:
        """Wait until everything is judged. Raises `TrialFailed`.

        Clocks are told for ever, so registers have no end: what counts is what stood there when the last row was committed and no
        output had grown since.
        """
        loop = asyncio.get_running_loop()
        deadline, quiet, sizes, busy = loop.time() + within_s, 0, None, True
        told_by_then: dict[TopicPartition, int] = {}
        hear = [r for r in _HEAR_CLOCKS if any(c.name.startswith(f"{r}-") for c in self.supervisor.children)]
        while quiet < QUIET_POLLS:
            failing = asyncio.create_task(self.supervisor.wait())
            await asyncio.wait({failing}, timeout=POLL_S)
            if failing.done():
                failing.result()
                raise TrialFailed("the workers ended by themselves: see their logs in " + str(self.settings.log_dir))
            failing.cancel()
            lags, grown = await self.lags(), await self._sizes()
            # A process reports no lag while its last batch is still being worked: what is committed counts.
            left = await self.unread("meter", await self.ends(*EVENTS))
            if left or busy or grown != sizes:  # also once more when the last row is known to be committed
                told_by_then = await self.ends("meter.registers", "signals")
            busy = bool(left)
            for role in hear:
                left += await self.unread(role, told_by_then)
            told("starting" if lags is None else f"{sum(lags.values()):,} rows wait, {left:,} are not committed")
            waiting = any(n for worker, n in (lags or {}).items() if not worker.startswith(_HEAR_CLOCKS))
            quiet = quiet + 1 if lags is not None and not waiting and not left and grown == sizes else 0
            sizes = grown
            if loop.time() > deadline:
                raise TrialFailed(f"not done after {within_s:.0f} s; waiting rows: {lags}, outputs: {grown}")

    async def kill(self, times: int, seed: int, within_s: float, told: Callable[[str], None]) -> None:
        """`kill -9` a worker that many times, each while rows wait. Raises `TrialFailed` where none wait any more."""
        chance = np.random.default_rng(seed)
        roles = [c.name for c in self.supervisor.children]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while len(self.kills) < times:
            name = roles[len(self.kills) % len(roles)]
            lags = await self.lags()
            waiting = sum(lags.values()) if lags else 0
            if not waiting:
                if loop.time() > deadline:
                    raise TrialFailed(f"only {len(self.kills)} of {times} kills found rows waiting: use more events")
                await asyncio.sleep(0.02)
                continue
            await asyncio.sleep(chance.uniform(0, 0.6))
            lags = await self.lags() or {name: waiting}
            process = next(c.process for c in self.supervisor.children if c.name == name)
            if process is None or process.returncode is not None or not sum(lags.values()):
                continue
            os.kill(process.pid, signal.SIGKILL)
            self.kills.append(f"{name} with {sum(lags.values()):,} rows waiting")
            told(f"kill -9 {self.kills[-1]}")
            (self.settings.run_dir / "targets" / f"{name}.json").unlink(missing_ok=True)

    async def ends(self, *topics: str) -> dict[TopicPartition, int]:
        """Where these topics end now."""
        async with consumer(self.settings) as made:
            return await ends_of(made, await partitions_of(self.settings, topics))

    async def unread(self, role: Role, ends: Mapping[TopicPartition, int]) -> int:
        """Rows before these ends that are behind the positions of a role's last checkpoints."""
        left, told = 0, await committed_of(self.settings, f"{self.settings.topic_prefix}{role}")
        for place, end in ends.items():
            behind = end - (told[place].offset if place in told else 0)
            # Behind the last row of a transactional topic stands the mark of its commit.
            left += max(0, behind) if role == "meter" or behind > 2 else 0
        return left

    async def _sizes(self) -> tuple[int, ...]:
        async with consumer(self.settings) as made:
            places = await partitions_of(self.settings, OUTPUTS)
            ends = await ends_of(made, places)
        return tuple(ends[p] for p in places)

    async def rows_counted(self) -> dict[str, float]:
        """What became of the rows of the events topics, as the running workers count it: accepted, duplicate, dead …"""
        found: dict[str, float] = defaultdict(float)
        for _, address in targets(self.settings.run_dir / "targets").values():
            text = await asyncio.to_thread(_text, f"http://{address}/metrics?name[]=uptake_rows_total")
            for family in text_string_to_metric_families(text):
                for sample in family.samples if family.name == "uptake_rows" else ():
                    if sample.name == "uptake_rows_total":
                        found[sample.labels["outcome"]] += sample.value
        return dict(found)

    # --- what came of it ------------------------------------------------------------------------------------------

    async def table(self, name: str) -> dict[bytes, dict[str, Any]]:
        """Newest row of each key of a table."""
        rows: dict[bytes, dict[str, Any]] = {}
        async for record in read(self.settings, [f"tables.{name}"]):
            if record.key is not None and record.value is not None:
                rows[record.key] = orjson.loads(record.value)
        return rows

    async def records(self, *topics: str) -> list[dict[str, Any]]:
        """Every record of these topics."""
        return [orjson.loads(r.value) async for r in read(self.settings, topics) if r.value is not None]

    async def commands(self) -> list[dict[str, Any]]:
        """Every command."""
        return await self.records(*(t.name for t in TOPICS if t.name.startswith("commands.")))

    async def dead_letters(self) -> dict[str, list[tuple[str, ...]]]:
        """Reason → where each dead letter came from (topic, partition, offset)."""
        found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        async for record in read(self.settings, ["dead-letters"]):
            said = {name: text.decode() for name, text in record.headers}
            found[said["uptake-reason"]].append(
                tuple(said[f"uptake-{name}"] for name in ("topic", "partition", "offset"))
            )
        return dict(found)


@asynccontextmanager
async def trial(
    settings: Settings,
    plan: Plan,
    *,
    roles: Mapping[Role, int],
    definitions: Iterable[Definition],
    keep: bool = False,
) -> AsyncIterator[Trial]:
    """A system of its own on the cluster of `settings`: prefix, data directory, topics, definitions; workers not started.

    Everything is removed afterwards unless `keep`.
    """
    name = f"trial-{uuid.uuid4().hex[:8]}"
    own = settings.model_copy(
        update={
            "kafka": bootstrap(settings),
            "topic_prefix": f"{settings.topic_prefix}{name}.",
            "data_dir": Path(settings.data_dir) / name,
            "database_url": None,
            "metrics_port": 0,
        }
    )
    own.data_dir.mkdir(parents=True, exist_ok=True)
    await create(own)
    await defined.publish(own, definitions)
    supervisor = Supervisor(worker_children(own, roles), told=lambda who, text: None)
    made = Trial(own, supervisor, plan)
    try:
        yield made
    finally:
        await supervisor.stop()
        if not keep:
            async with admin(own) as client:
                await client.delete_topics([own.topic(t.name) for t in TOPICS])


def _text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own probe on loopback
        return str(answer.read().decode())


def ask(url: str, also_unready: bool = False) -> dict[str, Any] | None:
    """What a probe says; None where nobody answers to the end, or where it says no and that is not `also_unready` asked for."""
    try:
        try:
            answer = urllib.request.urlopen(url, timeout=2)  # noqa: S310 - our own probe on loopback
        except urllib.error.HTTPError as error:
            if not also_unready:
                return None
            answer = error
        with answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except (OSError, HTTPException, ValueError):  # killed in the middle of its answer, among others
        return None

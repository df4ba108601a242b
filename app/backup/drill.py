"""The disaster drill: a system in full work is backed up, destroyed, brought back and fed again; then everything is compared.

What must hold afterwards: every published figure is the fold of the log, the commands are the ones that the log before the
disaster implies, each once, and the outside world was sent nothing twice but what was sent between the cut and the disaster.
"""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import shutil
import signal
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import func, select

from app import compare
from app.backup import manifest as manifests
from app.backup.place import Place
from app.backup.restore import Restored, restore
from app.backup.run import Made, backup
from app.compare import Difference
from app.kafka import admin
from app.oracle.commands import ordered
from app.peaks import Peaks
from app.receiver import Receiver
from app.settings import Role, Settings
from app.simulate.encode import Encoded, Encoder
from app.simulate.kafka import Log
from app.simulate.order import chunks
from app.simulate.plan import Plan
from app.store import open_store
from app.store.tables import METADATA
from app.topics import existing
from app.trial import Trial, TrialFailed, trial
from app.verify import ends_of, judgeable, judged, rules
from app.worker import Supervisor, worker_children
from schemas.definitions import Connection, Definition
from schemas.topics import TOPICS

ROLES: Final[dict[Role, int]] = {"meter": 1, "decide": 1, "deliver": 1, "project": 1}
SECRET_VARIABLE: Final = "UPTAKE_SECRET_DRILL"  # noqa: S105 - the name of a variable
ARRIVE_WITHIN_S: Final = 60.0
Told = Callable[[str], None]


@dataclass(slots=True)
class Report:
    """What a drill came to."""

    rows: int = 0
    backups: list[Made] = field(default_factory=list)
    restored: Restored | None = None
    rpo_s: float = 0.0
    """From the cut of the last backup to the disaster."""
    rto_s: float = 0.0
    """From the begin of the restore to everything judged, delivered and in the read model again, what was sent again included."""
    lost_rows: int = 0
    """Rows written after the last backup, which producers sent again."""
    sent_before: int = 0
    """Deliveries that arrived before the disaster."""
    sent_in_gap: int = 0
    """Of these, after the last backup began: the only ones that may come twice."""
    sent_twice: int = 0
    peak_mb: float = 0.0
    """Resident memory of the drill itself at its most: it simulates, restores and compares."""
    workers: dict[str, float] = field(default_factory=dict)
    """The same of each worker, of before and after the disaster, in MB."""
    differences: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing was lost, nothing came twice beyond the RPO, and every figure is the fold's."""
        return (
            all(d.compared and not d.differing for d in self.differences)
            and self.sent_twice <= self.sent_in_gap
            and self.restored is not None
            and not self.restored.overtaken
        )

    def lines(self) -> list[str]:
        """For people."""
        found = [made.line() for made in self.backups]
        if self.restored is not None:
            r = self.restored
            found.append(
                f"restored {r.rows:,} rows and {r.model_rows:,} of the read model in {r.seconds:.1f} s; "
                f"{r.waiting:,} yet to be read, {r.dropped:,} behind the cut left out"
            )
        found.append(
            f"RPO {self.rpo_s:.1f} s ({self.lost_rows:,} of {self.rows:,} rows sent again), RTO {self.rto_s:.1f} s"
        )
        found.append(
            f"deliveries: {self.sent_before:,} before the disaster, {self.sent_in_gap:,} of them after the cut, "
            f"{self.sent_twice:,} came twice under the same id"
        )
        found.append(f"peak memory: {self.peak_mb:,.0f} MB the drill itself; {self._workers()}")
        for d in self.differences:
            found.append(f"{d.what}: {d.compared:,} compared, {d.differing:,} differences")
            found += [f"  {text}" for text in d.shown]
        found.append("nothing lost, nothing twice" if self.equal else "NOT equal")
        return found

    def table(self) -> str:
        """For `docs/verification.md`."""
        r = self.restored
        assert r is not None
        full, last = self.backups[0].manifest, self.backups[-1]
        compared = {d.what: d.compared for d in self.differences}
        figures = {
            "rows of the log": f"{self.rows:,}, of which {self.lost_rows:,} after the last backup",
            "full backup": f"{(full.finished - full.began) / 1000:.1f} s, {full.written:,} bytes, {full.rows:,} rows of all topics",
            "incremental backup": f"{(last.manifest.finished - last.manifest.began) / 1000:.1f} s, {last.manifest.written:,} bytes, "
            f"{last.new_rows:,} new rows; the cut took {last.cut_ms:,} ms",
            "restore": f"{r.seconds:.1f} s, {r.rows:,} rows and {r.model_rows:,} of the read model; {r.waiting:,} were "
            f"yet to be read, {r.dropped:,} behind the cut were left out",
            "RPO": f"{self.rpo_s:.1f} s",
            "RTO": f"{self.rto_s:.1f} s",
            "compared": f"{compared['adoption rows']:,} adoption rows, {compared['health rows']:,} health rows, "
            f"{compared['commands']:,} commands: {sum(d.differing for d in self.differences)} differences",
            "deliveries": f"{self.sent_before:,} had arrived before the disaster, {self.sent_in_gap:,} of them after the last "
            f"backup began; {self.sent_twice:,} came twice, under the same id",
            "peak memory": f"{self._workers()}; {self.peak_mb:,.0f} MB the drill itself (simulation, restore, comparison)",
        }
        return "| | |\n|---|---|\n" + "".join(f"| {name} | {text} |\n" for name, text in figures.items())

    def _workers(self) -> str:
        by_size = sorted(self.workers.items(), key=lambda found: -found[1])
        return ", ".join(f"{name} {mb:,.0f} MB" for name, mb in by_size)


async def drill(
    settings: Settings,
    plan: Plan,
    definitions: Iterable[Definition],
    *,
    url: str | None = None,
    minutes: int = 60,
    within_s: float = 1800.0,
    told: Told = lambda text: None,
) -> Report:
    """Run it on topics of its own. `url`: where the backups go; else a folder that goes away. Raises `TrialFailed`."""
    secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
    os.environ[SECRET_VARIABLE] = secret
    allowed = settings.model_copy(update={"allowed_hosts": [*settings.allowed_hosts, "127.0.0.1"]})
    with Receiver(secret) as receiver:
        connection = Connection(
            name="drill",
            integration="webhook",
            config={"url": receiver.url, "secret": {"env": SECRET_VARIABLE}},
            enabled=True,
        )
        known = [d for d in definitions if judgeable(d)]
        async with trial(allowed, plan, roles=ROLES, definitions=[*known, connection]) as made:
            folder = made.settings.data_dir.with_name(f"{made.settings.data_dir.name}-backups")
            place = Place(f"{url}/{made.settings.topic_prefix}" if url is not None else str(folder))
            try:
                async with Peaks(lambda: made.supervisor.children) as peaks:
                    report = await _Drill(made, plan, place, receiver, within_s, told).run(minutes)
                report.workers = dict(peaks.mb)
                return report
            finally:
                shutil.rmtree(folder, ignore_errors=True)


class _Drill:
    def __init__(self, made: Trial, plan: Plan, place: Place, receiver: Receiver, within_s: float, told: Told) -> None:
        self._made = made
        self._plan = plan
        self._place = place
        self._receiver = receiver
        self._within_s = within_s
        self._told = told
        self._report = Report()

    async def run(self, minutes: int) -> Report:
        report, made, place, settings = self._report, self._made, self._place, self._made.settings
        encoder = Encoder(self._plan)
        files = [encoder.encode(columns) for columns in chunks(self._plan)]
        half, most = len(files) // 2, len(files) * 3 // 4
        report.rows, report.lost_rows = sum(map(len, files)), sum(map(len, files[most:]))

        await self._send(files[:half], begin=True)
        made.start()
        await self._first(4)
        self._told("full backup, while the first half is worked")
        report.backups.append(await backup(settings, place))
        # The cut falls into a moment when half of what is in the log is not worked, and somebody recovers.
        _kill(made.supervisor, "meter", "decide")
        await self._send(files[half:most])
        self._told("incremental backup, while METER and DECIDE come back from a kill")
        arrived = len(self._receiver.received)
        report.backups.append(await backup(settings, place))
        await self._send(files[most:], end=True)
        await self._first(arrived + 4)
        _kill(made.supervisor, *ROLES)
        await made.supervisor.stop()
        self._told("disaster")
        disaster = time.time_ns() // 1_000_000
        report.rpo_s = (disaster - report.backups[-1].manifest.at) / 1000
        report.sent_before = len(self._receiver.received)
        report.sent_in_gap = report.sent_before - arrived
        repeated = self._receiver.repeated
        wanted, outcomes = await judged(settings)
        orders, _ = ordered(wanted.found, await rules(settings))
        await _destroy(settings)

        began = time.monotonic()
        self._told("restore")
        report.restored = await restore(settings, place, await manifests.load(place))
        await self._send(files[most:], end=True)
        made.supervisor = Supervisor(worker_children(settings, ROLES), told=lambda who, text: None)
        made.start()
        await made.settled(self._within_s, self._told)
        await self._arrived(len(orders))
        report.rto_s = time.monotonic() - began
        await made.supervisor.stop()
        report.sent_twice = self._receiver.repeated - repeated

        self._told("comparing")
        judge, after = await judged(settings)
        commands = await made.commands()
        report.differences = [
            compare.adoption((await made.table("adoption")).values(), judge, ends_of(judge, self._plan, minutes)),
            compare.health((await made.table("health")).values(), judge),
            compare.commands(commands, orders),
            compare.dead_letters(await made.dead_letters(), after),
            _same("rows of the log", after, outcomes),
            _same("read model", await _counts(settings), {"commands": len(commands), "deliveries": len(commands)}),
            _same("arrivals", {i: 1 for i in self._ids()}, {order.id: 1 for order in orders}),
        ]
        report.peak_mb = _peak_mb()
        return report

    def _ids(self) -> list[str]:
        return [body["data"]["id"] for body in self._receiver.received.values()]

    async def _send(self, files: Sequence[Encoded], *, begin: bool = False, end: bool = False) -> None:
        """As producers do who keep what they sent in files."""
        plan = self._plan
        async with Log(self._made.settings) as log:
            if begin:
                products = [(product.tenant, product.name) for product in plan.products]
                await log.mark("begun", plan.name, plan.start_ms, True, products)
            for rows in files:
                await log.append(rows)
                if len(rows):
                    await log.mark("progressed", plan.name, max(rows.at), True)
            if end:
                await log.mark("progressed", plan.name, plan.end_ms + plan.disorder_ms, True)
            await log.flush()

    async def _first(self, deliveries: int) -> None:
        """Until so many deliveries have arrived: everybody is at work then."""
        await self._arrived(deliveries, strict=True)

    async def _arrived(self, wanted: int, *, strict: bool = False) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._within_s if strict else ARRIVE_WITHIN_S)
        while len(set(self._ids())) < wanted:
            if loop.time() > deadline:
                if strict:
                    raise TrialFailed(
                        f"{len(self._receiver.received)} of {wanted} deliveries have arrived: use more events"
                    )
                return
            await asyncio.sleep(0.05)


def _peak_mb() -> float:
    """Of this process. Linux counts in kilobytes, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _kill(supervisor: Supervisor, *roles: str) -> None:
    """`kill -9` of every process of these roles; the supervisor starts them again."""
    for child in supervisor.children:
        running = child.process is not None and child.process.returncode is None
        if running and child.name.rpartition("-")[0] in roles:
            assert child.process is not None
            child.process.send_signal(signal.SIGKILL)


async def _destroy(settings: Settings) -> None:
    """Every topic and everything on the disk."""
    async with admin(settings) as client:
        await client.delete_topics([settings.topic(t.name) for t in TOPICS])
    while await existing(settings):
        await asyncio.sleep(0.1)
    shutil.rmtree(settings.data_dir)
    settings.data_dir.mkdir()


def _same(what: str, ours: dict[str, int], wanted: dict[str, int]) -> Difference:
    out = Difference(what)
    for name in sorted(ours.keys() | wanted.keys()):
        out.check(name, ours.get(name, 0), wanted.get(name, 0))
    return out


async def _counts(settings: Settings) -> dict[str, int]:
    store = await open_store(settings.store_url)
    try:
        async with store.reader.begin() as connection:
            return {
                name: int(
                    (await connection.execute(select(func.count()).select_from(METADATA.tables[name]))).scalar() or 0
                )
                for name in ("commands", "deliveries")
            }
    finally:
        await store.close()

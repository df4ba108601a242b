"""One run: the system, its rows, its faults, its end, its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from agents.rooms import wall_clock
from app.broker import Cluster
from app.chaos.accounts import Accounts, gather
from app.chaos.checkpoints import Checkpoints
from app.chaos.compacted import Compacted
from app.chaos.destination import Destination
from app.chaos.feed import Feed
from app.chaos.kills import Killed
from app.chaos.registry import Kind
from app.chaos.schedule import TRACKS, Planned, schedule
from app.chaos.stage import NothingThere, Stage
from app.chaos.timeline import Happened, Sample, Timeline
from app.chaos.verdict import STAGE_WINDOW, Verdict, judge
from app.probes import targets
from app.settings import Role, Settings
from app.simulate.plan import Plan
from app.trial import Trial, TrialFailed, ask, trial
from app.verify import judgeable
from schemas.definitions import Connection, Definition, Product

SECRET_VARIABLE = "UPTAKE_SECRET_CHAOS"  # noqa: S105 - the name of a variable
READY_WITHIN_S = 120.0
RECOVERED_WITHIN_S = 40.0
DELIVERED_WITHIN_S = 240.0
SAMPLE_S = 1.0
Told = Callable[[str], None]


def silent(text: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is made of."""

    plan: Plan
    rate: float
    """Rows a second."""
    roles: Mapping[Role, int]
    seconds: float
    """Length of the schedule."""
    kinds: Sequence[Kind] = ()
    calm_s: float = 4.0
    within_s: float = 600.0
    """How long the system may take to come to rest after the last row."""
    keep: bool = False
    status: Told = silent
    """Told how it stands, often."""
    said: Told = silent
    """Told what happened, once each."""


@dataclass(slots=True)
class Outcome:
    """What a run came to."""

    rows: int = 0
    seconds: float = 0.0
    """From the first row to rest."""
    settled_s: float = 0.0
    """From the last row to rest."""
    timeline: Timeline = field(default_factory=Timeline)
    verdict: Verdict = field(default_factory=Verdict)
    attempts: dict[str, int] = field(default_factory=dict)
    """Of the destination, by what it did."""
    tries_again: int = 0
    """Pieces of rows that a producer wrote again."""
    aborted: int = 0
    """Upstream transactions that were aborted."""
    kills: list[Killed] = field(default_factory=list)
    """Of a run of aimed kills."""

    @property
    def good(self) -> bool:
        """Equal, and nobody left without an owner."""
        return self.verdict.equal and not self.timeline.unrecovered


async def run(
    settings: Settings,
    definitions: Iterable[Definition],
    options: Options,
    *,
    cluster: Cluster | None = None,
    instead: Callable[[Stage, Told], Awaitable[list[Killed]]] | None = None,
) -> Outcome:
    """The scheduled faults, or what `instead` does; rows flow meanwhile. Raises `TrialFailed` where the system stalls."""
    known = [d for d in definitions if judgeable(d)]
    products = [Product(tenant=p.tenant, name=p.name, stage_window=STAGE_WINDOW) for p in options.plan.products]
    secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
    os.environ[SECRET_VARIABLE] = secret
    allowed = settings.model_copy(update={"allowed_hosts": [*settings.allowed_hosts, "127.0.0.1"]})
    with Destination(secret) as destination:
        hook = Connection(
            name="chaos",
            integration="webhook",
            config={"url": destination.url, "secret": {"env": SECRET_VARIABLE}, "timeout_s": 3},
            enabled=True,
            max_attempts=30,
            max_concurrency=32,
        )
        async with trial(
            allowed, options.plan, roles=options.roles, definitions=[*known, *products, hook], keep=options.keep
        ) as made:
            async with _stage(made, options, destination, cluster) as stage:
                outcome = await _live(stage, options, instead)
            outcome.verdict = await judge(made, outcome.verdict.accounts, destination, stage.compacted, options.status)
            outcome.attempts = dict(destination.attempts)
            return outcome


@contextlib.asynccontextmanager
async def _stage(
    made: Trial, options: Options, destination: Destination, cluster: Cluster | None
) -> AsyncIterator[Stage]:
    compacted = Compacted(made.settings, options.plan)
    besides = (compacted.product,) if any(kind.name == "compacted" for kind in options.kinds) else ()
    feed = Feed(made.settings, options.plan, options.rate, options.plan.seed, besides)
    stage = Stage(
        trial=made,
        feed=feed,
        destination=destination,
        checkpoints=Checkpoints(made.settings),
        compacted=compacted,
        chance=Random(options.plan.seed),
        cluster=cluster,
    )
    try:
        yield stage
    finally:
        await stage.checkpoints.stop()
        await feed.close()
        await made.supervisor.stop()


async def _live(
    stage: Stage, options: Options, instead: Callable[[Stage, Told], Awaitable[list[Killed]]] | None
) -> Outcome:
    outcome, made, feed = Outcome(), stage.trial, stage.feed
    made.start()
    if any(kind.name == "compacted" for kind in options.kinds):
        options.status("filling topics to be compacted")
        await stage.compacted.fill(max(1, round(options.seconds / 150)))
    options.status("waiting for the workers")
    await _ready(made)
    stage.checkpoints.start()
    loop = asyncio.get_running_loop()
    began, wall = loop.time(), wall_clock() / 1000
    done = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        sampling = group.create_task(_sample(stage, outcome.timeline, began, options.status))
        feeding = group.create_task(feed.run(until=done.is_set))
        if instead is not None:
            outcome.kills = await instead(stage, options.said)
            done.set()
        else:
            planned = schedule(options.kinds, options.plan.seed, options.seconds, calm_s=options.calm_s)
            tracks = [[f for f in planned if f.kind.track == track] for track in TRACKS]
            until_s = options.seconds
            await asyncio.gather(
                *(
                    _track(stage, faults, outcome.timeline, began, until_s, options.calm_s, options.said)
                    for faults in tracks
                )
            )
        await feeding
        sampling.cancel()
    outcome.rows = feed.rows
    written = loop.time()
    await feed.finish(early=done.is_set())
    await made.settled(options.within_s, options.status)
    outcome.settled_s, outcome.seconds = loop.time() - written, loop.time() - began
    outcome.verdict.accounts = await _delivered(stage, options.status)
    if (failure := stage.checkpoints.failed()) is not None:
        raise TrialFailed(f"the state topics could not be followed: {failure!r}")
    outcome.timeline.note(stage.checkpoints.losses, wall)
    outcome.tries_again, outcome.aborted = feed.repeated, feed.aborted
    return outcome


async def _ready(made: Trial) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_WITHIN_S
    while await made.lags() is None:
        if loop.time() > deadline:
            raise TrialFailed(f"the workers were not ready within {READY_WITHIN_S:.0f} s: see {made.settings.log_dir}")
        await asyncio.sleep(0.3)


async def _track(
    stage: Stage,
    planned: Sequence[Planned],
    timeline: Timeline,
    began: float,
    until_s: float,
    calm_s: float,
    said: Told,
) -> None:
    """Faults one after the other, the next one `calm_s` after everybody has come back from the last, and not before its time."""
    loop = asyncio.get_running_loop()
    free = began
    for fault in planned:
        await asyncio.sleep(max(began + fault.at_s, free) - loop.time())
        if loop.time() - began > until_s:
            return  # what came before took its time
        happened = Happened(fault.kind.name, loop.time() - began)
        try:
            async with fault.kind.inject(stage) as what:
                happened.what = what
                timeline.faults.append(happened)
                said(happened.line())
                await asyncio.sleep(fault.lasts_s)
        except NothingThere as error:
            happened.what, happened.skipped = str(error), True
            timeline.faults.append(happened)
            said(happened.line())
        happened.ended_s = loop.time() - began
        if fault.kind.track == "machines":
            losses = stage.checkpoints.losses
            await stage.until(lambda: all(loss.recovered_s is not None for loss in losses), RECOVERED_WITHIN_S)  # noqa: B023
        free = loop.time() + calm_s  # also behind one that took longer than planned


async def _sample(stage: Stage, timeline: Timeline, began: float, status: Told) -> None:
    loop = asyncio.get_running_loop()
    while True:
        found = targets(stage.settings.run_dir / "targets")
        answers = await asyncio.gather(
            *(asyncio.to_thread(ask, f"http://{address}/readyz", True) for _, address in found.values())
        )
        lag: dict[str, int] = {}
        for (role, _), answer in zip(found.values(), answers, strict=True):
            lag[role] = lag.get(role, 0) + (int(answer["lag"]) if answer is not None else 0)
        at, rows = loop.time() - began, stage.feed.rows
        timeline.samples.append(Sample(at, rows, lag, stage.checkpoints.count))
        waiting = ", ".join(f"{role} {n:,}" for role, n in sorted(lag.items()))
        status(f"{at:5.0f} s  {rows:,} rows written, waiting: {waiting}")
        await asyncio.sleep(SAMPLE_S)


async def _delivered(stage: Stage, status: Told) -> Accounts:
    """The accounts once nothing is on its way any more, or as they stand when it took too long: what waits is in them."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DELIVERED_WITHIN_S
    while True:
        accounts = await gather(stage.settings, stage.settings.partitions)
        if accounts.still or loop.time() > deadline:
            return accounts
        status(f"{accounts.waiting} deliveries wait")
        await asyncio.sleep(1.0)


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """For programs: figures, differences, the timeline."""
    verdict = outcome.verdict
    return {
        "rows": outcome.rows,
        "seconds": round(outcome.seconds, 1),
        "settled_s": round(outcome.settled_s, 1),
        "good": outcome.good,
        "outcomes": verdict.outcomes,
        "detections": verdict.detections,
        "differences": {d.what: [d.compared, d.differing, d.shown] for d in verdict.differences},
        "accounts": verdict.accounts.line(),
        "attempts": outcome.attempts,
        "written_again": outcome.tries_again,
        "aborted": outcome.aborted,
        "kills": [kill.as_dict() for kill in outcome.kills],
        "timeline": outcome.timeline.as_dict(),
    }

"""Aimed `kill -9`s: in the middle of a checkpoint's transaction, in the middle of a recovery, anywhere; always while rows wait."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from app.chaos.aim import some, told
from app.chaos.stage import NothingThere, Stage, pid_of
from app.kafka import consumer, ends_of, partitions_of
from app.settings import Role
from app.trial import TrialFailed
from app.worker import Child
from transport.phases import Phase, PhaseReader

Where = Literal["transaction", "recovery", "anywhere"]
ROLES: tuple[Role, ...] = ("meter", "decide")
TOPICS = ("events.usage", "events.performance", "meter.registers")
IN_TRANSACTION = frozenset(p for p in Phase if p.in_transaction)
IN_RECOVERY = frozenset(p for p in Phase if p.recovering)
AIM_S: dict[Where, float] = {"transaction": 6.0, "recovery": 20.0, "anywhere": 1.0}
"""How long to wait for the position; a recovery comes only when the group has shared its partitions out."""
AGAIN_WITHIN_S = 20.0
RECOVERED_WITHIN_S = 40.0
SPARE = 10
"""Kills beyond the number asked for that may be used to reach the positions asked for."""


@dataclass(frozen=True, slots=True)
class Killed:
    """One kill."""

    number: int
    who: str
    asked: Where
    where: str
    """The phase of which partition, read after its death."""
    in_transaction: bool
    in_recovery: bool
    waiting: int
    """Rows of the whole log behind the last checkpoints when it died."""
    since_s: float
    """Since the kill before."""

    def line(self) -> str:
        """For people."""
        return f"kill {self.number}: {self.who}, {self.where}; {self.waiting:,} rows waiting, {self.since_s:.1f} s after the last"

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def aimed(
    times: int, *, gap_s: float = 8.0, transactions: int = 5, recoveries: int = 3
) -> Callable[[Stage, Callable[[str], None]], Any]:
    """What to do instead of a schedule: at least so many kills, at least so many of them in each position."""

    async def kill(stage: Stage, said: Callable[[str], None]) -> list[Killed]:
        found: list[Killed] = []
        loop = asyncio.get_running_loop()
        last = loop.time()
        while not _enough(found, times, transactions, recoveries) and len(found) < times + SPARE:
            await _calm(stage, last + gap_s - loop.time())
            asked = _next(found, times, transactions, recoveries)
            child = stage.worker(len(found), ROLES)
            try:
                killed = await _kill(stage, child, asked, len(found) + 1, lambda: loop.time() - last)  # noqa: B023
            except (NothingThere, ProcessLookupError):
                await asyncio.sleep(0.5)
                continue
            last = loop.time()
            found.append(killed)
            said(killed.line())
        await _calm(stage, gap_s)
        return found

    return kill


def _enough(found: list[Killed], times: int, transactions: int, recoveries: int) -> bool:
    return (
        len(found) >= times
        and sum(k.in_transaction for k in found) >= transactions
        and sum(k.in_recovery for k in found) >= recoveries
    )


def _next(found: list[Killed], times: int, transactions: int, recoveries: int) -> Where:
    """Positions take turns; near the end what is still missing comes first."""
    left = max(1, times - len(found))
    missing: list[Where] = ["transaction"] * (transactions - sum(k.in_transaction for k in found))
    missing += ["recovery"] * (recoveries - sum(k.in_recovery for k in found))
    if len(missing) >= left:
        return missing[0]
    turns: tuple[Where, ...] = ("transaction", "anywhere", "recovery", "anywhere")
    return turns[len(found) % len(turns)]


async def _calm(stage: Stage, seconds: float) -> None:
    await asyncio.sleep(max(0.0, seconds))
    losses = stage.checkpoints.losses
    await stage.until(lambda: all(loss.recovered_s is not None for loss in losses), RECOVERED_WITHIN_S)


async def _kill(stage: Stage, child: Child, asked: Where, number: int, since: Callable[[], float]) -> Killed:
    wanted = {"transaction": IN_TRANSACTION, "recovery": IN_RECOVERY}.get(asked, frozenset(Phase))
    reader = await _restarted(stage, child) if asked == "recovery" else stage.phases(child)
    pid = pid_of(child)
    if pid is None:
        raise NothingThere(f"{child.name} does not run")
    while not await waiting(stage):
        if stage.feed.ended:
            raise TrialFailed(f"the rows ran out before kill {number}: the machine is too busy, try a lower --rate")
        await asyncio.sleep(0.05)
    found, _ = await stage.freeze(child, some(wanted), AIM_S[asked])
    left = await waiting(stage)
    os.kill(pid, signal.SIGKILL)
    gap = since()
    stage.dead(child, reader)
    phases = frozenset(found.values())
    return Killed(
        number,
        child.name,
        asked,
        told(found),
        bool(phases & IN_TRANSACTION),
        bool(phases & IN_RECOVERY),
        left,
        gap,
    )


async def _restarted(stage: Stage, child: Child) -> PhaseReader:
    """The child's process, ended politely and started again: it recovers next."""
    pid, starts = pid_of(child), child.starts
    if pid is None:
        raise NothingThere(f"{child.name} does not run")
    path = stage.settings.run_dir / "phases" / child.name
    os.kill(pid, signal.SIGTERM)
    await stage.until(lambda: child.starts > starts, AGAIN_WITHIN_S)
    path.unlink(missing_ok=True)
    await stage.until(path.exists, AGAIN_WITHIN_S)
    return stage.phases(child)


async def waiting(stage: Stage) -> int:
    """Rows of the log behind the last checkpoints that were seen."""
    async with consumer(stage.settings) as made:
        ends = await ends_of(made, await partitions_of(stage.settings, TOPICS))
    next_: dict[tuple[str, int], int] = {}
    for label, positions in stage.checkpoints.next.items():
        for topic, offset in positions.items():
            next_[topic, int(label.rpartition("|")[2])] = offset
    return sum(max(0, end - next_.get((stage.settings.bare(tp.topic), tp.partition), end)) for tp, end in ends.items())

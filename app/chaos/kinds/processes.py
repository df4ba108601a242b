"""Faults of the workers' processes: killed, stopped, frozen and woken again, more of them and fewer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

from app.chaos.aim import some, told
from app.chaos.registry import kind
from app.chaos.stage import NothingThere, Stage, pid_of
from app.settings import Role
from transport.phases import Phase

AIM_S = 3.0
SCALED: tuple[Role, ...] = ("meter", "decide")
ASLEEP_IN = (Phase.FILLING, Phase.COMMITTING, Phase.OFFSETS, Phase.WORKING)
"""Phases of a checkpoint in which zombies fall asleep, in turn."""
LONGER_THAN_A_SESSION = (8.0, 11.0)


@kind("kill", "kill -9 of a worker", track="machines", lasts_s=(6.0, 9.0))
async def kill(stage: Stage) -> AsyncIterator[str]:
    """The supervisor starts it again."""
    child = stage.worker(stage.turn("kill"))
    yield f"{child.name}, {told(stage.kill(child))}"


@kind("term", "SIGTERM of a worker", track="machines", lasts_s=(5.0, 8.0))
async def term(stage: Stage) -> AsyncIterator[str]:
    """It makes its last checkpoints and leaves; the supervisor starts it again."""
    child = stage.worker(stage.turn("term"))
    pid = pid_of(child)
    if pid is None:
        raise NothingThere(f"{child.name} does not run")
    os.kill(pid, signal.SIGTERM)
    yield child.name


@kind("zombie", "SIGSTOP beyond the session, in the middle of a checkpoint, then SIGCONT", track="machines",
      lasts_s=LONGER_THAN_A_SESSION)  # fmt: skip
async def zombie(stage: Stage) -> AsyncIterator[str]:
    """Another takes its partitions; when it wakes, nothing of what it held may count."""
    turn = stage.turn("zombie")
    child = stage.worker(turn, ("meter", "decide"))
    pid = pid_of(child)
    wanted = ASLEEP_IN[turn % len(ASLEEP_IN)]
    found, _ = await stage.freeze(child, some(frozenset({wanted})), AIM_S)
    try:
        stage.checkpoints.lost(f"{child.name} (asleep)", [label for label, p in found.items() if p != Phase.GONE])
        yield f"{child.name}, {told(found)}"
    finally:
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@kind("add", "a worker more, then one fewer", track="machines", lasts_s=(8.0, 12.0))
async def add(stage: Stage) -> AsyncIterator[str]:
    """Partitions move to it, and back."""
    role = SCALED[stage.turn("add") % len(SCALED)]
    child = await stage.add(role)
    yield child.name
    await stage.trial.supervisor.remove(child)


@kind("remove", "a worker fewer, then one more", track="machines", lasts_s=(9.0, 12.0))
async def remove(stage: Stage) -> AsyncIterator[str]:
    """Its partitions move to the others when its session ends, and back."""
    role = SCALED[stage.turn("remove") % len(SCALED)]
    if sum(c.name.startswith(f"{role}-") for c in stage.children) < 2:
        raise NothingThere(f"{role} has one process only")
    child = stage.worker(0, (role,))
    await stage.trial.supervisor.remove(child)
    yield child.name
    await asyncio.shield(stage.add(role))

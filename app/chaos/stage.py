"""What a fault may touch: the workers' processes, the brokers, the producers of rows, the destination."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from app.broker import Cluster
from app.chaos.aim import frozen_in
from app.chaos.checkpoints import Checkpoints
from app.chaos.compacted import Compacted
from app.chaos.destination import Destination
from app.chaos.feed import Feed
from app.settings import Role, Settings
from app.trial import Trial
from app.worker import Child, worker_children
from transport.phases import Phase, PhaseReader


@dataclass(slots=True)
class Stage:
    """Handed to every fault."""

    trial: Trial
    feed: Feed
    destination: Destination
    checkpoints: Checkpoints
    compacted: Compacted
    chance: Random
    cluster: Cluster | None = None
    """Brokers that may be stopped; None: they are somebody else's."""
    turns: dict[str, int] = field(default_factory=dict)
    """How often each kind has been injected, for those that vary."""

    @property
    def settings(self) -> Settings:
        """Of the system under test."""
        return self.trial.settings

    @property
    def children(self) -> list[Child]:
        """The workers' processes."""
        return self.trial.supervisor.children

    def turn(self, kind: str) -> int:
        """Counts up from 0 with each call for a kind."""
        number = self.turns.get(kind, 0)
        self.turns[kind] = number + 1
        return number

    def worker(self, turn: int, roles: tuple[Role, ...] = ("meter", "decide", "deliver", "project")) -> Child:
        """A running worker: roles take turns, so that none is spared."""
        role = roles[turn % len(roles)]
        found = [c for c in self.children if c.name.startswith(f"{role}-") and pid_of(c) is not None]
        if not found:
            raise NothingThere(f"no process of role {role} runs just now")
        return self.chance.choice(found)

    def phases(self, child: Child) -> PhaseReader:
        """What the child's process says it is doing. Raises `NothingThere`."""
        try:
            return PhaseReader(self.settings.run_dir / "phases" / child.name)
        except OSError:
            raise NothingThere(f"{child.name} has not said yet what it does") from None

    def kill(self, child: Child) -> dict[str, Phase]:
        """`kill -9`; what its partitions were in the middle of."""
        pid = pid_of(child)
        if pid is None:
            raise NothingThere(f"{child.name} does not run")
        reader = self.phases(child)
        os.kill(pid, signal.SIGKILL)
        return self.dead(child, reader)

    def dead(self, child: Child, reader: PhaseReader) -> dict[str, Phase]:
        """Note that a child has just been killed: its partitions wait for their next owner from now on."""
        for leftover in ("phases", "targets"):
            name = child.name if leftover == "phases" else f"{child.name}.json"
            (self.settings.run_dir / leftover / name).unlink(missing_ok=True)
        held: dict[str, Phase] = {label: phase for label, phase in reader.now().items() if phase != Phase.GONE}
        self.checkpoints.lost(child.name, held)
        return held

    async def freeze(
        self, child: Child, wanted: Callable[[dict[str, Phase]], bool], within_s: float
    ) -> tuple[dict[str, Phase], bool]:
        """SIGSTOP, as well aimed as it goes: what its partitions are in the middle of, and whether that is what was wanted."""
        pid = pid_of(child)
        if pid is None:
            raise NothingThere(f"{child.name} does not run")
        return await asyncio.to_thread(frozen_in, pid, self.phases(child), wanted, within_s)

    async def add(self, role: Role) -> Child:
        """One more process of a role."""
        [child] = worker_children(self.settings, {role: 1})
        self.trial.supervisor.add(child)
        return child

    async def until(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Waits until something holds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while not holds():
            if loop.time() > deadline:
                return False
            await asyncio.sleep(0.1)
        return True


class NothingThere(RuntimeError):
    """A fault found nothing to be done to; it is left out and said so."""


def pid_of(child: Child) -> int | None:
    """The child's process, while it runs."""
    process = child.process
    return process.pid if process is not None and process.returncode is None else None

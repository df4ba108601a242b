"""Every checkpoint of the system, as the log shows it, and how long partitions went without one after their owner died."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from agents.rooms import wall_clock
from app.kafka import read
from app.settings import Settings
from transport.phases import Phase, PhaseReader
from transport.state import POSITIONS, StateFormatError, decode_positions

ROLES = {
    "state.ingest": "meter",
    "state.meter": "meter",
    "state.meter.others": "meter",
    "state.decide.registers": "decide",
    "state.decide.signals": "decide",
    "state.decide.outcomes": "decide",
    "state.dispatch": "deliver",
    "state.deliver": "deliver",
}
BUSY_S = 3.0
"""A partition that made a checkpoint so shortly before is expected to make the next one; of others, being ready again counts."""
LOOK_S = 0.1


@dataclass(slots=True)
class Loss:
    """An owner is gone; its partitions wait for the next one."""

    who: str
    at: float
    """Wall time, seconds."""
    waiting: dict[str, bool]
    """Partition (`role|group|number`) → whether a checkpoint is expected of it."""
    recovered_s: float | None = None
    """From the loss to the last of the first new checkpoints; None: not yet."""
    checkpointed: int = 0
    """Partitions of which a new checkpoint was seen."""
    taken: dict[str, float] = field(default_factory=dict)
    """Partition → seconds from the loss until a process that runs had it."""
    worked: dict[str, float] = field(default_factory=dict)
    """Partition → seconds from the loss until such a process had recovered it."""
    last: str = ""
    """The partition that everything waited for at the end."""


@dataclass(slots=True)
class Checkpoints:
    """Follows the state topics. `start`, then read; `stop` when done."""

    settings: Settings
    seen: dict[str, float] = field(default_factory=dict)
    """Partition → wall time at which its newest checkpoint was begun."""
    next: dict[str, Mapping[str, int]] = field(default_factory=dict)
    """Partition → next offset by topic, as of its newest checkpoint."""
    count: int = 0
    losses: list[Loss] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begins to follow, in the background."""
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._look())]

    async def stop(self) -> None:
        """Ends it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lost(self, who: str, held: Iterable[str]) -> None:
        """These partitions have just lost their owner."""
        now = wall_clock() / 1000
        expected = {label: now - self.seen.get(label, 0.0) < BUSY_S for label in held}
        if expected:
            self.losses.append(Loss(who, now, expected))

    def failed(self) -> BaseException | None:
        """What ended the following, if something did."""
        done = [task for task in self._tasks if task.done() and not task.cancelled()]
        return next((task.exception() for task in done), None)

    async def _follow(self) -> None:
        async with aclosing(read(self.settings, list(ROLES), follow=True, from_end=True)) as records:
            async for record in records:
                if record.key is None or record.value is None or not record.key.startswith(POSITIONS):
                    continue
                try:
                    positions = decode_positions(record.value)
                except StateFormatError:
                    continue
                group = record.key[len(POSITIONS) :].decode()
                label = f"{ROLES[record.topic]}|{group}|{record.partition}"
                self.seen[label] = positions.at / 1000
                self.next[label] = positions.next
                self.count += 1
                self._settle(label, begun=positions.at / 1000)

    def _settle(self, label: str, begun: float) -> None:
        """A checkpoint that began after the loss is the next owner's: the dead one cannot have begun it."""
        for loss in self.losses:
            if begun > loss.at and loss.waiting.pop(label, None) is not None:
                loss.checkpointed += 1
                self._note(loss, label)

    def _note(self, loss: Loss, label: str) -> None:
        if not loss.waiting and loss.recovered_s is None:
            loss.recovered_s, loss.last = wall_clock() / 1000 - loss.at, label

    async def _look(self) -> None:
        """Partitions without traffic make no checkpoint: they are back when a living process works on them."""
        while True:
            open_ = [loss for loss in self.losses if loss.waiting]
            if open_:
                owned, now = self.owned(), wall_clock() / 1000
                for loss in open_:
                    for label, expected in list(loss.waiting.items()):
                        phase = owned.get(label, Phase.GONE)
                        if phase != Phase.GONE:
                            loss.taken.setdefault(label, now - loss.at)
                        if phase >= Phase.WORKING:
                            loss.worked.setdefault(label, now - loss.at)
                            if not expected:
                                del loss.waiting[label]
                                self._note(loss, label)
            await asyncio.sleep(LOOK_S)

    def owned(self) -> dict[str, Phase]:
        """What the processes that run now say of their partitions."""
        found: dict[str, Phase] = defaultdict(lambda: Phase.GONE)
        folder = self.settings.run_dir / "phases"
        for path in folder.iterdir() if folder.exists() else ():
            if "." in path.name:
                continue
            try:
                now = PhaseReader(path).now()
            except (OSError, ValueError):
                continue  # it is being made
            for label, phase in now.items():
                found[label] = max(found[label], phase)
        return found

"""The processes of a backtest: some that work METER's partitions, and one that judges what they tell; whoever asked does the rest.

They begin at once, and load the code while the archive's clocks are read.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from queue import Empty
from typing import Any, Final

from app import helping
from app.archive import Archived, ArchiveError
from app.backtest.judging import Judging, Said
from app.backtest.metering import REGISTERS, Metering, Sent
from app.backtest.past import Past
from app.backtest.reach import Int64s, Source, corrections_asked, figures_asked
from core.definitions import Catalogue

AHEAD: Final = 4
"""Cuts that a process may be ahead of the one that it tells."""


@dataclass(slots=True)
class Job:
    """What all of them are to do."""

    url: str
    partitions: int
    past: Past
    cuts: Sequence[int]
    first: int
    """Broker time from which usage and requests are read; the other topics are from the first cut on."""
    clocks: Mapping[Source, Int64s]
    strict: bool = False


class Processes:
    """One that judges, and `count` at most for METER, each with its part of the `partitions`."""

    def __init__(self, count: int, partitions: int) -> None:
        context, around = helping.context(__name__), helping.surroundings()
        count = max(1, min(count, partitions))
        registers = [context.Queue(AHEAD) for _ in range(count)]

        def begun(mine: range, work: Callable[..., Iterator[Any]], *beside: Any) -> _Part:
            theirs, ours = context.Pipe(duplex=False)
            queue = context.Queue(AHEAD)
            process = context.Process(target=_body, args=(theirs, queue, around, work, *beside), daemon=True)
            process.start()
            theirs.close()
            return _Part(mine, process, ours, queue)

        self._meters = [begun(range(n, partitions, count), _meter, registers[n]) for n in range(count)]
        self._judge = begun(range(partitions), _judge, registers)
        self._registers = registers

    def begin(self, job: Job) -> None:
        """Tell each what it is to do."""
        for part in (*self._meters, self._judge):
            own = {source: told for source, told in job.clocks.items() if source[1] in part.mine}
            try:
                part.jobs.send(
                    (part.mine, Job(job.url, job.partitions, job.past, job.cuts, job.first, own, job.strict))
                )
            except OSError:
                continue  # it is no more: `take` says so

    def take(self) -> tuple[list[Sent], Said]:
        """METER's signals and clocks of the next cut, and what was judged. Raises `ArchiveError` where one failed, or is no more."""
        came: list[Sent] = []
        for part in self._meters:
            came += self._told(part)
        return came, self._told(self._judge)

    def end(self) -> None:
        """They are over, whether they were done or not."""
        for part in (self._judge, *self._meters):
            part.end()
        for queue in self._registers:
            queue.close()

    def _told(self, part: _Part) -> Any:
        while True:
            try:
                found = part.queue.get(timeout=1)
            except Empty:
                if not part.queue.empty() or all(p.well for p in (*self._meters, self._judge)):
                    continue
                found = "a process ended by itself (out of memory?)"
            if isinstance(found, str):
                raise ArchiveError(f"METER or DECIDE failed on the archive: {found.strip().splitlines()[-1]}")
            return found


@dataclass(slots=True)
class _Part:
    mine: range
    process: Any
    jobs: Any
    queue: Any

    @property
    def well(self) -> bool:
        """Whether it works, or has done all it had to."""
        return bool(self.process.is_alive() or self.process.exitcode == 0)

    def end(self) -> None:
        self.jobs.close()
        if self.process.is_alive():
            self.process.join(0.5)
        if self.process.is_alive():
            self.process.terminate()
        self.process.join()
        self.queue.close()


@contextmanager
def processes(count: int | None, partitions: int) -> Iterator[Processes]:
    """As many for METER as asked for, or as there are processors; all end with the block."""
    found = Processes(count or os.cpu_count() or 1, partitions)
    try:
        yield found
    finally:
        found.end()


def _body(jobs: Any, out: Any, around: Mapping[str, str], work: Callable[..., Iterator[Any]], *beside: Any) -> None:
    """Of a process: puts what the `work` on its job yields, one thing for each cut; a text where it failed."""
    helping.adopt(around)
    try:
        mine, job = jobs.recv()
    except EOFError:
        return  # there is nothing to do
    try:
        for made in work(mine, job, *beside):
            out.put(made)
    except BaseException:
        out.put(traceback.format_exc())  # whoever asked raises it
        raise


def _meter(mine: range, job: Job, registers: Any) -> Iterator[list[Sent]]:
    """For each cut signals and clocks to whoever asked; registers to who judges."""
    archived = Archived.open(job.url)
    catalogue = Catalogue()
    past = job.past.follower(catalogue)
    definitions = job.past.all()
    asked, corrected = figures_asked(definitions), corrections_asked(definitions)
    clocks, first, news = job.clocks, job.first, job.cuts[0]
    tasks = [
        Metering(archived, p, job.partitions, catalogue, clocks, first, news, job.strict, asked, corrected)
        for p in mine
    ]
    for begin, end in pairwise(job.cuts):
        past.until(begin)
        sent = [one for task in tasks for one in task.until(end)]
        registers.put([one for one in sent if one[0] == REGISTERS])
        yield [one for one in sent if one[0] != REGISTERS or one[1] is None]


def _judge(_: range, job: Job, registers: Sequence[Any]) -> Iterator[Said]:
    """For each cut what was judged."""
    catalogue = Catalogue()
    past = job.past.follower(catalogue)
    judging = Judging(catalogue, job.partitions)
    for begin, end in pairwise(job.cuts):
        past.until(begin)
        yield judging.work([one for queue in registers for one in queue.get()], end)

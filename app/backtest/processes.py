"""The processes that work METER's partitions. They begin at once, and load the code while the archive's clocks are read."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from queue import Empty
from typing import Any, Final

from app import helping
from app.archive import Archived, ArchiveError
from app.backtest.metering import Metering, Sent
from app.backtest.past import Past
from app.backtest.reach import Int64s, Source, corrections_asked, figures_asked
from core.definitions import Catalogue

AHEAD: Final = 4
"""Cuts that METER may be ahead of DECIDE."""


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
    """`count` of them at most, each with its part of the `partitions`."""

    def __init__(self, count: int, partitions: int) -> None:
        context, around = helping.context(__name__), helping.surroundings()
        count = max(1, min(count, partitions))
        self._parts: list[_Part] = []
        for n in range(count):
            theirs, ours = context.Pipe(duplex=False)
            queue = context.Queue(AHEAD)
            process = context.Process(target=_work, args=(theirs, queue, around), daemon=True)
            process.start()
            theirs.close()
            self._parts.append(_Part(range(n, partitions, count), process, ours, queue))

    def begin(self, job: Job) -> None:
        """Tell each what it is to do."""
        for part in self._parts:
            own = {source: told for source, told in job.clocks.items() if source[1] in part.mine}
            try:
                part.jobs.send(
                    (part.mine, Job(job.url, job.partitions, job.past, job.cuts, job.first, own, job.strict))
                )
            except OSError:
                continue  # it is no more: `take` says so

    def take(self) -> list[Sent]:
        """What METER sent in the next cut. Raises `ArchiveError` where one failed, or is no more."""
        came: list[Sent] = []
        for part in self._parts:
            found = part.take()
            if isinstance(found, str):
                raise ArchiveError(f"METER failed on the archive: {found.strip().splitlines()[-1]}")
            came += found
        return came

    def end(self) -> None:
        """They are over, whether they were done or not."""
        for part in self._parts:
            part.end()


@dataclass(slots=True)
class _Part:
    mine: range
    process: Any
    jobs: Any
    queue: Any

    def take(self) -> Any:
        while True:
            try:
                return self.queue.get(timeout=1)
            except Empty:
                if not self.process.is_alive() and self.queue.empty():
                    return "a process ended by itself (out of memory?)"

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
    """As many as asked for, or as there are processors; they end with the block."""
    found = Processes(count or os.cpu_count() or 1, partitions)
    try:
        yield found
    finally:
        found.end()


def _work(jobs: Any, out: Any, around: Mapping[str, str]) -> None:
    """Body of a process: a list of what was sent for each cut, in order; a text where it failed."""
    helping.adopt(around)
    try:
        mine, job = jobs.recv()
    except EOFError:
        return  # there is nothing to do
    try:
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
            out.put([sent for task in tasks for sent in task.until(end)])
    except BaseException:
        out.put(traceback.format_exc())
        raise

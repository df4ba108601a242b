"""Rows at a steady rate, through whatever producers the faults make of it: wrong clocks, twice, out of order, in transactions.

What reaches the log is what counts: the oracle reads it back from there. So a piece that a broker may or may not have taken is
simply written again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import numpy as np
from aiokafka.errors import KafkaError

from app.kafka import MissingTopic, NoKafka
from app.settings import Settings
from app.simulate.columns import Columns
from app.simulate.encode import Encoded, Encoder
from app.simulate.kafka import Log
from app.simulate.order import chunks
from app.simulate.plan import Plan

PIECE_S = 0.5
"""So much of the rate goes into one piece, or what came due while the brokers took the one before it."""
LARGEST_S = 1.0
"""Never more than so much of the rate."""
CATCH_UP = 1.5
"""After a broker was away, rows come at most so much faster than the rate."""
BEHIND_S = 60.0
"""So much of what could not be written meanwhile is made up for."""
SHUFFLED_S = 1.0
"""Pieces that leave in any order are held until there is so much of the rate."""
AGAIN_S = 0.3
ABORTED = 0.4
"""Share of an upstream's transactions that it aborts, and writes once more."""


@dataclass(slots=True)
class Habits:
    """What the producers do, one fault each."""

    skew_ms: int = 0
    """A third of the users' producers are off by so much."""
    twice: bool = False
    """Two producers write the same rows side by side."""
    shuffled: bool = False
    """Rows, and pieces of a second, leave in any order."""
    transactions: bool = False
    """An upstream writes in transactions and aborts some."""


@dataclass(slots=True)
class Feed:
    """Writes one plan's rows. `run` ends when all are written; `finish` then closes the last window."""

    settings: Settings
    plan: Plan
    rate: float
    seed: int
    besides: tuple[tuple[str, str], ...] = ()
    """(tenant, product) whose history others write meanwhile: it is announced with the plan's, else each partition would have them
    begin at whatever its clock says when their first row comes, and what becomes of history would be a matter of order.
    """
    habits: Habits = field(default_factory=Habits)
    rows: int = 0
    """Rows of the plan that were written, repeats aside."""
    reached: int = 0
    """Event time reached."""
    ended: bool = False
    """Everything is written."""
    repeated: int = 0
    """Pieces that were written again because a broker did not answer for them."""
    aborted: int = 0
    """Transactions that were aborted."""
    _logs: dict[str | None, Log] = field(default_factory=dict)
    _held: list[Encoded] = field(default_factory=list)
    _took_s: float = 0.0
    """How long the brokers took for the piece before."""
    _chance: Random = field(default_factory=Random)

    async def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Writes at the rate, until all is written or `until` says so."""
        self._chance = Random(f"{self.seed}-feed")
        self.reached = self.plan.start_ms
        named = [*((p.tenant, p.name) for p in self.plan.products), *self.besides]
        await self._surely(lambda log: log.mark("begun", self.plan.name, self.plan.start_ms, True, named))
        loop = asyncio.get_running_loop()
        pieces, encoder = self._pieces(), Encoder(self.plan)
        due = loop.time()
        coming = asyncio.create_task(self._made(pieces, encoder))
        try:
            while not until():
                began = loop.time()
                made = await coming
                if made is None:
                    self.ended = True
                    break
                coming = asyncio.create_task(self._made(pieces, encoder))
                rows, piece = made
                await self._emit(piece)
                self._took_s = loop.time() - began
                self.rows += rows
                due = max(due + rows / self.rate, loop.time() - BEHIND_S)
                await asyncio.sleep(max(due, began + rows / self.rate / CATCH_UP) - loop.time())
        finally:
            coming.cancel()
        await self._emit(None)

    async def finish(self, *, early: bool = False) -> None:
        """Says that the end is reached, so that its last windows are judged, and nothing after them. The end is the plan's;
        where the run ended `early`, what was reached.
        """
        at = (self.reached if early else self.plan.end_ms) + self.plan.disorder_ms
        await self._surely(lambda log: log.mark("progressed", self.plan.name, at, True))
        await self.close()

    async def close(self) -> None:
        """Lets go of the producers."""
        for name in list(self._logs):
            await self._drop(name)

    # --- one piece ----------------------------------------------------------------------------------------------------

    def _pieces(self) -> Iterator[Columns]:
        for columns in chunks(self.plan):
            start = 0
            while start < len(columns):
                size = max(1, int(self.rate * min(max(PIECE_S, self._took_s), LARGEST_S)))
                yield columns.take(np.arange(start, min(start + size, len(columns))))
                start += size

    async def _made(self, pieces: Iterator[Columns], encoder: Encoder) -> tuple[int, Encoded] | None:
        """The next piece, while brokers take the one before it; None: that was the last."""
        rows = await asyncio.to_thread(next, pieces, None)
        return None if rows is None else (len(rows), await asyncio.to_thread(encoder.encode, self._skewed(rows)))

    def _skewed(self, rows: Columns) -> Columns:
        if self.habits.skew_ms:
            rows.at = np.where(rows.user % 3 == 0, rows.at + self.habits.skew_ms, rows.at)
        return rows

    async def _emit(self, piece: Encoded | None) -> None:
        """Write a piece, or hold it a while where pieces leave in any order; None: write what is held."""
        if piece is not None:
            if self.habits.shuffled:
                piece = _picked(piece, self._chance.sample(range(len(piece)), len(piece)))
            self._held.append(piece)
        if self.habits.shuffled and piece is not None and sum(map(len, self._held)) < self.rate * SHUFFLED_S:
            return
        held, self._held = self._held, []
        self._chance.shuffle(held) if self.habits.shuffled else None
        for one in held:
            await self._write(one)

    async def _write(self, piece: Encoded) -> None:
        self.reached = max(self.reached, min(max(piece.at, default=0), self.plan.end_ms))
        if self.habits.transactions:
            await self._surely(lambda log: self._transaction(log, piece), f"{self.settings.topic_prefix}upstream")
        elif self.habits.twice:
            await asyncio.gather(
                self._surely(lambda log: log.append(piece)), self._surely(lambda log: log.append(piece), "")
            )
        else:
            await self._surely(lambda log: self._appended(log, piece))
            return
        await self._surely(lambda log: log.mark("progressed", self.plan.name, self.reached, True))

    async def _appended(self, log: Log, piece: Encoded) -> None:
        await log.append(piece)
        await log.mark("progressed", self.plan.name, self.reached, True)

    async def _transaction(self, log: Log, piece: Encoded) -> None:
        while True:
            good = self._chance.random() > ABORTED
            await log.begin()
            await log.append(piece)
            await log.end(commit=good)
            if good:
                return
            self.aborted += 1

    async def _surely(self, write: Callable[[Log], object], producer: str | None = None) -> None:
        """Do it until the brokers have said yes. `producer`: a transactional id, "" for a second plain one."""
        while True:
            try:
                log = await self._log(producer)
                await write(log)  # type: ignore[misc]
                await log.flush()
            except (KafkaError, NoKafka, MissingTopic, OSError, TimeoutError):
                self.repeated += 1
                await self._drop(producer)
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def _log(self, producer: str | None) -> Log:
        if producer not in self._logs:
            made = Log(self.settings, transactional_id=producer or None)
            await made.__aenter__()
            self._logs[producer] = made
        return self._logs[producer]

    async def _drop(self, producer: str | None) -> None:
        log = self._logs.pop(producer, None)
        if log is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await asyncio.wait_for(log.__aexit__(), 3)


def _picked(piece: Encoded, order: list[int]) -> Encoded:
    columns = (piece.performance, piece.keys, piece.values, piece.headers, piece.at)
    return Encoded(*([column[i] for i in order] for column in columns))  # type: ignore[arg-type]

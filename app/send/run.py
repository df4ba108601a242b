"""One `send`, start to end: where to go on, replay markers, pace, progress."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from aiokafka import TopicPartition

from app.kafka import committed_of, partitions_of, producer
from app.send.files import PERFORMANCE, USAGE, FileRows, Row, Survey
from app.send.writer import BATCH_BYTES, Writer
from app.settings import Settings
from schemas.events import PRODUCTS_A_MARKER, ReplayMarker

CHUNK = 20_000
"""Rows of a transaction at full speed."""
SLICE = 2_000
"""Rows worked between two looks at the network."""
MARK_EVERY_ROWS = 10_000
MARK_EVERY_S = 0.5
PACED_EVERY_S = 0.05
DONE = "done"
"""The committed position's note after the last row."""
LATE_MS = 600_000
NO_TIME = -(1 << 62)


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How to send."""

    rate: float | None = None
    """Rows a second; None: as fast as Kafka takes them."""
    act: bool = False
    """Data older than a day may act."""
    again: bool = False
    """Start over, also where the file was sent before: every row is written once more."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a send stands."""

    rows: int
    """Rows of the file that are in Kafka, those of earlier runs included."""
    expected: int | None
    at: int | None
    """Event time reached."""
    looked: int = 0
    """Rows looked through, before the first is sent, for the products they are about."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a send came to."""

    rows: int
    """Rows of the file that are in Kafka."""
    new: int
    """Of these, written by this run."""
    oversized: int
    """Too large for Kafka, left out."""
    unreadable: int
    """Sent, but METER will set them aside: no JSON, or no time that can be read."""
    disordered: int
    """Stood more than ten minutes behind rows before them: METER will count them late."""
    seconds: float


async def send(
    settings: Settings, rows: FileRows, options: SendOptions, told: Callable[[Progress], None] | None = None
) -> Sent:
    """Writes the file's rows to Kafka exactly once and brackets them with replay markers.

    The position is part of every transaction: a run that was stopped goes on where it stopped, and one after the end
    writes nothing. Raises `NoKafka`, `MissingTopic`, `Lost`.
    """
    started = asyncio.get_running_loop().time()
    name = f"{settings.topic_prefix}send.{rows.fingerprint}"
    # Topics that no row goes to need no markers beside the two hot ones: whoever waits sees that none come.
    topics = list(dict.fromkeys([USAGE, PERFORMANCE, rows.mapping.topic or USAGE]))
    counts = dict(Counter(settings.bare(p.topic) for p in await partitions_of(settings, topics)))
    async with (
        # Its start fences a run of the same file that hangs somewhere, and ends what that left open.
        producer(
            settings,
            transactional_id=name,
            compression_type="snappy",
            max_batch_size=BATCH_BYTES,
            retry_backoff_ms=10,
        ) as made,
    ):
        writer = Writer(settings, made, name, counts)
        position, note = await _committed(settings, name, writer.anchor)
        if options.again:
            position, note = 0, ""
        run = _Run(rows, options, writer, position, told)
        if note != DONE:
            await run.all()
        return Sent(
            rows=run.done,
            new=run.done - position,
            oversized=writer.oversized,
            unreadable=run.unreadable,
            disordered=run.disordered,
            seconds=asyncio.get_running_loop().time() - started,
        )


class _Run:
    """The loop: the next rows are made ready while the last ones are on their way."""

    def __init__(
        self,
        rows: FileRows,
        options: SendOptions,
        writer: Writer,
        position: int,
        told: Callable[[Progress], None] | None,
    ) -> None:
        self._rows = rows
        self._options = options
        self._writer = writer
        self._told = told
        self._expected = rows.estimate()
        self._high = NO_TIME
        self._marked = NO_TIME
        self._since_mark = 0
        self._commit: asyncio.Task[None] | None = None
        self.done = position
        self.unreadable = 0
        self.disordered = 0

    async def all(self) -> None:
        """Sends what is left."""
        survey = await self._survey() if not self.done else Survey([], None)  # a former run has told the products
        left = iter(self._rows)
        self._note(list(islice(left, self.done)))
        head = list(islice(left, 1))
        if self._high == NO_TIME and head and head[0].at is not None:
            self._high = head[0].at
        self._begin(survey)
        left = chain(head, left)
        loop = asyncio.get_running_loop()
        start, began, marked = self.done, loop.time(), loop.time()
        placed, ended = start, False
        try:
            while not ended:
                wanted = CHUNK
                if self._options.rate is not None:
                    await asyncio.sleep(PACED_EVERY_S)
                    wanted = max(0, start + int((loop.time() - began) * self._options.rate) - placed)
                filled = await self._fill(left, wanted)
                placed += filled
                ended = filled < wanted
                if ended or self._since_mark >= MARK_EVERY_ROWS or loop.time() - marked > MARK_EVERY_S:
                    marked = loop.time()
                    self._mark("progressed")
                if ended:
                    self._mark("ended")
                await self._settled()
                self._commit = asyncio.create_task(
                    self._leave(self._writer.commit(self._writer.take(), placed), placed)
                )
            await self._settled()
            # Kafka answers a commit before every partition shows it, and refuses the next until all do: once this
            # small one is through, whoever reads after us finds every row.
            await self._writer.commit([], placed, DONE)
        finally:
            if self._commit is not None and not self._commit.done():
                # Stopped in the middle: what is on its way arrives as a whole or not at all.
                self._commit.cancel()
                await asyncio.gather(self._commit, return_exceptions=True)

    async def _fill(self, left: Iterator[Row], wanted: int) -> int:
        filled = 0
        while filled < wanted:
            rows = list(islice(left, min(SLICE, wanted - filled)))
            if not rows:
                break
            self._note(rows)
            self._writer.put(rows)
            filled += len(rows)
            self._since_mark += len(rows)
            if self._since_mark >= MARK_EVERY_ROWS:
                self._mark("progressed")
            await asyncio.sleep(0)
        return filled

    def _note(self, rows: list[Row]) -> None:
        high = self._high
        for row in rows:
            at = row.at
            if at is None:
                self.unreadable += 1
            elif at > high:
                high = at
            elif at < high - LATE_MS:
                self.disordered += 1
        self._high = high

    async def _survey(self) -> Survey:
        """What the file is about; told as progress where it takes long."""
        loop = asyncio.get_running_loop()
        began = loop.time()

        def tell(rows: int) -> None:
            if self._told is not None and loop.time() - began > 2.0:
                loop.call_soon_threadsafe(self._told, Progress(0, self._expected, None, looked=rows))

        return await asyncio.to_thread(self._rows.survey, tell)

    def _begin(self, survey: Survey) -> None:
        """Every product of the file is named: what is new begins at the earliest row, not at the partitions' clocks."""
        if survey.earliest is None:
            self._mark("begun")
            return
        for start in range(0, max(1, len(survey.products)), PRODUCTS_A_MARKER):
            self._mark("begun", survey.earliest, survey.products[start : start + PRODUCTS_A_MARKER])

    def _mark(self, what: str, at: int | None = None, products: Sequence[tuple[str, str]] = ()) -> None:
        at = max(self._high, 0) if at is None else at
        marker = ReplayMarker.model_validate(
            {
                "type": f"uptake.replay.{what}",
                "id": f"{self._rows.fingerprint}-{what}-{at}",
                "replay": f"send.{self._rows.fingerprint}",
                "at": at,
                "act": self._options.act,
                "products": list(products),
            }
        )
        self._writer.put_everywhere(marker.model_dump_json().encode())
        self._since_mark = 0

    async def _leave(self, work: Coroutine[None, None, None], placed: int) -> None:
        await work
        self.done = placed
        if self._told is not None:
            self._told(Progress(placed, self._expected, self._high if self._high != NO_TIME else None))

    async def _settled(self) -> None:
        if self._commit is not None:
            await self._commit


async def _committed(settings: Settings, group: str, anchor: TopicPartition) -> tuple[int, str]:
    """Where a former run got to, and its note. Read after the producer's start, which settled what was left open."""
    found = (await committed_of(settings, group)).get(anchor)
    if found is None or found.offset < 0:
        return 0, ""
    return found.offset, found.metadata

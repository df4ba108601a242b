"""Checkpoints: a journal of what was folded becomes deltas; now and then a base replaces them, a few pages a drain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from core.meter import snapshot, state
from core.meter.forget import erase
from core.meter.gathering import Gathering
from core.meter.source import Rows, Source
from core.task import StateRecord

MIN_DELTAS: Final = 4_000_000
"""Bytes of deltas below which no new base is begun: recovery folds so many in a tenth to a quarter of a second, and a base of some
hundred thousand pairs costs as much."""
PAGES_A_DRAIN: Final = 8
PAGES_TO_DELTAS: Final = 4
"""Pages of a base are at most so many times as large as the deltas that they go with, but for the last of them: a small checkpoint,
which somebody waits for, must not become a large one. Nobody counts where there are no deltas, or the base is to make something
forgotten.
"""
NAMES_A_RECORD: Final = 5_000
REPLAY_ROWS: Final = 100_000
"""Rows that recovery folds at once."""


class StateLost(Exception):
    """The state topic does not hold what its own records say it holds. Move: rebuild with `uptake reset`."""


class Checkpoints:
    """Writes and reads the state of one task's sources."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self._journal: list[tuple[str, str, Any]] = []
        self._sequence = 0
        self._deltas: list[int] = []
        """Sequences of the deltas behind the base in force."""
        self._delta_bytes = 0
        self._generation = 0
        self._base_pages = 0
        self._base_bytes = 0
        self._base_generation = 0
        self._pages: Iterator[bytes] | None = None
        self._written = 0
        self._written_bytes = 0
        self._base_at = 0
        self._garbage: list[bytes] = []
        self._loading: dict[int, bytes] = {}
        """Deltas by sequence."""
        self._bases: dict[int, Gathering] = {}
        """Bases by generation, as far as they were read."""
        self._ends: dict[int, bytes] = {}
        self._renewing = self._hurrying = False

    def note(self, kind: str, topic: str, what: Any) -> None:
        """Something was folded: `rows` (Rows), `clock` (its time), `revise` (`Source.revised`), `forget` (`core.meter.forget`)."""
        self._journal.append((kind, topic, what))

    def let_go(self) -> None:
        """Forget what was noted: nobody writes checkpoints."""
        self._journal.clear()

    def renew(self) -> None:
        """Write a new base with the next drains and delete everything older: it holds what must go."""
        self._renewing = True

    # --- writing ------------------------------------------------------------------------------------------------------

    def drain(self) -> list[StateRecord]:
        """Records of everything noted since the last drain, and of a base that is under way."""
        records: list[StateRecord] = []
        before = self._delta_bytes
        for operations in self._operations():
            self._sequence += 1
            value = state.encode(operations)
            records.append((b"delta|%d" % self._sequence, value))
            self._deltas.append(self._sequence)
            self._delta_bytes += len(value)
        self._journal.clear()
        most = (self._delta_bytes - before) * PAGES_TO_DELTAS
        if self._renewing:
            if self._pages is not None:  # made before: it would bring back what is to go
                self._garbage.extend(b"base|%d|%d" % (self._generation, page) for page in range(self._written))
            self._renewing, self._hurrying = False, True
            self._begin_base()
        elif self._pages is None and self._delta_bytes > max(MIN_DELTAS, self._base_bytes // 4):
            self._begin_base()
        if self._pages is not None:
            self._write_base(records, 0 if self._hurrying else most)
        records.extend((key, None) for key in self._garbage)
        self._garbage.clear()
        return records

    def _operations(self) -> Iterator[list[Any]]:
        for topic, source in self._sources.items():
            new = snapshot.new_names(source)
            if new is not None:
                for part in _name_parts(new):
                    yield [["names", topic, part]]
        small: list[Any] = []
        size = 0
        for kind, topic, what in _joined(self._journal):
            if kind == "rows":
                for start in range(0, max(1, len(what)), state.MAX_ROWS):
                    last = start + state.MAX_ROWS >= len(what)
                    rows = state.cut(what, start, start + state.MAX_ROWS, last=last) if not last or start else what
                    if size + len(rows) > state.MAX_ROWS and small:
                        yield small
                        small, size = [], 0
                    small.append([kind, topic, state.pack_rows(rows)])
                    size += len(rows)
            else:
                small.append([kind, topic, what])
        if small:
            yield small

    def _begin_base(self) -> None:
        self._generation += 1
        self._base_at = self._sequence
        dumps = {topic: snapshot.dump(source) for topic, source in self._sources.items()}
        self._pages = (
            page
            for topic, values in dumps.items()
            for name, v in values.items()
            for page in state.pages(f"{topic}|{name}", v)
        )
        self._written = self._written_bytes = 0

    def _write_base(self, records: list[StateRecord], most: int) -> None:
        """The next pages; 0: as many as there may be."""
        assert self._pages is not None
        before = self._written_bytes
        for count in range(PAGES_A_DRAIN):
            if count and most and self._written_bytes - before >= most:
                return
            page = next(self._pages, None)
            if page is None:
                break
            records.append((b"base|%d|%d" % (self._generation, self._written), page))
            self._written += 1
            self._written_bytes += len(page)
        else:
            return
        end = state.encode({"pages": self._written, "sequence": self._base_at})
        records.append((b"base|%d|end" % self._generation, end))
        self._pages, self._hurrying = None, False
        self._garbage.extend(b"delta|%d" % s for s in self._deltas if s <= self._base_at)
        if self._base_generation:
            self._garbage.extend(_base_keys(self._base_generation, self._base_pages))
        kept = [s for s in self._deltas if s > self._base_at]
        self._delta_bytes = self._delta_bytes * len(kept) // max(1, len(self._deltas))
        self._deltas = kept
        self._base_generation, self._base_pages, self._base_bytes = self._generation, self._written, self._written_bytes

    # --- reading ------------------------------------------------------------------------------------------------------

    def load(self, key: bytes, value: bytes | None) -> None:
        """One record, in log order."""
        kind, number, *page = key.split(b"|")
        of = int(number)
        if kind == b"delta":
            if value is None:
                self._loading.pop(of, None)
            else:
                self._loading[of] = value
        elif value is None:  # all of a base goes at once
            self._bases.pop(of, None)
            self._ends.pop(of, None)
        elif page[0] == b"end":
            self._ends[of] = value
        else:
            self._bases.setdefault(of, Gathering()).add(value)

    def loaded(self) -> None:
        """Build the sources from what was loaded. Raises `StateLost` where a delta or a page is missing."""
        deltas, bases, ends = self._loading, self._bases, self._ends
        self._loading, self._bases, self._ends = {}, {}, {}
        self._generation = max((*bases, *ends), default=0)
        if ends:
            self._base_generation = max(ends)
            self._restore(bases.pop(self._base_generation, Gathering()), ends[self._base_generation])
        for generation, base in bases.items():
            self._garbage.extend(b"base|%d|%d" % (generation, page) for page in range(base.pages))
            if generation in ends:
                self._garbage.append(b"base|%d|end" % generation)
        self._garbage.extend(b"delta|%d" % s for s in deltas if s <= self._base_at)
        self._deltas = sorted(s for s in deltas if s > self._base_at)
        self._sequence = max(self._deltas, default=self._base_at)
        if len(self._deltas) != self._sequence - self._base_at:
            raise StateLost(
                f"deltas {self._base_at + 1} to {self._sequence} are not all there; `uptake reset` rebuilds"
            )
        self._delta_bytes = sum(len(deltas[s]) for s in self._deltas)
        for source in self._sources.values():
            source.telling = False
        self._replay([deltas[s] for s in self._deltas])
        for source in self._sources.values():
            source.telling = True
            snapshot.new_names(source)

    def _restore(self, base: Gathering, end: bytes) -> None:
        said = state.decode(end)
        self._base_pages, self._base_at = said["pages"], said["sequence"]
        if base.pages != self._base_pages:
            raise StateLost(f"the base has {base.pages} of {self._base_pages} pages; `uptake reset` rebuilds")
        self._base_bytes = base.size
        values = base.values()
        for topic, source in self._sources.items():
            mine = {n.removeprefix(f"{topic}|"): v for n, v in values.items() if n.startswith(f"{topic}|")}
            try:
                if mine:
                    snapshot.restore(source, mine)
            except KeyError as missing:
                raise StateLost(
                    f"the base of {topic} has no {missing}: another version wrote it; `uptake reset` rebuilds"
                ) from missing

    def _replay(self, deltas: Sequence[bytes]) -> None:
        replays = {topic: _Replay(source) for topic, source in self._sources.items()}
        for delta in deltas:
            for kind, topic, what in state.decode(delta):
                source, replay = self._sources[topic], replays[topic]
                if kind == "names":
                    snapshot.take_names(source, what)
                elif kind == "rows":
                    replay.rows(state.unpack_rows(what))
                elif kind == "revise" and isinstance(what, list):
                    replay.revised(what)
                else:
                    replay.fold()
                    if kind == "clock":
                        source.advance(what)
                    elif kind == "forget":
                        erase(source, *what)
                        self.renew()  # the base that was to delete these deltas is not finished
                    else:  # states of before November 2026 do not say what came of it
                        source.revise()
        for replay in replays.values():
            replay.fold()


class _Replay:
    """Rows of one source that recovery folds as few times as it can: what a fold costs is windows, not rows."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rows: list[Rows] = []
        self._count = 0
        self._told = 0
        """So many of the rows came before the last `revise`."""
        self._revised: list[Sequence[int]] = []

    def rows(self, rows: Rows) -> None:
        """Later than all before."""
        self._rows.append(rows)
        self._count += len(rows)
        if self._count >= REPLAY_ROWS:
            self.fold()

    def revised(self, what: Sequence[Sequence[int]]) -> None:
        """Here changed ends were told."""
        self._told = len(self._rows)
        self._revised.extend(what)

    def fold(self) -> None:
        """Everything that waits."""
        if self._revised:
            self._fold(self._rows[: self._told])
            self._source.told(self._revised)
        self._fold(self._rows[self._told :])
        self._rows, self._count, self._told, self._revised = [], 0, 0, []

    def _fold(self, rows: list[Rows]) -> None:
        if rows:
            joined = state.join(rows)
            self._source.seen.replay(joined.key, joined.turns, joined.seen_clock)
            self._source.fold(joined)


def _base_keys(generation: int, pages: int) -> Iterator[bytes]:
    for page in range(pages):
        yield b"base|%d|%d" % (generation, page)
    yield b"base|%d|end" % generation


def _joined(journal: Sequence[tuple[str, str, Any]]) -> Iterator[tuple[str, str, Any]]:
    """The journal with rows of one topic joined where nothing of that topic stands between them; topics do not mix."""
    for topic in dict.fromkeys(t for _, t, _ in journal):
        rows: list[Rows] = []
        for kind, of, what in journal:
            if of != topic:
                continue
            if kind == "rows":
                rows.append(what)
                continue
            if rows:
                yield "rows", topic, state.join(rows)
                rows = []
            yield kind, topic, what
        if rows:
            yield "rows", topic, state.join(rows)


def _name_parts(new: list[Any]) -> Iterator[list[Any]]:
    """New names in portions: users by the thousand, the rest in the first portion's order."""
    tenants, products, names, groups, cells, users = new
    if len(names) + len(cells) + len(users) <= NAMES_A_RECORD:
        yield new
        return
    yield [tenants, products, [], [], [], []]
    for start in range(0, len(names), NAMES_A_RECORD):
        yield [[], [], names[start : start + NAMES_A_RECORD], [], [], []]
    born = 0
    for start in range(0, len(cells), NAMES_A_RECORD):
        part = cells[start : start + NAMES_A_RECORD]
        fresh = sum(1 for _, name in part if name == "*")
        yield [[], [], [], groups[born : born + fresh], part, []]
        born += fresh
    for start in range(0, len(users), NAMES_A_RECORD):
        yield [[], [], [], [], [], users[start : start + NAMES_A_RECORD]]

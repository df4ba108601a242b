"""A source: everything one partition of one events topic has told METER, and how it is folded.

`Rows` is the narrow waist: what a batch comes to after decoding, interning and deduplication. The fold is a function of the
state and of `Rows` alone, so checkpoints keep `Rows`, and recovery folds them again: recovered state is live state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, overload

import numpy as np

from core.batch import Int64s
from core.kernels.clocks import running_max
from core.meter.asked import Asked
from core.meter.clocks import Clock, Floors
from core.meter.dedupe import Seen
from core.meter.index import UInt64s, grown
from core.meter.intern import Grid, Interner, Tenants
from core.meter.levels import LEVELS
from core.meter.pending import Pending
from core.meter.tally import Contributions, Lateness, contributions
from core.meter.windows import Closed, Window
from schemas.registers import ALL

Mark = tuple[int, str, str, int, bool, int, list[int]]
"""A replay's marker: (rows before it, type, replay, at less disorder, act, broker time, products named)."""


class ToldClocks(Sequence[Mark]):
    """Markers of progress that were made of recorded clocks: thousands, where the past is read again, so they stay columns.

    `places`: rows before each, ascending, each number once; `at`: what the clock was told there.
    """

    def __init__(self, places: Int64s, at: Int64s) -> None:
        self.places, self.at = places, at

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Mark: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mark]: ...
    def __getitem__(self, index: int | slice) -> Mark | Sequence[Mark]:
        if isinstance(index, slice):
            return ToldClocks(self.places[index], self.at[index])
        return int(self.places[index]), "progressed", "", int(self.at[index]), True, 0, []


@dataclass(slots=True)
class Rows:
    """Accepted rows in offset order, as numbers."""

    group: Int64s
    time: Int64s
    pace: Int64s
    """min(time, broker time + 5 s) less the product's disorder: what moves its watermark."""
    key: UInt64s
    """Hash of the identity."""
    columns: dict[str, Int64s]
    """What the topic's own fold needs."""
    turns: list[int] = field(default_factory=list)
    """Rows before which the generations of remembered identities turned."""
    seen_clock: int = 0
    markers: Sequence[Mark] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.time)


class Group(NamedTuple):
    """One product of one tenant."""

    tenant: str
    product: str
    grace: int


class Source(ABC):
    """State of one topic's partition. Subclasses say what a row contributes."""

    columns: tuple[str, ...] = ()
    """Figures per cell."""

    def __init__(self, topic: str, partition: int, capacity: int) -> None:
        self.topic = topic
        self.partition = partition
        self.tenants, self.products, self.names = Tenants(), Interner(), Interner()
        self.groups: list[Group] = [Group("", "", 0)]
        """By number; number 0 is none."""
        self._group_of = Grid()
        self.watermark: Int64s = np.zeros(1, np.int64)
        self.grace: Int64s = np.zeros(1, np.int64)
        self.cell_names: list[str] = [""]
        """By cell; cell 0 is none."""
        self.cell_group: Int64s = np.zeros(1, np.int64)
        self.cell_local: Int64s = np.zeros(1, np.int64)
        self.star: Int64s = np.zeros(1, np.int64)
        """Cell of `*`, by group."""
        self.locals: list[list[int]] = [[]]
        """Cells by group, in the order of their numbers there."""
        self._cell_of = Grid()
        self.pending = Pending(len(self.columns))
        """Differences of the ends to come, of all products' windows."""
        self.windows: dict[int, list[Window]] = {}
        """By group, from its first row on; in the order of `LEVELS`."""
        self.clock = Clock()
        self.born: set[int] = set()
        """Products that began with a replay's `begun`, not with a row."""
        self.held: set[int] = set()
        """Of these, those whose replay is open yet: the partition's clock does not speak for them."""
        self.seen = Seen(capacity)
        self.telling = True
        """Whether folding returns the figures of what closed; the state comes out the same without."""
        self.asked: Asked | None = None
        """Figures that are told; None: all."""
        self.late = 0
        self.expired = 0
        self.came: Int64s = _NONE
        """Of the rows that were folded last, their products' watermarks as they came."""
        self.drained_groups = 1
        self.drained_cells = 1

    # --- names --------------------------------------------------------------------------------------------------------

    def group_numbers(self, tenants: Int64s, products: Int64s) -> Int64s:
        """Numbers of (tenant, product) codes; 0 where it is not known yet."""
        return self._group_of.get(tenants, products)

    def add_group(self, tenant: str, product: str, grace: int) -> int:
        """A product appears."""
        number = len(self.groups)
        self.groups.append(Group(tenant, product, grace))
        self._group_of.put(self.tenants[tenant], self.products[product], number)
        self.watermark = np.append(self.watermark, 0)
        self.grace = np.append(self.grace, grace)
        self.locals.append([])
        self.star = np.append(self.star, 0)
        self.star[number] = self.add_cell(number, ALL)
        return number

    def cells(self, groups: Int64s, names: Int64s) -> Int64s:
        """Cells of (group, name code); new ones are added. Name code 0 gives cell 0."""
        cells = self._cell_of.get(groups, names)
        missing = np.flatnonzero((cells == 0) & (names != 0))
        if len(missing):
            codes = np.unique((groups[missing] << 32) | names[missing])
            for group, name in zip((codes >> 32).tolist(), (codes & 0xFFFFFFFF).tolist(), strict=True):
                self.add_cell(group, self.names.names[name])
            cells[missing] = self._cell_of.get(groups[missing], names[missing])
        return cells

    def add_cell(self, group: int, name: str) -> int:
        """A name appears in a product."""
        cell = len(self.cell_names)
        self.cell_names.append(name)
        self.cell_group = grown(self.cell_group, cell + 1)
        self.cell_local = grown(self.cell_local, cell + 1)
        self.cell_group[cell], self.cell_local[cell] = group, len(self.locals[group])
        self.locals[group].append(cell)
        self._cell_of.put(group, self.names[name], cell)
        return cell

    # --- folding ------------------------------------------------------------------------------------------------------

    def fold(self, rows: Rows) -> list[tuple[int, Closed]]:
        """Take the rows; (group, figures) of the window ends that closed, and later versions of those leaving grace."""
        self.came = _NONE
        if len(rows):
            floors = self._markers(rows)
            watermarks, touched = np.empty(len(rows), np.int64), np.empty(len(self.groups), np.int64)
            first = np.empty(len(self.groups), np.int64)
            floor = np.atleast_1d(floors.of(rows.group, len(self.groups)))
            known = np.zeros(len(self.groups), np.bool_)
            count = running_max(rows.group, rows.pace, self.watermark, floor, watermarks, touched, first, known)
            floors.settle(self.watermark)
            for group, at in zip(touched[:count].tolist(), watermarks[first[:count]].tolist(), strict=True):
                if group not in self.windows:
                    self.windows[group] = self._windows(group, at)
            out = contributions(len(self.columns))
            late = self.contribute(rows, watermarks, out)
            self.late += late.late
            self.expired += late.expired
            self._deal(out)
            self.came = watermarks
            moved: Iterable[int] = list(self.windows) if rows.markers else sorted(touched[:count].tolist())
        else:
            self._markers(rows).settle(self.watermark)
            moved = list(self.windows) if rows.markers else ()
        return list(self._close(moved))

    def advance(self, at: int) -> list[tuple[int, Closed]]:
        """The partition's clock moves on."""
        return list(self._close(list(self.windows))) if self.clock.advance(at) else []

    def revise(self) -> list[tuple[int, Closed]]:
        """Newest figures of ends that late rows have changed."""
        return [
            (g, closed)
            for g, windows in self.windows.items()
            for w in windows
            for closed in w.revise(told=self.telling)
        ]

    def dirty(self) -> list[tuple[int, int]]:
        """(group, number of the window) whose closed ends have changed since they were published."""
        return [(g, i) for g, windows in self.windows.items() for i, window in enumerate(windows) if window.dirty]

    def revised(self, which: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
        """What `revise` came to in these windows, for `told`."""
        return [(g, i, self.windows[g][i].revised) for g, i in which]

    def told(self, revised: Iterable[Sequence[int]]) -> None:
        """As if `revise` had been called, perhaps several times, with what came of each: no fold has to stand between them."""
        for windows in self.windows.values():
            for window in windows:
                window.dirty = None
        for g, i, newest in revised:
            window = self.windows[g][i]
            window.revised = max(window.revised, newest)

    def watermark_of(self, group: int) -> int:
        """The product's watermark here."""
        own = int(self.watermark[group])
        return own if group in self.held else max(own, self.clock.at)

    @abstractmethod
    def contribute(self, rows: Rows, watermarks: Int64s, late: Contributions) -> Lateness:
        """Add the rows to the windows; `watermarks` are those at which they came, `late` gets what changes closed ends."""

    def _markers(self, rows: Rows) -> Floors:
        """Takes the rows' markers; what they and the partition's clock say at each row."""
        floors = Floors(len(rows), self.clock.at, self.held)
        if isinstance(rows.markers, ToldClocks) and len(rows.markers) and not self.held and not self.clock.replaying:
            floors.told(rows.markers.places, rows.markers.at)
            self.clock.advance(int(rows.markers.at.max()))
            return floors
        for position, kind, replay, at, act, broker, coming in rows.markers:
            self.clock.mark(kind, replay, act, broker)
            if kind == "begun":
                new = [g for g in coming if g not in self.windows and not (rows.group[:position] == g).any()]
                self._begin(new, max(at, 0))
                floors.begin(new)
            elif kind == "progressed":
                self.clock.advance(at)
                floors.rise(position, at)
            if self.held and not self.clock.replaying:
                self.held.clear()
                floors.rise(position, self.clock.at)
        return floors

    def _begin(self, groups: Sequence[int], watermark: int) -> None:
        """Products begin with a replay, wherever the partition's clock stands."""
        for group in groups:
            self.watermark[group] = watermark
            self.windows[group] = self._windows(group, watermark)
        self.born.update(groups)
        self.held.update(groups)

    def _windows(self, group: int, watermark: int) -> list[Window]:
        grace = self.groups[group].grace
        return [
            Window(name, level.step, len(self.columns), watermark, grace)
            for level in LEVELS
            for name, _ in level.windows
        ]

    def _deal(self, late: Contributions) -> None:
        """Hand what late rows change to their windows."""
        if self.asked is not None and not self.asked.corrected:
            return
        for i, spread in enumerate(late.values()):
            for group, end, cells, values in spread.slices(self.cell_group, self.cell_local):
                window = self.windows[group][i]
                if self.asked is not None:
                    if not self.asked.window(group, window.name):
                        continue
                    if self.asked.narrow(group, window.name):
                        local = self.locals[group]
                        own = np.array([local[cell] for cell in cells.tolist()], np.int64)
                        kept = self.asked.mask(self, window.name, own)
                        cells, values = cells[kept], values[kept]
                if len(cells):
                    window.correct(end, cells, values)

    def _close(self, groups: Iterable[int]) -> Iterator[tuple[int, Closed]]:
        for group in groups:
            watermark = self.watermark_of(group)
            limit = watermark - self.groups[group].grace
            told = False
            for i, window in enumerate(self.windows[group]):
                upto = watermark // window.step
                if self.asked is not None and not self.asked.window(group, window.name):
                    if upto > window.closed:
                        self._due(group, i, upto)
                        window.skip(upto, limit // window.step)
                    continue
                if upto > window.closed:
                    ends, cells, values = self._due(group, i, upto)
                    for closed in window.close(upto, ends, cells, values, told=self.telling):
                        told = True
                        yield group, closed
                for closed in window.settle(limit // window.step, told=self.telling):
                    yield group, closed
            if told and self.asked is not None:
                self.asked.begun.add(group)

    def _due(self, group: int, window: int, upto: int) -> tuple[Int64s, Int64s, Int64s]:
        """Differences of the window's ends up to `upto`, by the product's own numbers of cells; they wait no longer."""
        if not self.pending.due(group, window, upto):
            return _NONE, _NONE, _NONE.reshape(0, 1)
        ends, cells, values = self.pending.take(group, window, upto)
        name = self.windows[group][window].name
        if self.asked is not None and self.asked.narrow(group, name):
            kept = self.asked.mask(self, name, cells)
            ends, cells, values = ends[kept], cells[kept], values[kept]
        return ends, self.cell_local[cells], values


_NONE = np.zeros(0, np.int64)

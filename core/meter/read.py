"""Reading: a batch becomes `Rows`, dead letters and counts. Every check of docs/semantics.md §1, in its order.

Plain rows are read as columns at once (`plain`), the others are decoded: what to stands in `wire`. How a row's id is told from others'
stands in `identities`, whose it is in `products`; a topic's own columns are its reader's (`read_usage`, `read_performance`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np

from core.batch import Batch, Int64s, Piece, Values
from core.effects import Count, Effect
from core.kernels.fields import PRODUCT, TENANT, TIME
from core.meter.checks import dead_letter, latest, refusal
from core.meter.chunk import CHUNK, LEAST, Chunk, join
from core.meter.clocks import AHEAD_MS, DISORDER_MS
from core.meter.decode import decode, is_event
from core.meter.identities import Identities
from core.meter.index import Bools
from core.meter.plain import Scan, Scanner
from core.meter.products import Products, SettingsOf
from core.meter.source import Mark, Rows, Source, ToldClocks
from core.meter.watching import Watch
from core.meter.wire import Bad, Wire

_tenant, _product = map(attrgetter, ("tenant", "product"))


class Reading(NamedTuple):
    """What a batch came to."""

    rows: Rows
    effects: list[Effect]
    accepted: Int64s
    """Positions in the batch of the accepted rows."""
    kept: dict[int, Any]
    """Decoded rows that somebody watches for, by position in the batch; dead ones and duplicates may be among them."""


def _merged(markers: Sequence[Mark], places: Int64s, at: Int64s, accepted: Int64s) -> Sequence[Mark]:
    """Markers, and what the clock was told between the rows: of what it was told between the same two, the newest."""
    before = np.searchsorted(accepted, places)
    newest = np.append(before[1:] != before[:-1], True) if len(before) else np.zeros(0, np.bool_)
    told = ToldClocks(before[newest], at[newest])
    return sorted([*markers, *told], key=itemgetter(0)) if markers else told


class Reader(ABC):
    """Reads batches of one topic into one source."""

    either: tuple[str, ...] = ()
    """Fields of which a row must have one."""

    def __init__(
        self, source: Source, wire: Wire, settings: SettingsOf, seed: int, tables: Mapping[str, Mapping[Any, int]]
    ) -> None:
        """`tables`: what gives the topic's own names their codes."""
        self.source = source
        self._wire = wire
        self._products = Products(source, settings)
        self._identities = Identities(source.tenants, seed)
        every = {"tenant": source.tenants, "product": source.products, **tables}
        self.scanner: Scanner | None = Scanner(wire, every, self.either, seed)
        """What reads plain rows; None: every row is decoded. The state comes out the same without."""

    def read(self, batch: Batch, generation: int, watch: Watch | None = None) -> Reading:
        """Decode, check, number and deduplicate. `generation` is the catalogue's: settings are looked up again when it grew."""
        source, products, n = self.source, self._products, len(batch)
        products.renew(generation)
        chunk = join(list(self._chunks(batch, watch)) or [self._decoded(batch, np.arange(0), [], watch)])
        columns = chunk.columns
        groups = products.numbers(chunk.tenants, chunk.products, chunk.good)
        good = chunk.good & (groups > 0)
        every = bool(good.all())
        effects: list[Effect] = []
        accepted = np.arange(n)
        keys, times = self._identities.keys(chunk.hashes, chunk.tenants, chunk.origins), chunk.times
        if not every:
            for i in np.flatnonzero(~good).tolist():
                if i not in chunk.markers:
                    bad = chunk.bad.get(i) or products.refused(int(chunk.tenants[i]), int(chunk.products[i]))
                    effects.append(dead_letter(batch, i, bad))
            accepted = np.flatnonzero(good)
            keys, times, groups = keys[accepted], times[accepted], groups[accepted]
            columns = {name: column[accepted] for name, column in columns.items()}
        capped = np.minimum(times, batch.timestamps[accepted] + AHEAD_MS)
        fresh, turns = source.seen.accept(keys, capped)
        duplicates = len(accepted) - int(fresh.sum())
        if duplicates:
            keys, times, groups, capped = keys[fresh], times[fresh], groups[fresh], capped[fresh]
            columns = {name: column[fresh] for name, column in columns.items()}
            accepted = accepted[fresh]
        folded = self._number(groups, columns)
        pace = np.maximum(capped - products.disorder[groups], 0)
        rows = Rows(groups, times, pace, keys, folded, turns, source.seen.clock)
        marks: list[Mark] = []
        for at, m in sorted(chunk.markers.items()):
            before = int(np.searchsorted(accepted, at))
            broker, coming = int(batch.timestamps[at]), products.coming(m.products) if m.type == "begun" else []
            marks.append((before, m.type, m.replay, m.at - DISORDER_MS, m.act, broker, coming))
        rows.markers = marks if batch.clocks is None else _merged(marks, *batch.clocks, accepted)
        control = len(chunk.markers)
        outcomes = {
            "accepted": len(accepted),
            "duplicate": duplicates,
            "dead": n - len(accepted) - duplicates - control,
            "control": control,
        }
        effects.extend(Count("uptake_rows_total", k, (batch.topic, name)) for name, k in outcomes.items() if k)
        if chunk.decoded and self.scanner is not None:
            effects.append(Count("uptake_decoded_rows_total", chunk.decoded, (batch.topic,)))
        return Reading(rows, effects, accepted, chunk.kept)

    def _chunks(self, batch: Batch, watch: Watch | None) -> Iterator[Chunk]:
        start = 0
        events = np.fromiter((i for i, headers in batch.headed.items() if is_event(headers)), np.int64)
        for piece in Values.of(batch.values).gathered(LEAST):
            for part in piece.parts(CHUNK):
                if self.scanner is None:
                    at = np.arange(start, start + len(part.spans))
                    yield self._decoded(batch, at, list(part.values()), watch)
                else:
                    yield self._scanned(batch, start, self.scanner.scan(part), events, watch)
                start += len(part.spans)

    def _scanned(self, batch: Batch, start: int, scan: Scan, events: Int64s, watch: Watch | None) -> Chunk:
        """The rows from `start` on as columns; those that are not plain, or not good, are decoded. `events`: rows that their headers
        make CloudEvents.
        """
        figures, plain = scan.figures, scan.plain
        if len(events):
            plain &= ~np.isin(np.arange(start, start + len(plain)), events)
        columns, good = self._scanned_columns(scan, plain)
        tenants, products, times = figures[TENANT], figures[PRODUCT], figures[TIME]
        good &= plain
        good &= tenants > 0
        good &= products > 0
        good &= times <= latest(batch.timestamps[start : start + len(plain)])
        chunk = Chunk(times, tenants, products, scan.hashes[0], columns, good, {}, {}, {}, {}, 0)
        if watch is not None and (hits := watch.scanned(scan)) is not None:
            for i in np.flatnonzero(hits & good).tolist():
                chunk.kept[start + i] = self._wire.decode(scan.piece.value(i) or b"")
        if good.all():
            return chunk
        left = np.flatnonzero(~good)
        values = list(Piece(scan.piece.payload, scan.piece.spans[left]).values())
        chunk.put(left, self._decoded(batch, left + start, values, watch))
        return chunk._replace(decoded=len(left))

    def _decoded(self, batch: Batch, at: Int64s, values: Sequence[bytes | None], watch: Watch | None) -> Chunk:
        """The rows at `at`, which have these values, as columns, the bad ones with their reason."""
        source, n = self.source, len(at)
        headed = {}
        if batch.headed:
            headed = {i: batch.headed[row] for i, row in enumerate(at.tolist()) if row in batch.headed}
        broker = batch.timestamps[at]
        decoded = decode(values, headed, self._wire)
        rows, times = decoded.rows, decoded.times
        tenants = source.tenants.codes(map(_tenant, rows), n)
        products = source.products.codes(map(_product, rows), n)
        hashes = self._identities.hashes(rows)
        columns, fine = self._columns(rows, n)
        good: Bools = fine & (times >= 0) & (tenants > 0) & (products > 0) & (hashes != self._identities.nobody)
        good &= times <= latest(broker)
        bad: dict[int, Bad | None] = {}
        if not good.all():
            for i in np.flatnonzero(~good).tolist():
                if i not in decoded.markers:
                    bad[int(at[i])] = decoded.bad.get(i) or refusal(
                        rows[i],
                        values[i],
                        int(times[i]),
                        int(broker[i]),
                        wire=self._wire,
                        tenants=source.tenants,
                        lacks=self._lacks,
                    )
        return Chunk(
            times=times,
            tenants=tenants,
            products=products,
            hashes=hashes,
            columns=columns,
            good=good,
            bad=bad,
            markers={int(at[i]): m for i, m in decoded.markers.items()},
            origins={int(at[i]): self._identities.origin(rows[i].tenant, rows[i].source) for i in decoded.events},
            kept={int(at[i]): rows[i] for i in watch.decoded(rows)} if watch else {},
            decoded=n,
        )

    @abstractmethod
    def _scanned_columns(self, scan: Scan, plain: Bools) -> tuple[dict[str, Any], Bools]:
        """As `_columns`, of the rows that are plain; of the others it gives anything."""

    @abstractmethod
    def _columns(self, rows: list[Any], n: int) -> tuple[dict[str, Any], Bools]:
        """The topic's own columns of all rows (`type` among them), and which rows are fine so far."""

    @abstractmethod
    def _number(self, groups: Int64s, columns: dict[str, Any]) -> dict[str, Int64s]:
        """The columns of accepted rows as the fold wants them."""

    @abstractmethod
    def _lacks(self, row: Any) -> str | None:
        """What is wrong with the topic's own fields of a decoded row."""

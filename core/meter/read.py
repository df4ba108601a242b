"""Reading: a batch becomes `Rows`, dead letters and counts. Every check of docs/semantics.md §1, in its order.

What a row is decoded to stands in `wire`, how its id is told from others' in `identities`, whose it is in `products`; a topic's own
columns are its reader's (`read_usage`, `read_performance`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np

from core.batch import Batch, Int64s
from core.effects import Count, Effect
from core.meter.checks import dead_letter, latest, refusal
from core.meter.chunk import CHUNK, Chunk, join
from core.meter.clocks import AHEAD_MS, DISORDER_MS
from core.meter.decode import decode
from core.meter.identities import Identities
from core.meter.index import Bools
from core.meter.products import Products, SettingsOf
from core.meter.source import Mark, Rows, Source, ToldClocks
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


Watch = Callable[[list[Any]], Iterable[int]]
"""Given decoded rows, positions of those to keep."""


def _merged(markers: Sequence[Mark], places: Int64s, at: Int64s, accepted: Int64s) -> Sequence[Mark]:
    """Markers, and what the clock was told between the rows: of what it was told between the same two, the newest."""
    before = np.searchsorted(accepted, places)
    newest = np.append(before[1:] != before[:-1], True) if len(before) else np.zeros(0, np.bool_)
    told = ToldClocks(before[newest], at[newest])
    return sorted([*markers, *told], key=itemgetter(0)) if markers else told


class Reader(ABC):
    """Reads batches of one topic into one source."""

    def __init__(self, source: Source, wire: Wire, settings: SettingsOf, seed: int) -> None:
        self.source = source
        self._wire = wire
        self._products = Products(source, settings)
        self._identities = Identities(source.tenants, seed)

    def read(self, batch: Batch, generation: int, watch: Watch | None = None) -> Reading:
        """Decode, check, number and deduplicate. `generation` is the catalogue's: settings are looked up again when it grew."""
        source, products, n = self.source, self._products, len(batch)
        products.renew(generation)
        chunk = join([self._chunk(batch, start, min(start + CHUNK, n), watch) for start in range(0, n, CHUNK)])
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
        return Reading(rows, effects, accepted, chunk.kept)

    def _chunk(self, batch: Batch, start: int, stop: int, watch: Watch | None) -> Chunk:
        """Rows `start` … `stop - 1` as columns, the bad ones with their reason."""
        source, n = self.source, stop - start
        headed = batch.headed
        if headed and n < len(batch):
            headed = {i - start: headed[i] for i in headed if start <= i < stop}
        values, broker = batch.values[start:stop], batch.timestamps[start:stop]
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
                    bad[start + i] = decoded.bad.get(i) or refusal(
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
            markers={start + i: m for i, m in decoded.markers.items()},
            origins={start + i: self._identities.origin(rows[i].tenant, rows[i].source) for i in decoded.events},
            kept={start + i: rows[i] for i in watch(rows)} if watch else {},
        )

    @abstractmethod
    def _columns(self, rows: list[Any], n: int) -> tuple[dict[str, Any], Bools]:
        """The topic's own columns of all rows (`type` among them), and which rows are fine so far."""

    @abstractmethod
    def _number(self, groups: Int64s, columns: dict[str, Any]) -> dict[str, Int64s]:
        """The columns of accepted rows as the fold wants them."""

    @abstractmethod
    def _lacks(self, row: Any) -> str | None:
        """What is wrong with the topic's own fields of a decoded row."""

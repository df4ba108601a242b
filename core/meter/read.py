"""Reading: a batch becomes `Rows`, dead letters and counts. Every check of docs/semantics.md §1, in its order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import xxhash

from core.batch import Batch, Int64s
from core.effects import Count, DeadLetter, Effect
from core.meter import wire
from core.meter.clocks import AHEAD_MS, DISORDER_MS
from core.meter.index import Bools, UInt64s
from core.meter.intern import Flags, Grid
from core.meter.performance import Performance, buckets
from core.meter.source import Mark, Rows, Source
from core.meter.usage import Usage
from schemas.registers import ALL, bucket_cell

HOUR_MS: Final = 3_600_000
CHUNK: Final = 1_024
"""Rows decoded together."""
_MIX: Final = np.uint64(0xD6E8FEB86659FD93)
_SHIFT: Final = np.uint64(32)


class Settings(NamedTuple):
    """What reading needs to know of a product."""

    known: bool
    disorder_ms: int
    grace_ms: int
    t_ms: float
    tenant_known: bool = True


SettingsOf = Callable[[str, str], Settings]


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


class _Chunk(NamedTuple):
    """Some rows of a batch, decoded; positions are those in the batch."""

    times: Int64s
    tenants: Int64s
    products: Int64s
    hashes: UInt64s
    columns: dict[str, Any]
    good: Bools
    bad: dict[int, wire.Bad]
    markers: dict[int, wire.Marker]
    origins: dict[int, int]
    kept: dict[int, Any]


def _join(parts: Sequence[_Chunk]) -> _Chunk:
    joined: list[Any] = []
    for column in zip(*parts, strict=True):
        first = column[0]
        if isinstance(first, np.ndarray):
            joined.append(np.concatenate(column))
        elif first and isinstance(next(iter(first.values())), np.ndarray):
            joined.append({name: np.concatenate([c[name] for c in column]) for name in first})
        else:
            joined.append({i: what for c in column for i, what in c.items()})
    return _Chunk(*joined)


def _merged(markers: list[Mark], places: Int64s, at: Int64s, accepted: Int64s) -> list[Mark]:
    """Markers, and what the clock was told between the rows: of what it was told between the same two, the newest."""
    before = np.searchsorted(accepted, places)
    newest = np.append(before[1:] != before[:-1], True) if len(before) else np.zeros(0, np.bool_)
    told: list[Mark] = [
        (row, "progressed", "", clock, True, 0, [])
        for row, clock in zip(before[newest].tolist(), at[newest].tolist(), strict=True)
    ]
    return sorted([*markers, *told], key=itemgetter(0)) if markers else told


def _dead_letter(batch: Batch, row: int, bad: wire.Bad) -> DeadLetter:
    return DeadLetter(
        topic=batch.topic,
        partition=batch.partition,
        offset=int(batch.offsets[row]),
        step="meter",
        reason=bad.reason,
        detail=bad.detail,
        key=batch.rows.key(row),
        value=batch.values[row],
        at=int(batch.timestamps[row]),
        headers=batch.headed.get(row, ()),
    )


class Reader:
    """Reads batches of one topic into one source."""

    def __init__(self, source: Source, kind: wire.Wire, settings: SettingsOf, seed: int) -> None:
        self.source = source
        self._wire = kind
        self._settings = settings
        self._seed = seed
        self._origins: UInt64s = np.zeros(1, np.uint64)
        """By tenant code, the hash that its identities are mixed with."""
        self._empty_id = xxhash.xxh3_64_intdigest(b"", seed)
        self._disorder: Int64s = np.zeros(1, np.int64)
        self._t_ms = np.zeros(1)
        self._generation = -1
        self._refused: dict[tuple[int, int], wire.Bad] = {}

    def read(self, batch: Batch, generation: int, watch: Watch | None = None) -> Reading:
        """Decode, check, number and deduplicate. `generation` is the catalogue's: settings are looked up again when it grew.

        Rows are decoded a thousand at a time and let go: their strings are read while they are in the cache.
        """
        source, n = self.source, len(batch)
        if generation != self._generation:
            self._generation = generation
            self._refused.clear()
            self._refresh(range(1, len(source.groups)))
        parts = [self._chunk(batch, start, min(start + CHUNK, n), watch) for start in range(0, n, CHUNK)]
        chunk = parts[0] if len(parts) == 1 else _join(parts)
        good, tenants, products, columns = chunk.good, chunk.tenants, chunk.products, chunk.columns
        groups = source.group_numbers(tenants, products)
        if bool((good & (groups == 0)).any()):
            groups = self._register(groups, tenants, products, good)
            good = good & (groups > 0)
        every = bool(good.all())
        effects: list[Effect] = []
        accepted = np.arange(n)
        keys, times = self._identities(chunk.hashes, tenants, chunk.origins), chunk.times
        if not every:
            for i in np.flatnonzero(~good).tolist():
                if i not in chunk.markers:
                    bad = chunk.bad.get(i) or self._refused.get((int(tenants[i]), int(products[i])), _UNKNOWN)
                    effects.append(_dead_letter(batch, i, bad))
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
        pace = np.maximum(capped - self._disorder[groups], 0)
        rows = Rows(groups, times, pace, keys, folded, turns, source.seen.clock)
        for at, m in sorted(chunk.markers.items()):
            before = int(np.searchsorted(accepted, at))
            broker, coming = int(batch.timestamps[at]), self._coming(m)
            rows.markers.append((before, m.type, m.replay, m.at - DISORDER_MS, m.act, broker, coming))
        if batch.clocks is not None:
            rows.markers = _merged(rows.markers, *batch.clocks, accepted)
        control = len(chunk.markers)
        outcomes = {
            "accepted": len(accepted),
            "duplicate": duplicates,
            "dead": n - len(accepted) - duplicates - control,
            "control": control,
        }
        effects.extend(Count("uptake_rows_total", k, (batch.topic, name)) for name, k in outcomes.items() if k)
        return Reading(rows, effects, accepted, chunk.kept)

    def _chunk(self, batch: Batch, start: int, stop: int, watch: Watch | None) -> _Chunk:
        """Rows `start` … `stop - 1` as columns, the bad ones with their reason."""
        source, n = self.source, stop - start
        headed = batch.headed
        if headed and n < len(batch):
            headed = {i - start: headed[i] for i in headed if start <= i < stop}
        values, broker = batch.values[start:stop], batch.timestamps[start:stop]
        decoded = wire.decode(values, headed, self._wire)
        rows, times = decoded.rows, decoded.times
        tenants = source.tenants.codes(map(_tenant, rows), n)
        products = source.products.codes(map(_product, rows), n)
        hashes = np.fromiter(
            map(xxhash.xxh3_64_intdigest, map(str.encode, map(_id, rows)), repeat(self._seed)), np.uint64, n
        )
        columns, fine = self._columns(rows, n)
        good: Bools = fine & (times >= 0) & (tenants > 0) & (products > 0) & (hashes != np.uint64(self._empty_id))
        good &= times <= np.minimum(broker + HOUR_MS, (1 << 42) - 2)
        bad: dict[int, wire.Bad] = {}
        if not good.all():
            for i in np.flatnonzero(~good).tolist():
                if i not in decoded.markers:
                    bad[start + i] = decoded.bad.get(i) or self._why(rows[i], values[i], int(times[i]), int(broker[i]))
        return _Chunk(
            times=times,
            tenants=tenants,
            products=products,
            hashes=hashes,
            columns=columns,
            good=good,
            bad=bad,
            markers={start + i: m for i, m in decoded.markers.items()},
            origins={start + i: self._origin(rows[i].tenant, rows[i].source) for i in decoded.events},
            kept={start + i: rows[i] for i in watch(rows)} if watch else {},
        )

    def _columns(self, rows: list[Any], n: int) -> tuple[dict[str, Any], Bools]:
        """The topic's own columns of all rows (`type` among them), and which rows are fine so far."""
        raise NotImplementedError

    def _number(self, groups: Int64s, columns: dict[str, Any]) -> dict[str, Int64s]:
        """The columns of accepted rows as the fold wants them."""
        raise NotImplementedError

    def _explain(self, row: Any) -> str | None:
        """What is wrong with the topic's own fields of a decoded row."""
        raise NotImplementedError

    def _refresh(self, groups: Iterable[int]) -> None:
        for number in groups:
            group = self.source.groups[number]
            settings = self._settings(group.tenant, group.product)
            if number >= len(self._disorder):
                more = number + 1 - len(self._disorder)
                self._disorder = np.append(self._disorder, np.zeros(more, np.int64))
                self._t_ms = np.append(self._t_ms, np.zeros(more))
            self._disorder[number], self._t_ms[number] = settings.disorder_ms, settings.t_ms

    def _register(self, groups: Int64s, tenants: Int64s, products: Int64s, good: Bools) -> Int64s:
        """Products seen for the first time: they register themselves, unless the deployment is strict."""
        source = self.source
        new = np.flatnonzero(good & (groups == 0))
        for code in np.unique((tenants[new] << 32) | products[new]).tolist():
            pair = code >> 32, code & 0xFFFFFFFF
            tenant, product = source.tenants.names[pair[0]], source.products.names[pair[1]]
            settings = self._settings(tenant, product)
            if settings.known:
                self._refresh([source.add_group(tenant, product, settings.grace_ms)])
            elif settings.tenant_known:
                self._refused[pair] = wire.Bad("unknown_product", f"{tenant} has no product {product!r}")
            else:
                self._refused[pair] = wire.Bad("unknown_tenant", f"no product of {tenant!r} is defined")
        return source.group_numbers(tenants, products)

    def _coming(self, marker: wire.Marker) -> list[int]:
        """Numbers of the products that `begun` names, as far as their rows would be accepted."""
        source, found = self.source, []
        for tenant, product in marker.products if marker.type == "begun" else ():
            pair = source.tenants[tenant], source.products[product]
            if pair[0]:
                number = int(source.group_numbers(np.array(pair[:1]), np.array(pair[1:]))[0])
                settings = self._settings(tenant, product)
                if not number and settings.known:
                    number = source.add_group(tenant, product, settings.grace_ms)
                    self._refresh([number])
                if number:
                    found.append(number)
        return found

    def _identities(self, hashes: UInt64s, tenants: Int64s, odd: dict[int, int]) -> UInt64s:
        """Keyed 64-bit hashes of (tenant, source, id); never 0. `odd`: origins of rows that name a source."""
        names = self.source.tenants.names
        if len(self._origins) < len(names):
            fresh = [self._origin(name, "") for name in names[len(self._origins) :]]
            self._origins = np.append(self._origins, np.array(fresh, np.uint64))
        origins = self._origins[tenants]
        if odd:
            origins[list(odd)] = np.array(list(odd.values()), np.uint64)
        keys = (hashes ^ origins) * _MIX
        keys ^= keys >> _SHIFT
        keys[keys == 0] = 1
        return keys

    def _origin(self, tenant: str, source: str) -> int:
        return int(xxhash.xxh3_64_intdigest(f"{tenant}\x1f{source}".encode(), self._seed))

    def _why(self, row: Any, value: bytes | None, time: int, broker: int) -> wire.Bad:
        """Why a decoded row cannot be accepted."""
        for name in self._wire.required:
            if name != "tenant" and getattr(row, name) in ("", -1, -1.0):
                return wire.Bad("invalid", f"`{name}` is missing or empty")
        if time < 0:
            return wire.Bad("invalid", "`occurred_at` is before 1970")
        if not row.tenant and not _names_tenant(value):
            return wire.Bad("invalid", "`tenant` is missing")
        problem = self._explain(row)
        if problem is not None:
            return wire.Bad("invalid", problem)
        if self.source.tenants[row.tenant] == 0:
            return wire.Bad("bad_tenant", f"{row.tenant[:80]!r} does not match [a-z0-9-]{{1,64}}")
        return wire.Bad("too_far_ahead", f"{(time - broker) / 1000:.0f} s ahead of the broker")


class UsageReader(Reader):
    """Reads `events.usage`."""

    source: Usage

    def __init__(self, source: Usage, settings: SettingsOf, seed: int) -> None:
        super().__init__(source, wire.USAGE, settings, seed)
        self._types = Types({"feature.used": USE})
        self._organic = Attributions()
        self._features = Prefixed(source, "")
        self._features[ALL] = -1  # the product's own name among its features

    def _columns(self, rows: list[Any], n: int) -> tuple[dict[str, Any], Bools]:
        users = self.source.users.codes(list(map(_user, rows)))
        features = np.fromiter(map(self._features.__getitem__, map(_feature, rows)), np.int64, n)
        types = self._types.codes(map(_type, rows), n)
        organic = np.fromiter(map(self._organic.__getitem__, map(_attribution, rows)), np.int64, n)
        uses = types == USE
        fine = (users > 0) & (types > 0) & (organic >= 0) & ~(uses & (features <= 0))
        if not uses.all():
            features = np.where(uses, features, 0)
        return {"user": users, "name": features, "organic": organic}, fine

    def _number(self, groups: Int64s, columns: dict[str, Any]) -> dict[str, Int64s]:
        cells = self.source.cells(groups, columns["name"])
        return {"cell": cells, "user": columns["user"], "organic": columns["organic"]}

    def _explain(self, row: Any) -> str | None:
        if row.type == "feature.used" and row.feature is None:
            return "feature.used needs a `feature`"
        if row.type == "feature.used" and row.feature == ALL:
            return f"`{ALL}` stands for all features and is no feature's name"
        if self._organic[row.attribution] < 0:
            return "`attribution` must be organic, campaign:<id> or command:<id>"
        return None


class PerformanceReader(Reader):
    """Reads `events.performance`."""

    source: Performance

    def __init__(self, source: Performance, settings: SettingsOf, seed: int) -> None:
        super().__init__(source, wire.PERFORMANCE, settings, seed)
        self._types = Types({"request.completed": USE})
        self._services = Prefixed(source, "service:")
        self._features = Prefixed(source, "feature:")
        self._failed = Statuses()
        self._bucket_of = Grid()

    def _columns(self, rows: list[Any], n: int) -> tuple[dict[str, Any], Bools]:
        services = np.fromiter(map(self._services.__getitem__, map(_service, rows)), np.int64, n)
        if not services.all():
            features = np.fromiter(map(self._features.__getitem__, map(_feature, rows)), np.int64, n)
            services = np.where(services > 0, services, features)
        types = self._types.codes(map(_type, rows), n)
        latency = np.fromiter(map(_latency, rows), np.float64, n)
        errors = np.fromiter(map(bool, map(_error, rows)), np.int64, n)
        errors |= np.fromiter(map(self._failed.__getitem__, map(_status, rows)), np.int64, n)
        fine = (services > 0) & (types == USE) & (latency >= 0)
        return {"name": services, "latency": latency, "error": errors}, fine

    def _number(self, groups: Int64s, columns: dict[str, Any]) -> dict[str, Int64s]:
        source, latency, t = self.source, columns["latency"], self._t_ms[groups]
        satisfied = latency <= t
        tolerating = ~satisfied & (latency <= 4 * t)
        us = np.rint(latency * 1000).astype(np.int64)
        cells = source.cells(groups, columns["name"])
        bucket = buckets(us)
        return {
            "cell": cells,
            "bucket": self._bucket_cells(groups, cells, bucket),
            "all_bucket": self._bucket_cells(groups, source.star[groups], bucket),
            "flags": columns["error"] | satisfied.astype(np.int64) << 1 | tolerating.astype(np.int64) << 2,
            "us": us,
        }

    def _bucket_cells(self, groups: Int64s, cells: Int64s, bucket: Int64s) -> Int64s:
        found = self._bucket_of.get(cells, bucket + 2)
        missing = np.flatnonzero(found == 0)
        if len(missing):
            source = self.source
            wanted = np.unique((cells[missing] << 32) | (bucket[missing] + 2))
            for cell, shifted in zip((wanted >> 32).tolist(), (wanted & 0xFFFFFFFF).tolist(), strict=True):
                name = np.array([source.names[bucket_cell(source.cell_names[cell], shifted - 2)]])
                number = int(source.cells(source.cell_group[[cell]], name)[0])
                self._bucket_of.put(cell, shifted, number)
            found = self._bucket_of.get(cells, bucket + 2)
        return found

    def _explain(self, row: Any) -> str | None:
        if row.type != "request.completed":
            return f"`type` {row.type!r} is not request.completed"
        if row.service is None and row.feature is None:
            return "request.completed needs a `service` or a `feature`"
        return None


USE: Final = 1
"""Type code of `feature.used` and `request.completed`."""


class Types(Flags):
    """Type → code: 0 empty, 1 the type that counts, 2 any other."""

    def __init__(self, known: dict[object, int]) -> None:
        super().__init__({"": 0, **known}, 2)

    def codes(self, names: Iterable[str], count: int) -> Int64s:
        """Codes of a column."""
        return np.fromiter(map(self.__getitem__, names), np.int64, count)


class Attributions(dict[object, int]):
    """Attribution → 1 organic, 0 led here by something, -1 malformed; remembers a bounded number."""

    _pattern = re.compile(r"(campaign:|command:).+")

    def __init__(self) -> None:
        super().__init__({None: 1, "organic": 1})

    def __missing__(self, value: object) -> int:
        code = 0 if isinstance(value, str) and self._pattern.fullmatch(value) else -1
        if code == 0 and len(self) < 65_536:
            self[value] = code
        return code


class Statuses(dict[object, int]):
    """HTTP status → whether it is an error; at most five hundred valid ones."""

    def __missing__(self, value: object) -> int:
        code = self[value] = int(isinstance(value, int) and value >= 500)
        return code


class Prefixed(dict[object, int]):
    """Service or feature → code of its prefixed name; absent is 0."""

    def __init__(self, source: Source, prefix: str) -> None:
        super().__init__({None: 0})
        self._source = source
        self._prefix = prefix

    def __missing__(self, name: object) -> int:
        code = self[name] = self._source.names[f"{self._prefix}{name}"]
        return code


def _names_tenant(value: bytes | None) -> bool:
    """Whether a `tenant` stands in the value (then it is bad, not missing)."""
    try:
        fields = msgspec.json.decode(value or b"{}", type=dict[str, Any])
    except ValueError:  # fields that nobody declares are checked only here: not UTF-8, for one
        return False
    data = fields.get("data")
    return "tenant" in fields or (isinstance(data, dict) and "tenant" in data)


_UNKNOWN: Final = wire.Bad("unknown_product", "the product is not defined")
_id, _tenant, _product, _type = map(attrgetter, ("id", "tenant", "product", "type"))
_user, _feature, _attribution = map(attrgetter, ("user", "feature", "attribution"))
_service, _latency, _error, _status = map(attrgetter, ("service", "latency_ms", "error", "status"))

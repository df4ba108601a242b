"""A file as rows on the wire: JSON lines as they stand, CSV and Parquet through a mapping of columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import polars as pl
import xxhash

from core.sources import SPREAD, moment
from schemas.envelope import TENANT_PATTERN
from schemas.events import KEYED, OTHERS

USAGE, PERFORMANCE = "events.usage", "events.performance"
FIELDS = (
    "id",
    "tenant",
    "product",
    "type",
    "feature",
    "user",
    "account",
    "service",
    "latency_ms",
    "status",
    "error",
    "occurred_at",
    "attribution",
    "properties",
)
TimeUnit = Literal["auto", "rfc3339", "ms", "s"]


LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""


def fields_of(topic: str | None) -> tuple[str, ...]:
    """Names of columns that are fields of the topic's events by themselves; None: of the hot topics'."""
    word = OTHERS.get(topic or "")
    return FIELDS if word is None else tuple(dict.fromkeys([*FIELDS, *word.model_fields]))


class BadFile(ValueError):
    """The file cannot be sent as asked; the message names the next move."""


class Row(NamedTuple):
    """One row, ready to go."""

    topic: str
    key: bytes | None
    value: bytes
    at: int | None
    """When it occurred, milliseconds; None where the row does not say so rightly (METER will set it aside)."""
    of: tuple[str, str] | None = None
    """Its tenant and product; None where it does not name both rightly."""


class Survey(NamedTuple):
    """What a file's rows are about."""

    products: list[tuple[str, str]]
    """(tenant, product), in order."""
    earliest: int | None
    """Milliseconds; None where no row says when it occurred."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """How columns become fields."""

    fields: dict[str, str] = field(default_factory=dict)
    """Our field → their column."""
    constants: dict[str, str] = field(default_factory=dict)
    """Our field → the same value for every row that has none."""
    topic: str | None = None
    """All rows go there; absent: `events.performance` for requests, else `events.usage`."""
    time_unit: TimeUnit = "auto"


class _Wire(msgspec.Struct, gc=False):
    """What `send` must know of a row that is already in our format."""

    tenant: str | None = None
    product: str | None = None
    id: str | None = None
    type: str | None = None
    user: str | None = None
    service: str | None = None
    feature: str | None = None
    contact: str | None = None
    account: str | None = None
    subject: str | None = None
    occurred_at: int | datetime | None = None
    specversion: str | None = None


class FileRows:
    """The rows of one file, in an order and with ids that are the same every time it is read."""

    def __init__(self, path: Path, mapping: Mapping, *, sort: bool | None = None) -> None:
        self.path = path
        self.mapping = mapping
        if not path.is_file():
            raise BadFile(f"no file {path}")
        suffix = path.suffix.lower()
        if suffix not in (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"):
            raise BadFile(f"{path.name}: send reads .jsonl, .ndjson, .csv, .tsv and .parquet")
        self.columns = suffix in (".csv", ".tsv", ".parquet")
        self.sort = self.columns if sort is None else sort
        self._fields = fields_of(mapping.topic)
        unknown = [
            f for f in (*mapping.fields, *mapping.constants) if f not in self._fields and not f.startswith(SPREAD)
        ]
        if unknown:
            raise BadFile(f"no field {unknown[0]!r}: fields are {', '.join(self._fields)} and properties.<name>")
        self.fingerprint = self._fingerprint()
        """Of the content and the mapping, not of the name: a renamed file is the same file."""
        self._prefix = f"{self.fingerprint}:"
        self._frame: pl.DataFrame | None = self._load() if self.columns else None
        self._sorted: list[Row] | None = None

    def __iter__(self) -> Iterator[Row]:
        if self.sort:
            if self._sorted is not None:
                return iter(self._sorted)
            rows = list(self._all())
            # A stable sort: rows without a time stay where they stood.
            last = 0
            order = []
            for index, row in enumerate(rows):
                last = row.at if row.at is not None else last
                order.append((last, index))
            order.sort()
            self._sorted = [rows[i] for _, i in order]
            return iter(self._sorted)
        return self._all()

    def survey(self, told: Callable[[int], None] = lambda rows: None) -> Survey:
        """What the rows are about, all of them being read once; `told` hears now and then how many were."""
        products: set[tuple[str, str] | None] = set()
        earliest = LATEST_MS
        for number, row in enumerate(self, 1):
            if row.at is not None and 0 <= row.at <= LATEST_MS:
                products.add(row.of)
                if row.at < earliest:
                    earliest = row.at
            if number % 20_000 == 0:
                told(number)
        named = sorted(of for of in products if of is not None)
        return Survey(named, earliest if products else None)

    def estimate(self) -> int | None:
        """How many rows, if that is known without reading them all."""
        if self._frame is not None:
            return self._frame.height
        with self.path.open("rb") as file:
            head = file.readlines(1 << 20)
        if not head:
            return 0
        read = sum(map(len, head))
        return round(self.path.stat().st_size / (read / len(head)))

    # --- inside ---------------------------------------------------------------------------------------------------

    def _fingerprint(self) -> str:
        digest = xxhash.xxh3_64(
            repr((sorted(self.mapping.fields.items()), sorted(self.mapping.constants.items()))).encode()
        )
        digest.update(repr((self.mapping.topic, self.mapping.time_unit)).encode())
        with self.path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
        return digest.hexdigest()

    def _load(self) -> pl.DataFrame:
        try:
            if self.path.suffix.lower() == ".parquet":
                frame = pl.read_parquet(self.path)
            else:
                separator = "\t" if self.path.suffix.lower() == ".tsv" else ","
                frame = pl.read_csv(self.path, separator=separator, infer_schema_length=10_000, try_parse_dates=True)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise BadFile(f"{self.path.name} cannot be read: {str(error).splitlines()[0]}") from error
        missing = [c for c in self.mapping.fields.values() if c not in frame.columns]
        if missing:
            raise BadFile(f"{self.path.name} has no column {missing[0]!r}; it has {', '.join(frame.columns)}")
        given = set(frame.columns) | set(self.mapping.fields) | set(self.mapping.constants)
        for name in ("tenant", "product", "occurred_at"):
            if name not in given:
                hint = f"--map {name}=COLUMN" + ("" if name == "occurred_at" else f" or --{name} VALUE")
                raise BadFile(f"{self.path.name} does not say {name}: give {hint}")
        return frame

    def _all(self) -> Iterator[Row]:
        if self._frame is not None:
            return self._from_columns(self._frame)
        return self._from_lines()

    def _from_lines(self) -> Iterator[Row]:
        decode = msgspec.json.Decoder(_Wire).decode
        as_is = not self.mapping.fields and not self.mapping.constants
        forced = self.mapping.topic
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                value = line.rstrip(b"\r\n")
                if not value:
                    continue
                if as_is:
                    try:
                        wire = decode(value)
                    except (msgspec.MsgspecError, UnicodeDecodeError):
                        # METER judges it, with its original bytes.
                        yield Row(forced or USAGE, None, value, None)
                        continue
                    if wire.id and wire.specversion is None:
                        yield _row(wire, value, forced)
                        continue
                    if wire.specversion is not None:
                        yield _cloud_event(value, forced)
                        continue
                yield self._mapped_line(value, number)

    def _mapped_line(self, value: bytes, number: int) -> Row:
        try:
            given = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Row(self.mapping.topic or USAGE, None, value, None)
        if not isinstance(given, dict):
            return Row(self.mapping.topic or USAGE, None, value, None)
        return self._event(given, number, rest=False)

    def _from_columns(self, frame: pl.DataFrame) -> Iterator[Row]:
        number = 0
        for piece in frame.iter_slices(20_000):
            for given in piece.iter_rows(named=True):
                number += 1
                yield self._event(given, number, rest=True)

    def _event(self, given: dict[str, Any], number: int, *, rest: bool) -> Row:
        mapping = self.mapping
        taken = set(mapping.fields.values())
        event: dict[str, Any] = {}
        properties: dict[str, Any] = {}
        for name, value in given.items():
            if value is None or name in taken:
                continue
            if name in self._fields and name not in mapping.fields:
                event[name] = value
            else:
                (properties if rest else event)[name] = _plain(value)
        for ours, theirs in mapping.fields.items():
            value = given.get(theirs)
            if value is None:
                continue
            if ours.startswith(SPREAD):
                properties[ours.removeprefix(SPREAD)] = _plain(value)
            else:
                event[ours] = value
        for ours, constant in mapping.constants.items():
            event.setdefault(ours, constant)
        if properties:
            event["properties"] = {**(event.get("properties") or {}), **properties}
        for name in ("id", "tenant", "product", "user", "contact", "account", "feature", "service", "subject"):
            if name in event:
                event[name] = str(event[name])
        event.setdefault("id", f"{self._prefix}{number}")
        asked = mapping.topic == PERFORMANCE or (mapping.topic is None and "latency_ms" in event)
        event.setdefault("type", "request.completed" if asked else "feature.used")
        at: int | None = None
        if "occurred_at" in event:
            try:
                at = event["occurred_at"] = when(event["occurred_at"], mapping.time_unit)
            except ValueError:
                event["occurred_at"] = _plain(event["occurred_at"])
        performance = event["type"] == "request.completed"
        topic = mapping.topic or (PERFORMANCE if performance else USAGE)
        about = next((str(event[f]) for f in KEYED[topic] if event.get(f) is not None), None)
        key = f"{event.get('tenant', '')}|{about or ''}".encode()
        return Row(topic, key, msgspec.json.encode(event), at, _of(event.get("tenant"), event.get("product")))


def when(value: object, unit: TimeUnit) -> int:
    """Milliseconds; times without a zone are taken as UTC (files seldom name one). Raises `ValueError`."""
    if isinstance(value, str):
        text = value.strip()
        if unit == "auto":
            unit = "ms" if text.lstrip("-").isdigit() else "rfc3339"
        if unit == "rfc3339":
            value = datetime.fromisoformat(text)
    elif unit == "auto":
        unit = "ms" if isinstance(value, int | float) else "rfc3339"
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, datetime) and value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return moment(value, unit)


def _row(wire: _Wire, value: bytes, forced: str | None) -> Row:
    at = wire.occurred_at
    if at.__class__ is not int and at is not None:
        # The decoder gives a datetime where the text named one; naive ones are METER's to refuse.
        at = moment(at, "rfc3339") if at.tzinfo is not None else None  # type: ignore[union-attr]
    if forced is not None and forced in OTHERS:
        named = next((n for f in KEYED[forced] if (n := getattr(wire, f))), "")
        return Row(forced, f"{wire.tenant}|{named}".encode(), value, at, _of(wire.tenant, wire.product))
    if wire.type == "request.completed":
        about = wire.service or wire.feature or ""
        return Row(forced or PERFORMANCE, f"{wire.tenant}|{about}".encode(), value, at, _of(wire.tenant, wire.product))
    return Row(forced or USAGE, f"{wire.tenant}|{wire.user}".encode(), value, at, _of(wire.tenant, wire.product))


@cache
def _of(tenant: str | None, product: str | None) -> tuple[str, str] | None:
    """Both names, where they are such as METER accepts."""
    if tenant and product and len(product) <= 256 and re.fullmatch(TENANT_PATTERN, tenant):
        return tenant, product
    return None


class _Cloud(msgspec.Struct, gc=False):
    """A structured CloudEvent around one of our events."""

    time: datetime | None = None
    tenant: str | None = None
    product: str | None = None
    data: _Wire | None = None


def _cloud_event(value: bytes, forced: str | None) -> Row:
    try:
        cloud = msgspec.json.decode(value, type=_Cloud)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Row(forced or USAGE, None, value, None)
    inner = cloud.data or _Wire()
    inner.tenant, inner.product = inner.tenant or cloud.tenant, inner.product or cloud.product
    row = _row(inner, value, forced)
    if row.at is None and cloud.time is not None and cloud.time.tzinfo is not None:
        return row._replace(at=moment(cloud.time, "rfc3339"))
    return row


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value

"""The rows that a kernel can read by itself, straight from the payloads they came in (`core.kernels.reading`).

These are all but a few of what producers send. The others, and those that turn out not to be good, are decoded one by one as ever
(`core.meter.decode`): a plain row that is good is the same row either way (tests/core/meter/test_plain.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from core.batch import Int64s, Piece
from core.kernels import fields as kernel
from core.kernels.reading import read
from core.meter.index import Bools, UInt64s
from core.meter.lexicon import Lexicon
from core.meter.settle import MAX_VALUE_BYTES
from core.meter.users import SEED
from core.meter.wire import Wire

_SCRATCH: Final = 1 << 14
"""Bytes of a last row that is moved to where one can read beyond its end; a larger one is decoded."""
_ENVELOPE: Final = dict.fromkeys(("specversion", "source", "time", "data"), kernel.ENVELOPE)
_ONE: Final = np.uint64(1)
FIELDS: Final[Mapping[str, int]] = {
    "id": kernel.ID,
    "tenant": kernel.TENANT,
    "product": kernel.PRODUCT,
    "type": kernel.TYPE,
    "feature": kernel.FEATURE,
    "service": kernel.SERVICE,
    "user": kernel.USER,
    "account": kernel.ACCOUNT,
    "latency_ms": kernel.LATENCY,
    "status": kernel.STATUS,
    "error": kernel.ERROR,
    "occurred_at": kernel.WHEN,
    "properties": kernel.PROPERTIES,
    "schema_version": kernel.VERSION,
    "attribution": kernel.ATTRIBUTION,
}
"""Known fields in the order in which they usually come."""


class Scan(NamedTuple):
    """What some rows were read as."""

    piece: Piece
    figures: Int64s
    """A line a figure, by the numbers of `core.kernels.fields`: codes of names first."""
    texts: npt.NDArray[np.int32]
    """Row, field: where the text stands in the row, and its size; -1: it is not there."""
    hashes: UInt64s
    """Of ids, and of users."""
    latencies: npt.NDArray[np.float64]
    tables: Mapping[int, Mapping[Any, int]]
    """Field → name → its code."""

    @property
    def plain(self) -> Bools:
        """Rows that were read. Of the others nothing that stands here means anything, but their time is -1."""
        found: Bools = self.figures[kernel.STATE] != kernel.ODD
        return found

    def missing(self, field: int) -> Bools:
        """Rows without that text."""
        found: Bools = self.texts[:, field, 1] < 0
        return found

    def text(self, row: int, field: int) -> bytes:
        """The text of a row that has it."""
        start, size = self.texts[row, field].tolist()
        start += int(self.piece.spans[row, 0])
        return self.piece.payload[start : start + size]

    def slices(self, rows: Int64s, field: int) -> list[bytes]:
        """The texts of rows that have it."""
        starts = self.piece.spans[rows, 0] + self.texts[rows, field, 0]
        return list(self.piece.cut(starts, starts + self.texts[rows, field, 1]))

    def floats(self, rows: Int64s) -> npt.NDArray[np.float64]:
        """The latencies of rows that have more digits than the kernel reads."""
        starts = self.piece.spans[rows, 0] + self.figures[kernel.PART, rows]
        parts = self.piece.cut(starts, starts + self.figures[kernel.LENGTH, rows])
        return np.fromiter(map(float, parts), np.float64, len(rows))


class Scanner:
    """Reads the plain rows of what `wire` describes. `tables`: what gives the names of a field their codes; `either`: fields of
    which a row must have one.
    """

    def __init__(self, wire: Wire, tables: Mapping[str, Mapping[Any, int]], either: tuple[str, ...], seed: int) -> None:
        self.lexicon = Lexicon({FIELDS[name]: table for name, table in tables.items()})
        known = {name: number for name, number in FIELDS.items() if name in wire.row.__struct_fields__} | _ENVELOPE
        self._names = np.array([_words(name) for name in known], np.uint64)
        self._fields = np.array(list(known.values()), np.int64)
        self._required = sum(1 << FIELDS[name] for name in wire.required)
        self._either = sum(1 << FIELDS[name] for name in either)
        self._seed = np.uint64(seed)
        self._scratch = np.zeros(_SCRATCH, np.uint8)

    def scan(self, piece: Piece) -> Scan:
        """Read the rows; names that are new get their codes."""
        n = len(piece.spans)
        figures = np.empty((kernel.FIGURES, n), np.int64)
        texts = np.empty((n, kernel.TEXTS, 2), np.int32)
        hashes = np.empty((2, n), np.uint64)
        found = Scan(piece, figures, texts, hashes, np.empty(n), self.lexicon.tables)
        words = self.lexicon
        read(
            np.frombuffer(piece.payload, np.uint8),
            piece.spans,
            MAX_VALUE_BYTES,
            self._scratch,
            self._names,
            self._fields,
            self._required,
            self._either,
            self._seed,
            np.uint64(SEED),
            words.keys,
            words.places,
            words.slots,
            words.arena,
            figures,
            texts,
            hashes,
            found.latencies,
        )
        np.maximum(hashes[1], _ONE, out=hashes[1])
        for row in np.flatnonzero(figures[kernel.STATE] == kernel.MISSED).tolist():
            for field in np.flatnonzero(figures[: kernel.NAMED, row] < 0).tolist():
                figures[field, row] = words.code(field, found.text(row, field))
        return found


def _words(name: str) -> list[int]:
    """The name's line for the kernel: at most fifteen characters, so that its quote is within two words."""
    quoted = name.encode() + b'"'
    words = [
        int.from_bytes(part.ljust(16, b"\0")[at : at + 8], "little") for part in (quoted[:-1], quoted) for at in (0, 8)
    ]
    masks = [int.from_bytes((b"\xff" * len(quoted)).ljust(16, b"\0")[at : at + 8], "little") for at in (0, 8)]
    return [words[0], words[1], masks[0], words[2], masks[1], words[3], len(name)]

"""Segments: rows of a topic as a Parquet file, so that a copy can be read by other tools too.

Columns: `partition`, `offset`, `timestamp` (milliseconds), `key`, `value`, `headers` (MessagePack of [[name, value], …], or null).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import polars as pl

from app.backup.manifest import Segment
from app.backup.place import Place, checksum
from core.batch import Headers
from transport.blocks import Block

SEGMENT_BYTES: Final = 32 << 20
"""Uncompressed bytes of keys and values in one file."""
ROW_BYTES: Final = 256
"""What a row takes in memory beside its bytes: three objects for them, two numbers, six places in lists."""
SCHEMA: Final = {
    "partition": pl.Int32,
    "offset": pl.Int64,
    "timestamp": pl.Int64,
    "key": pl.Binary,
    "value": pl.Binary,
    "headers": pl.Binary,
}
_headers = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


@dataclass(slots=True)
class Rows:
    """Rows of one topic that wait to be written."""

    partition: list[int] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    timestamp: list[int] = field(default_factory=list)
    key: list[bytes | None] = field(default_factory=list)
    value: list[bytes | None] = field(default_factory=list)
    headers: list[bytes | None] = field(default_factory=list)
    size: int = 0
    """Bytes of keys and values."""
    held: int = 0
    """Bytes of memory, about: small rows weigh several times what is in them."""

    def __len__(self) -> int:
        return len(self.offset)

    def take(self, block: Block) -> None:
        """Append a block."""
        rows = len(block)
        keys, values = [block.keys.key(row) for row in range(rows)], list(block.values)
        self.partition += [block.partition] * rows
        self.offset += block.offsets.tolist()
        self.timestamp += block.timestamps.tolist()
        self.key += keys
        self.value += values
        headed = block.headed
        packed = [pack_headers(headed[row]) if row in headed else None for row in range(rows)]
        self.headers += packed
        size = sum(len(v) for v in values if v is not None) + sum(len(k) for k in keys if k is not None)
        self.size += size
        self.held += size + sum(len(p) for p in packed if p is not None) + rows * ROW_BYTES

    def frame(self) -> pl.DataFrame:
        """As columns."""
        return pl.DataFrame(
            {
                "partition": self.partition,
                "offset": self.offset,
                "timestamp": self.timestamp,
                "key": self.key,
                "value": self.value,
                "headers": self.headers,
            },
            schema=SCHEMA,
        )


def pack_headers(headers: Headers) -> bytes:
    """Headers as one value."""
    return msgspec.msgpack.encode([[name, value] for name, value in headers])


def unpack_headers(packed: bytes | None) -> Sequence[tuple[str, bytes]]:
    """The headers again."""
    return _headers(packed) if packed is not None else ()


async def write_frame(place: Place, name: str, frame: pl.DataFrame) -> Segment:
    """Put a frame there as one file."""
    content = encode(frame)
    await place.put(name, content)
    return Segment(name=name, sha256=checksum(content), size=len(content), rows=len(frame))


async def read_frame(place: Place, segment: Segment) -> pl.DataFrame:
    """A file's frame. Raises `PlaceError` where it is not what was written."""
    return pl.read_parquet(io.BytesIO(await place.get(segment.name, segment.sha256)))


def encode(frame: pl.DataFrame) -> bytes:
    """The file's bytes."""
    out = io.BytesIO()
    frame.write_parquet(out, compression="zstd", compression_level=3, statistics=False)
    return out.getvalue()

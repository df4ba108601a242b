"""One archive file: Parquet with offset, timestamp, key, value and headers, as they stand in the log."""

from __future__ import annotations

from io import BytesIO
from typing import Final

import polars as pl

from core.archive import Chunk

HEADER: Final = pl.List(pl.Struct({"name": pl.String, "value": pl.Binary}))
SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "offset": pl.Int64,
    "timestamp": pl.Int64,
    "key": pl.Binary,
    "value": pl.Binary,
    "headers": HEADER,
}


def pack(chunk: Chunk) -> bytes:
    """The file's bytes."""
    headers = [[{"name": n, "value": v} for n, v in h] if h else None for h in chunk.headers]
    frame = pl.DataFrame(
        {
            "offset": chunk.offsets,
            "timestamp": chunk.timestamps,
            "key": chunk.keys,
            "value": chunk.values,
            "headers": headers,
        },
        schema=SCHEMA,
    )
    into = BytesIO()
    frame.write_parquet(into, compression="zstd", compression_level=1)
    return into.getvalue()


def chunk_of(frame: pl.DataFrame, topic: str, partition: int) -> Chunk:
    """A whole file's rows as a chunk."""
    chunk = Chunk(topic, partition)
    for offset, timestamp, key, value, headers in frame.select(*SCHEMA).iter_rows():
        chunk.add(offset, timestamp, key, value, [(h["name"], h["value"]) for h in headers or ()])
    return chunk


def unpack(content: bytes, columns: list[str] | None = None) -> pl.DataFrame:
    """The file's rows, or some of its columns. Raises `polars.exceptions.PolarsError` for what is no such file."""
    return pl.read_parquet(BytesIO(content), columns=columns, use_statistics=False)

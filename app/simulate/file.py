"""Rows into a file, one JSON object a line."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from app.simulate.encode import PERFORMANCE, USAGE, Encoded


def write(path: Path, chunks: Iterable[Encoded], *, plain: bool = False) -> int:
    """Write the run; give the number of lines.

    A line is the record: topic, key, value, headers; a value that is no UTF-8 is there as `value_base64`. With `plain`, a
    line is the event itself and only rows that are one JSON object without headers are written: what `uptake send` reads.
    """
    lines = 0
    with path.open("wb") as file:
        for rows in chunks:
            for performance, key, value, headers in zip(
                rows.performance, rows.keys, rows.values, rows.headers, strict=True
            ):
                if plain:
                    if value is None or headers or not value.startswith(b"{") or not value.endswith(b"}"):
                        continue
                    line = value
                else:
                    record: dict[str, Any] = {
                        "topic": PERFORMANCE if performance else USAGE,
                        "key": key.decode() if key is not None else None,
                        **_value(value),
                    }
                    if headers:
                        record["headers"] = [[name, text.decode()] for name, text in headers]
                    line = orjson.dumps(record)
                file.write(line + b"\n")
                lines += 1
    return lines


def _value(value: bytes | None) -> dict[str, str | None]:
    if value is None:
        return {"value": None}
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(value).decode()}

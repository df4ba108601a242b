"""Seeded usage events on disk, made once and used by all: METER, the peers and the oracle.

One event is about 230 bytes of JSON with 12 fields in the public wire format; `latency_ms` is an extra field that only the
peers and the oracle look at. Users are Zipf distributed, so are features where there are many. Events are in order of time
within a second, as a live stream is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np

TENANT = "bench"
PRODUCT = "shop"
START_MS = 1_750_000_200_000 // 600_000 * 600_000
"""A multiple of ten minutes, long past: nothing here depends on today."""
CHUNK = 100_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What the events are like; two equal shapes are the same bytes."""

    rows: int = 1_000_000
    users: int = 5_000
    features: int = 40
    seconds: int = 600
    """Event time covered."""
    rfc3339_share: float = 0.0
    """Share of rows whose time is RFC 3339 text instead of epoch milliseconds."""
    duplicate_share: float = 0.0
    """Share of rows that repeat an earlier row of the last thousand of the same user, byte for byte."""
    zipf: float = 1.0
    """Exponent of the users' popularity; 0: all alike."""
    seed: int = 7

    def path(self, directory: Path) -> Path:
        """Where the events of this shape are kept."""
        digest = sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
        return directory / f"events-{self.rows}-{digest}.jsonl"


def _popular(n: int, exponent: float) -> np.ndarray:
    weights = 1.0 / np.arange(1, n + 1) ** exponent
    return np.cumsum(weights / weights.sum())


def lines(shape: Shape) -> Iterator[list[bytes]]:
    """The events, a chunk at a time, each a line of JSON without its newline."""
    rng = np.random.default_rng(shape.seed)
    by_user = _popular(shape.users, shape.zipf)
    by_feature = _popular(shape.features, 0.8)
    made = 0
    recent: list[bytes] = []
    while made < shape.rows:
        n = min(CHUNK, shape.rows - made)
        at = made + np.arange(n)
        user = np.searchsorted(by_user, rng.random(n)).clip(0, shape.users - 1)
        feature = np.searchsorted(by_feature, rng.random(n)).clip(0, shape.features - 1)
        occurred = START_MS + at * (shape.seconds * 1000) // shape.rows + rng.integers(-500, 500, n)
        occurred = occurred.clip(START_MS, START_MS + shape.seconds * 1000 - 1)
        latency = np.maximum(1, rng.lognormal(4.0, 0.8, n).astype(np.int64))
        session = rng.integers(0, 1 << 40, n)
        textual = rng.random(n) < shape.rfc3339_share
        repeated = rng.random(n) < shape.duplicate_share
        back = rng.integers(1, 1000, n)
        chunk: list[bytes] = []
        columns = zip(
            at.tolist(), user.tolist(), feature.tolist(), occurred.tolist(), latency.tolist(), session.tolist(),
            textual.tolist(), repeated.tolist(), back.tolist(), strict=True,
        )  # fmt: skip
        for i, u, f, t, ms, s, text, again, b in columns:
            if again and len(chunk) >= b:
                chunk.append(chunk[-b])
                continue
            when = f'"{datetime.fromtimestamp(t / 1000, UTC).isoformat(timespec="milliseconds")}"' if text else t
            chunk.append(
                b'{"id":"e%010d","tenant":"%b","product":"%b","type":"feature.used","feature":"feature-%04d","user":"user-%07d",'
                b'"account":"account-%05d","occurred_at":%b,"latency_ms":%d,"session":"%010x","platform":"web","country":"NL"}'
                % (i, TENANT.encode(), PRODUCT.encode(), f, u, u % 997, str(when).encode(), ms, s)
            )
        recent = chunk
        made += n
        yield recent


def ensure(shape: Shape, directory: Path) -> Path:
    """The file of this shape, made now where it is missing."""
    path = shape.path(directory)
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as out:
            for chunk in lines(shape):
                out.write(b"\n".join(chunk))
                out.write(b"\n")
        partial.rename(path)
    return path


def key_of(line: bytes) -> bytes:
    """The record key `tenant|user` of a line made here (fixed field order)."""
    user = line.index(b'"user":"') + 8
    return TENANT.encode() + b"|" + line[user : line.index(b'"', user)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    print(ensure(Shape(rows=arguments.rows), arguments.directory))

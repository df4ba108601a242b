"""What W must give: folded by polars from the raw file, independent of everything that is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

Groups = dict[tuple[str, int], tuple[int, int, int, int]]
Users = dict[str, tuple[int, int]]


def read(path: Path, rows: int | None = None) -> pl.DataFrame:
    """The first `rows` events of a file with times in epoch milliseconds or RFC 3339."""
    frame = pl.scan_ndjson(path, n_rows=rows, schema_overrides={"occurred_at": pl.String}).select(
        "id", "feature", "user", "occurred_at", "latency_ms"
    )
    textual = pl.col("occurred_at").str.contains("T")
    parsed = pl.col("occurred_at").str.to_datetime(time_zone="UTC", time_unit="ms", strict=False).dt.epoch("ms")
    number = pl.col("occurred_at").cast(pl.Int64, strict=False)
    return frame.with_columns(occurred_at=pl.when(textual).then(parsed).otherwise(number)).collect()


def work(path: Path, rows: int | None = None) -> tuple[Groups, Users]:
    """The result of W."""
    frame = read(path, rows).with_columns(minute=pl.col("occurred_at") // 60_000)
    groups = frame.group_by("feature", "minute").agg(
        pl.len(),
        pl.col("user").n_unique(),
        pl.col("latency_ms").sum().alias("s"),
        pl.col("latency_ms").max().alias("m"),
    )
    users = frame.group_by("user").agg(pl.len(), pl.col("occurred_at").max())
    return (
        {(f, int(m)): (int(n), int(u), int(s), int(x)) for f, m, n, u, s, x in groups.iter_rows()},
        {u: (int(n), int(last)) for u, n, last in users.iter_rows()},
    )


def differences(result: dict[str, Any], path: Path, rows: int | None = None) -> list[str]:
    """Each key whose value differs from the oracle's, as a sentence; empty when all are equal."""
    groups, users = work(path, rows)
    got_groups: Groups = {}
    for feature, minute, *figures in result["groups"]:
        # One row a partition, where a tool keeps a store a partition: users live in one each, so they add up.
        before = got_groups.get((feature, int(minute)), (0, 0, 0, 0))
        n, u, s, m = (int(x) for x in figures)
        got_groups[feature, int(minute)] = (before[0] + n, before[1] + u, before[2] + s, max(before[3], m))
    got_users = {u[0]: (int(u[1]), int(u[2])) for u in result["users"]}
    found = [*_unequal("group", got_groups, groups), *_unequal("user", got_users, users)]
    if not groups or not users:
        found.append("the oracle has nothing to compare")
    return found


def _unequal(name: str, got: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> Iterator[str]:
    for key in sorted(got.keys() | wanted.keys(), key=str):
        if got.get(key) != wanted.get(key):
            yield f"{name} {key}: {got.get(key)} instead of {wanted.get(key)}"


def windows(
    path: Path, length_ms: int, step_ms: int, ends: range, rows: int | None = None
) -> dict[tuple[str, int], tuple[int, int]]:
    """(feature, window end) → (users, events) without duplicates, for METER's registers."""
    frame = read(path, rows).unique("id", keep="first")
    out: dict[tuple[str, int], tuple[int, int]] = {}
    for end in ends:
        if end % step_ms:
            raise ValueError(f"{end} is no multiple of {step_ms}")
        part = frame.filter((pl.col("occurred_at") >= end - length_ms) & (pl.col("occurred_at") < end))
        for feature, users, events in part.group_by("feature").agg(pl.col("user").n_unique(), pl.len()).iter_rows():
            out[feature, end] = (int(users), int(events))
        active = part["user"].n_unique()
        if active:
            out["*", end] = (active, part.height)
    return out

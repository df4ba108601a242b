"""Draws what the system made of real input (needs matplotlib, which comes with the development tools)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from app.real import LIMIT_MS, ORDERS, SERIES, Replayed

COLOURS = {
    "critical": "#e5484d",
    "declining": "#f5a623",
    "stable": "#8fc98b",
    "optimal": "#2f9e6d",
    "no_data": "#dddddd",
}


def draw(path: Path, hosts: Replayed, values: pl.DataFrame, shop: Replayed) -> None:
    """One panel a series: latency, bands as background, crossings and clearings as triangles; and the shop's adoption."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(SERIES) + 1, 1, figsize=(12, 2.1 * (len(SERIES) + 1)), layout="constrained")
    for axis, name in zip(axes, SERIES, strict=False):
        series = values.filter(pl.col("series") == name)
        axis.plot(_times(series["at"].to_list()), series["latency_ms"], lw=0.6, color="#333333")
        axis.axhline(LIMIT_MS, color="#999999", lw=0.6, ls="--")
        bands = [r for r in hosts.health if r["product"] == name]
        for row, after in zip(bands, [*bands[1:], None], strict=True):
            until = after["at"] if after is not None else int(series["at"][-1])
            axis.axvspan(*_times([row["at"], until]), color=COLOURS[row["band"]], alpha=0.35, lw=0)
        for found in hosts.detections:
            if found["product"] == name and found["kind"].startswith("threshold"):
                crossed = found["kind"] == "threshold_crossed"
                axis.plot(
                    _times([found["at"]]),
                    [LIMIT_MS],
                    "v" if crossed else "^",
                    color="#c00" if crossed else "#070",
                    ms=5,
                )
        axis.set_ylim(0, min(float(series["latency_ms"].max() or 1), 3 * LIMIT_MS))  # type: ignore[arg-type]
        axis.set_title(f"{name}: latency (ms), health band of the day, latency threshold", fontsize=8, loc="left")
        axis.tick_params(labelsize=7)
    _shop(axes[-1], shop)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _shop(axis: Any, shop: Replayed) -> None:
    for order in ORDERS:
        rows = sorted((r for r in shop.table if r["feature"] == order), key=lambda r: int(r["window_end"]))
        rates = [np.nan if r["adoption_rate"] is None else r["adoption_rate"] for r in rows]
        axis.plot(_times([r["window_end"] for r in rows]), rates, lw=0.9, label=order)
    axis.legend(fontsize=7, ncols=4)
    axis.set_title("CDNOW: share of the week's customers by size of order", fontsize=8, loc="left")
    axis.tick_params(labelsize=7)


def _times(at: list[int]) -> Any:
    return np.array(at, dtype="datetime64[ms]")

"""Real input through the real system: server metrics as requests, purchases as uses, years of them at full speed.

The CloudWatch series of the Numenta Anomaly Benchmark become performance events: a value is scaled to a latency, so that
the usual one is fair and an anomaly is slow. The CDNOW purchases become usage events: a customer uses the size of order
that he placed. Adoption must equal the fold; health bands and threshold detections are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from app import compare
from app.settings import Role, Settings
from app.simulate.encode import Encoded
from app.simulate.plan import DAY_MS, Plan
from app.trial import trial
from app.verify import judged
from schemas.definitions import Definition, HealthWeights, Product, Threshold

CHUNK = 20_000
USUAL_MS = 240.0
"""Latency to which a series' median is scaled: below Apdex's 300 ms."""
LIMIT_MS = 600.0
SERIES = (
    "ec2_cpu_utilization_825cc2",
    "ec2_cpu_utilization_fe7f93",
    "ec2_network_in_5abac7",
    "elb_request_count_8c0756",
    "rds_cpu_utilization_cc0c53",
    "rds_cpu_utilization_e47b3b",
)
ORDERS = ("one-cd", "two-cds", "three-to-five", "six-and-more")


class NoData(RuntimeError):
    """The real data is not where it was looked for; the message says what to do."""


@dataclass(slots=True)
class Replayed:
    """What came of one data set."""

    rows: int
    adoption: compare.Difference
    health: list[dict[str, Any]] = field(default_factory=list)
    detections: list[dict[str, Any]] = field(default_factory=list)
    table: list[dict[str, Any]] = field(default_factory=list)


def metrics(folder: Path) -> tuple[Plan, pl.DataFrame]:
    """The CloudWatch series as requests, in time order: series, at, latency_ms. Raises `NoData`."""
    frames = []
    for name in SERIES:
        path = _there(folder / "nab" / "data" / "realAWSCloudwatch" / f"{name}.csv")
        frame = pl.read_csv(path, try_parse_dates=True)
        usual = float(np.median(frame["value"].to_numpy())) or 1.0
        frames.append(
            frame.select(
                series=pl.lit(name),
                at=pl.col("timestamp").dt.epoch("ms"),
                latency_ms=(pl.col("value") / usual * USUAL_MS).clip(0, 60_000).round(3),
            )
        )
    rows = pl.concat(frames).sort("at", maintain_order=True)
    return _plan("nab", rows), rows


def purchases(folder: Path, seed: int = 1) -> tuple[Plan, pl.DataFrame]:
    """The purchases as uses, in time order: customer, at, order. The day is real, the time of day drawn. Raises `NoData`."""
    path = _there(folder / "cdnow" / "CDNOW_odd_customers.txt")
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    made = pl.DataFrame(
        {"customer": [f"c{x[0]}" for x in lines], "day": [x[1] for x in lines], "cds": [int(x[2]) for x in lines]}
    )
    second = np.random.default_rng(seed).integers(0, 86_400, len(made))
    cds = pl.col("cds")
    order = pl.when(cds == 1).then(0).when(cds == 2).then(1).when(cds <= 5).then(2).otherwise(3)
    rows = made.select(
        "customer",
        at=pl.col("day").str.to_datetime("%Y%m%d").dt.epoch("ms") + pl.Series(second) * 1000,
        order=order.replace_strict(dict(enumerate(ORDERS))),
    ).sort("at", maintain_order=True)
    return _plan("cdnow", rows), rows


def _there(path: Path) -> Path:
    if not path.is_file():
        raise NoData(f"no {path}: name the folder that holds `nab` and `cdnow` with --data or UPTAKE_SHARED_DATA")
    return path


def _plan(name: str, rows: pl.DataFrame) -> Plan:
    first, last = int(rows["at"][0]), int(rows["at"][-1])
    start = first // DAY_MS * DAY_MS
    end = last // DAY_MS * DAY_MS + DAY_MS
    return Plan(name, 1, (), len(rows), days=(end - start) / DAY_MS, start_ms=start)


def encoded(rows: pl.DataFrame) -> Iterator[Encoded]:
    """Events of either data set, in the order of the rows."""
    performance = "series" in rows.columns
    for begin in range(0, len(rows), CHUNK):
        out = Encoded()
        for n, row in enumerate(rows[begin : begin + CHUNK].iter_rows(named=True), begin):
            if performance:
                about = {
                    "product": row["series"],
                    "type": "request.completed",
                    "service": "host",
                    "latency_ms": row["latency_ms"],
                }
                key = f"nab|{row['series']}"
                tenant = "nab"
            else:
                about = {"product": "shop", "type": "feature.used", "user": row["customer"], "feature": row["order"]}
                key, tenant = f"cdnow|{row['customer']}", "cdnow"
            out.performance.append(performance)
            out.keys.append(key.encode())
            out.values.append(
                orjson.dumps({"id": f"{tenant}-{n}", "tenant": tenant, "occurred_at": row["at"], **about})
            )
            out.headers.append([])
            out.at.append(row["at"])
        yield out


def definitions() -> list[Definition]:
    """Health of hosts by their requests alone, and a threshold on their latency."""
    weights = HealthWeights(reliability=0.2, responsiveness=0.8, adoption=0, engagement=0, satisfaction=0, trend=0)
    hosts: list[Definition] = [Product(tenant="nab", name=name, weights=weights) for name in SERIES]
    slow = Threshold(
        tenant="nab",
        name="slow-host",
        metric="latency_mean_ms",
        window="1h",
        op=">",
        limit=LIMIT_MS,
        clear_limit=LIMIT_MS * 0.75,
        for_s=600,
        keep_firing_for_s=1800,
    )
    return [*hosts, slow]


async def replay(
    settings: Settings,
    plan: Plan,
    rows: pl.DataFrame,
    *,
    within_s: float = 900.0,
    told: Callable[[str], None] = lambda text: None,
) -> Replayed:
    """Through the system at full speed; adoption beside the fold at every day's end."""
    roles: dict[Role, int] = {"meter": 1, "decide": 1}
    async with trial(settings, plan, roles=roles, definitions=definitions()) as made:
        written = await made.write(encoded(rows), lambda w, at: told(f"{w.rows:,} rows written"))
        made.start()
        await made.settled(within_s, told)
        await made.supervisor.stop()
        told("the oracle reads the log")
        judge, _ = await judged(made.settings, with_health=False)
        table = list((await made.table("adoption")).values())
        days: Iterable[int] = compare.grid(judge, plan.start_ms, "7d")
        return Replayed(
            rows=written.rows,
            adoption=compare.adoption(table, judge, {"1d": days, "7d": days}),
            health=sorted((await made.table("health")).values(), key=lambda r: int(r["at"])),
            detections=await made.records("detections"),
            table=[r for r in table if r["window"] == "7d"],
        )

"""`uptake verify`: a simulated log through the real system, then every published figure beside the oracle's.

The oracle reads the raw log back from Kafka, with its offsets and broker times, and shares no code with the system.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from app import compare
from app.compare import Difference
from app.kafka import client, read
from app.oracle.commands import ordered
from app.oracle.figures import Figures
from app.oracle.judged import Judge, Rules
from app.oracle.log import fold
from app.oracle.partition import Folded
from app.settings import Role, Settings
from app.simulate.encode import Encoded, Encoder
from app.simulate.order import chunks
from app.simulate.plan import Plan
from app.trial import Trial, trial
from schemas.definitions import Definition, Detector, OnBand, OnStage, OnViral, Prediction, Rule, Threshold

Told = Callable[[str], None]


@dataclass(slots=True)
class Verdict:
    """What a run came to."""

    rows: int = 0
    seconds: float = 0.0
    """From the workers' start to everything judged."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """What the oracle says became of the rows."""
    differences: list[Difference] = field(default_factory=list)
    kills: list[str] = field(default_factory=list)
    suppressed: dict[str, int] = field(default_factory=dict)
    detections: dict[str, int] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether something was compared and nothing differs."""
        return all(d.compared and not d.differing for d in self.differences if d.what != "dead letters") and not any(
            d.differing for d in self.differences
        )

    def lines(self) -> list[str]:
        """For people."""
        found = [
            f"{self.rows:,} rows in {self.seconds:.1f} s ({self.rows / max(self.seconds, 1e-9):,.0f} rows/s with start)"
        ]
        found += [f"  {name}: {count:,}" for name, count in sorted(self.outcomes.items())]
        found += self.kills
        found.append("detections: " + ", ".join(f"{k} {n}" for k, n in sorted(self.detections.items())))
        for d in self.differences:
            found.append(f"{d.what}: {d.compared:,} compared, {d.differing:,} differences")
            found += [f"  {text}" for text in d.shown]
        return found


async def verify(
    settings: Settings,
    plan: Plan,
    definitions: Iterable[Definition],
    *,
    kills: int = 0,
    processes: int = 1,
    minutes: int = 200,
    within_s: float = 1800.0,
    keep: bool = False,
    chunked: Iterable[Encoded] | None = None,
    told: Told = lambda text: None,
) -> Verdict:
    """Run a plan through the system and compare. `minutes`: how many 1 h windows that end between full hours to compare too."""
    roles: dict[Role, int] = {"meter": processes, "decide": processes}
    known = [d for d in definitions if judgeable(d)]
    async with trial(settings, plan, roles=roles, definitions=known, keep=keep) as made:
        return await examine(made, plan, chunked, kills=kills, minutes=minutes, within_s=within_s, told=told)


def judgeable(definition: Definition) -> bool:
    """Whether the oracle knows what it leads to: it judges stages, viral flags and bands, no thresholds, no
    detectors and no single events.
    """
    return not isinstance(definition, (Threshold, Detector, Prediction)) and not (
        isinstance(definition, Rule) and not isinstance(definition.trigger, (OnStage, OnViral, OnBand))
    )


async def examine(
    made: Trial,
    plan: Plan,
    chunked: Iterable[Encoded] | None,
    *,
    kills: int,
    minutes: int,
    within_s: float,
    told: Told,
) -> Verdict:
    """Feed a trial whose workers do not run yet, run them to the end, and compare."""
    if chunked is None:
        encoder = Encoder(plan)
        chunked = (encoder.encode(columns) for columns in chunks(plan))
    written = await made.write(chunked, lambda w, at: told(f"{w.rows:,} rows written"))
    verdict = Verdict(rows=written.rows)
    began = time.monotonic()
    made.start()
    if kills:
        await made.kill(kills, plan.seed, within_s, told)
    await made.settled(within_s, told)
    verdict.seconds = time.monotonic() - began
    verdict.kills = made.kills
    await made.supervisor.stop()
    told("the oracle reads the log")
    judge, outcomes = await judged(made.settings)
    verdict.outcomes = outcomes
    verdict.detections = dict(Counter(f.facts.get("stage") or f.facts.get("band") or f.kind for f in judge.found))
    orders, suppressed = ordered(judge.found, await rules(made.settings))
    verdict.suppressed = dict(suppressed)
    told("comparing")
    verdict.differences = [
        compare.adoption((await made.table("adoption")).values(), judge, ends_of(judge, plan, minutes)),
        compare.health((await made.table("health")).values(), judge),
        compare.commands(await made.commands(), orders),
        compare.dead_letters(await made.dead_letters(), outcomes),
    ]
    return verdict


async def judged(
    settings: Settings,
    *,
    with_health: bool = True,
    products: dict[tuple[str, str], Rules] | None = None,
    ratings: Mapping[tuple[str, str], Sequence[tuple[int, float]]] | None = None,
) -> tuple[Judge, dict[str, int]]:
    """The oracle's judgement of the log as it stands in Kafka, and what became of its rows. `products`: those that are defined;
    `ratings`: as of `Judge`, of logs that have any.
    """
    parts = await folded(settings)
    outcomes: Counter[str] = Counter()
    for part in parts:
        outcomes.update(part.outcomes)
    judge = await asyncio.to_thread(lambda: Judge(Figures(parts), products, with_health=with_health, ratings=ratings))
    return judge, dict(outcomes)


async def folded(settings: Settings) -> list[Folded]:
    """The log as it stands in Kafka, folded by the oracle, partition by partition of both hot topics."""
    options = client(settings)
    processes = 1 if "ssl_context" in options else 2  # a TLS context cannot be handed to another process
    return await asyncio.to_thread(fold, options, settings.topic_prefix, processes=processes)


async def rules(settings: Settings) -> list[Mapping[str, Any]]:
    """The rules as they stand on their topic."""
    return await defined(settings, "rule")


async def defined(settings: Settings, kind: str) -> list[Mapping[str, Any]]:
    """The definitions of a kind as they stand on their topic."""
    heads: dict[bytes, Mapping[str, Any] | None] = {}
    async for record in read(settings, ["definitions"]):
        if record.key is not None and record.key.count(b"|") == 2:
            heads[record.key] = orjson.loads(record.value) if record.value is not None else None
    return [d for d in heads.values() if d is not None and d["kind"] == kind]


def ends_of(judge: Judge, plan: Plan, minutes: int) -> dict[str, list[int]]:
    """The window ends to compare: every hour of 1h and 1d, every day of 7d, and some minutes between."""
    every = compare.grid(judge, plan.start_ms, "1h")
    hours = [end for end in every if end % 3_600_000 == 0]
    between = [end for end in every if end % 3_600_000]
    some = np.random.default_rng(plan.seed).choice(between, min(minutes, len(between)), replace=False)
    return {
        "1h": sorted({*hours, *some.tolist()}),
        "1d": compare.grid(judge, plan.start_ms, "1d"),
        "7d": compare.grid(judge, plan.start_ms, "7d"),
    }

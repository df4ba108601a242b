"""A cause for every intervention of the rulebook's H in raw events: products that stay as they are, products that get better, and
twins where there is nothing to mend. Nobody writes a detection: METER and DECIDE find them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from app.simulate.beside import Happened, Planted
from app.simulate.plan import DAY_MS, START_MS

TENANT = "umbrella"
USERS, DAYS, LAST_DAY = 30, 12, 74
"""All products are used for `DAYS`; the ladder with the latest deadlines is over before `LAST_DAY`."""
RESTS = tuple(START_MS + day * DAY_MS for day in (3, 7, 14))
"""Before the first deadlines, and between what begins a ladder and what ends it: findings and time come to runs by different topics;
live, time itself keeps them apart."""
SECOND = 1_000


@dataclass(frozen=True, slots=True)
class Ladder:
    """An intervention of the rulebook, and where its cause is planted."""

    workflow: str
    stays: str
    """The product that nothing moves: all three levels are reached."""
    moves: str
    """The product that gets better before the first deadline."""
    twin: str
    """The product without the cause."""
    kind: str
    """Of the detection that begins it, and …"""
    level: tuple[str, str]
    """… which of them: a fact and its value."""
    better: tuple[str, str | None, tuple[str, ...]]
    """Kind of the detection that ends it; the fact that tells its levels, and those that do."""
    figure: str
    """The fact that is the intervention's metric."""


LADDERS = (
    Ladder(
        "intervention-adoption",
        "wiki",
        "wiki-better",
        "forms",
        "stage_entered",
        ("stage", "low"),
        ("stage_entered", "stage", ("growth", "market")),
        "rate",
    ),
    Ladder(
        "intervention-milestone",
        "board",
        "board-better",
        "forms",
        "stage_entered",
        ("stage", "market"),
        ("viral_entered", None, ()),
        "organic_share",
    ),
    Ladder(
        "intervention-health",
        "mail",
        "mail-better",
        "mail-twin",
        "band_entered",
        ("band", "declining"),
        ("band_entered", "band", ("stable", "optimal")),
        "score",
    ),
    Ladder(
        "intervention-engagement",
        "club",
        "club-better",
        "forms",
        "threshold_crossed",
        ("threshold", "H-events-per-user"),
        ("threshold_cleared", "threshold", ("H-events-per-user",)),
        "value",
    ),
)


class Judged(Protocol):
    """A detection of the oracle."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def product(self) -> str: ...  # noqa: D102
    @property
    def at(self) -> int: ...  # noqa: D102
    @property
    def facts(self) -> Mapping[str, Any]: ...  # noqa: D102


def planted() -> Planted:
    """All of it, a tenant's."""
    events = sorted(_events(), key=lambda e: e.at)
    return Planted("H", "ladders", TENANT, events, [], START_MS + LAST_DAY * DAY_MS)


def _events() -> Iterator[Happened]:
    for day in range(DAYS):
        yield from _use("wiki", day, adopters=3)
        yield from _use("wiki-better", day, adopters=3 if day < 9 else 15)
        yield from _use("forms", day, adopters=12)
        yield from _use("board", day, adopters=24, brought=9)
        # Those whom the campaign brought come once; then others come by themselves.
        yield from _use("board-better", day, adopters=24 if day < 1 else USERS, brought=9, since=0 if day < 1 else 9)
        yield from _use("mail", day, failing=True)
        yield from _use("mail-better", day, failing=day < 1)
        yield from _use("mail-twin", day, failing=False)
        if day >= 3:
            yield from _use("club-better", day)
    for day in range(0, LAST_DAY, 7):
        yield from _use("club", day, visits=2)
    yield from _use("club-better", 0, visits=2)


def _use(
    product: str,
    day: int,
    *,
    adopters: int = 0,
    since: int = 0,
    brought: int = 0,
    failing: bool | None = None,
    visits: int = 4,
) -> Iterator[Happened]:
    """What all users do on a day: visits, in which those from `since` to `adopters` use the feature; requests if `failing` is told."""
    for visit in range(visits):
        for user in range(USERS):
            at = START_MS + day * DAY_MS + visit * 6 * 3_600_000 + (user + 1) * 60 * SECOND
            common = {"tenant": TENANT, "product": product, "occurred_at": at}
            ident = f"{product}-{day}-{visit}-{user}"
            used: dict[str, Any] = {"id": f"{ident}-v", "type": "page.viewed", "user": f"u{user}"}
            if since <= user < adopters:
                used |= {"type": "feature.used", "feature": product}
                used["attribution"] = "campaign:spring" if user < brought else "organic"
            yield Happened("events.usage", at, common | used)
            if failing is not None:
                asked = {"id": f"{ident}-r", "type": "request.completed", "service": "api", "latency_ms": 40}
                yield Happened("events.performance", at, common | asked | {"status": 500 if failing else 200})


@dataclass(frozen=True, slots=True)
class Crossed:
    """A limit that was crossed, or is kept again, by a plain count of the raw events."""

    kind: str
    product: str
    at: int
    facts: Mapping[str, Any]


def crossings(events: Iterable[Happened], limit: float = 3.0, clear: float = 3.3) -> Iterator[Crossed]:
    """Where events per user of seven days fall below the limit, and come back, as each day ends."""
    of: defaultdict[str, list[Happened]] = defaultdict(list)
    for event in events:
        if event.topic == "events.usage":
            of[str(event.body["product"])].append(event)
    for product, rows in sorted(of.items()):
        below = False
        for end in range(START_MS + DAY_MS, START_MS + LAST_DAY * DAY_MS, DAY_MS):
            now = [e for e in rows if end - 7 * DAY_MS <= e.at < end]
            if not now:
                continue
            value = len(now) / len({e.body["user"] for e in now})
            if below != (value < limit if not below else value < clear):
                below = not below
                kind = "threshold_crossed" if below else "threshold_cleared"
                yield Crossed(kind, product, end, {"threshold": "H-events-per-user", "value": value})


def differences(ladder: Ladder, commands: Iterable[Mapping[str, Any]], found: Iterable[Judged]) -> list[str]:
    """Where commands of a ladder do not come in the order of its levels, at their deadlines, with the oracle's figures."""
    told = sorted(found, key=lambda d: d.at)
    said = list(commands)
    wrong = []
    for product in (ladder.stays, ladder.moves):
        begun = next(
            (
                d
                for d in told
                if (d.product, d.kind) == (product, ladder.kind) and d.facts[ladder.level[0]] == ladder.level[1]
            ),
            None,
        )
        if begun is None:
            wrong.append(f"{ladder.workflow}: the oracle finds no cause in {product}")
            continue
        kind, fact, levels = ladder.better
        better = next(
            (
                d
                for d in told
                if (d.product, d.kind) == (product, kind)
                and d.at > begun.at
                and (fact is None or d.facts[fact] in levels)
            ),
            None,
        )
        was = begun.facts[ladder.figure]
        came = sorted((c for c in said if c["product"] == product), key=lambda c: c["issued_at"])
        levels_told = [c["payload"]["level"] for c in came if "level" in c["payload"]]
        if levels_told != ([1] if product == ladder.moves else [1, 2, 3]):
            wrong.append(f"{ladder.workflow} ({product}): levels {levels_told}")
        due = begun.at
        for command in came:
            payload = command["payload"]
            metric = {"was": was} | ({"is": better.facts[ladder.figure]} if payload.get("worked") and better else {})
            for name, value in metric.items():
                if abs(payload["metric"].get(name, float("nan")) - value) > 1e-9 or name not in payload["metric"]:
                    wrong.append(
                        f"{ladder.workflow} ({product}): {name} {payload['metric'].get(name)!r}, not {value!r}"
                    )
            right = better.at if payload.get("worked") and better is not None else due
            if command["issued_at"] != right:
                wrong.append(f"{ladder.workflow} ({product}): {command['type']} at {command['issued_at']}, due {right}")
            due = command["issued_at"] + payload.get("deadline_days", 0) * DAY_MS
        if not came or "worked" not in came[-1]["payload"]:
            wrong.append(f"{ladder.workflow} ({product}): is never closed")
        elif came[-1]["payload"]["worked"] is not (product == ladder.moves):
            wrong.append(f"{ladder.workflow} ({product}): worked is {came[-1]['payload']['worked']}")
    return wrong

"""A cause for the predictive triggers of P1: seven weeks of a product whose users stay or leave, and of one that
the eager subscribe to.

`falls` comes every day until it does not, `stays` goes on; `keen` comes every day of its first days as those who subscribe do, `looks`
comes now and then. Nobody writes a prediction: METER's models learn from the others.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.oracle.commands import Ordered
from app.simulate.beside import Happened, Planted
from app.simulate.plan import DAY_MS, START_MS
from core.workflows.walk import lookup

TENANT, LEFT, BOUGHT, FEATURE = "wayne", "board", "studio", "subscribe"
"""Of the products, one is left and one is subscribed to."""
DAYS, USERS = 46, 500
SILENT_SINCE, KEEN_SINCE = DAYS - 9, DAYS - 5
FALLS, STAYS, KEEN, LOOKS = "falls", "stays", "keen", "looks"
WHO = {"P1.churn-risk": (FALLS, STAYS), "P1.engagement-decay": (FALLS, STAYS), "P1.likely-to-convert": (KEEN, LOOKS)}
"""Row → the user with the cause, and the one without."""
WHERE = {row: BOUGHT if row == "P1.likely-to-convert" else LEFT for row in WHO}
HORIZON = {"P1.churn-risk": 14, "P1.engagement-decay": 3, "P1.likely-to-convert": 7}
LOOKS_BACK = 28
ROWS = tuple(WHO)
SAYS = {
    "probability": "probability",
    "limit": "limit",
    "feature": "feature",
    "days.since_last": "gap_days",
    "days.active": "active_days",
    "days.known": "age_days",
    "model.error": "calibration_error",
    "model.auc": "auc",
}
"""Where in a payload → the oracle's figure."""
CLOSE = 1.5e-6
"""Probabilities are told to six digits: two ways to find the likeliest weights may differ in the last one."""
SLACK = 0.25
"""What came true may be so much rarer than what was said: the models are fitted on some hundred users."""


def planted(seed: int) -> Planted:
    """All users of both."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    events = [_used(n, *row) for n, row in enumerate(sorted([*_leaving(chance), *_subscribing(chance)]))]
    return Planted("P1", "seven weeks", TENANT, events, [], START_MS + DAYS * DAY_MS)


def _leaving(chance: random.Random) -> Iterator[tuple[int, str, str, str]]:
    """(when, who, product, what) of the product that is left."""
    for n in range(USERS):
        begins, often = chance.randrange(0, DAYS), chance.choice([0.9, 0.6, 0.3])
        leaves = DAYS if chance.random() < 0.4 else begins + chance.randrange(1, 25)
        for day in range(begins, min(DAYS, leaves)):
            if chance.random() < often:
                yield START_MS + day * DAY_MS + chance.randrange(DAY_MS), f"u{n}", LEFT, LEFT
    for day in range(DAYS):
        noon = START_MS + day * DAY_MS + DAY_MS // 2
        yield noon, STAYS, LEFT, LEFT
        if day < SILENT_SINCE:
            yield noon + 1, FALLS, LEFT, LEFT


def _subscribing(chance: random.Random) -> Iterator[tuple[int, str, str, str]]:
    """(when, who, product, what) of the product that the eager subscribe to in their second week."""
    for n in range(USERS):
        eager, begins = n % 2 == 0, chance.randrange(0, DAYS)
        often, subscribes = (0.97, begins + chance.randrange(5, 8)) if eager else (0.25, DAYS)
        for day in range(begins, min(DAYS, begins + 20)):
            if chance.random() < often:
                at = START_MS + day * DAY_MS + chance.randrange(DAY_MS - 1)
                yield at, f"s{n}", BOUGHT, BOUGHT
                if day >= subscribes:
                    yield at + 1, f"s{n}", BOUGHT, FEATURE
                    subscribes = DAYS
    for day in range(DAYS):
        noon = START_MS + day * DAY_MS + DAY_MS // 2
        if day >= KEEN_SINCE:
            yield noon + 2, KEEN, BOUGHT, BOUGHT
        if day % 9 == 0:
            yield noon + 3, LOOKS, BOUGHT, BOUGHT


def _used(n: int, at: int, user: str, product: str, feature: str) -> Happened:
    body = {
        "id": f"e{n}",
        "tenant": TENANT,
        "product": product,
        "type": "feature.used",
        "user": user,
        "feature": feature,
    }
    return Happened("events.usage", at, body | {"occurred_at": at})


def differences(
    commands: Iterable[Mapping[str, Any]], events: Iterable[Happened], wanted: Iterable[Ordered]
) -> dict[str, list[str]]:
    """Row → where its commands are not those that the oracle wants, each once and with its figures, where one says of its user what
    the raw events do not, and where less came true than was said.
    """
    given = [c for c in commands if c["rule"] in WHO]
    found = _unlike(given, wanted)
    days: defaultdict[str, set[int]] = defaultdict(set)
    subscribed: dict[str, int] = {}
    for event in events:
        user, day = str(event.body["user"]), (event.at - START_MS) // DAY_MS
        days[user].add(day)
        if event.body["feature"] == FEATURE:
            subscribed.setdefault(user, day)
    said: defaultdict[str, list[float]] = defaultdict(list)
    true: defaultdict[str, list[bool]] = defaultdict(list)
    for command in (c for c in given if c["product"] == WHERE[c["rule"]]):
        row, payload = command["rule"], command["payload"]
        user, today = command["subject"].partition(":")[2], (command["issued_at"] - START_MS) // DAY_MS
        seen = {d for d in days[user] if d < today}
        far = LOOKS_BACK - HORIZON[row]
        right = {
            "since_last": today - 1 - max(seen),
            "known": min(far, today - min(seen)),
            "active": len([d for d in seen if d >= today - far]),
        }
        for name, value in right.items():
            if payload["days"][name] != value:
                found[row].append(f"{row} ({user}): {name} is {payload['days'][name]!r}, the raw events say {value!r}")
        if not payload["limit"] < payload["probability"] <= 1:
            found[row].append(f"{row} ({user}): {payload['probability']!r} is not past {payload['limit']!r}")
        if today + HORIZON[row] <= DAYS:
            coming = range(today, today + HORIZON[row])
            converts = row == "P1.likely-to-convert"
            true[row].append(subscribed.get(user) in coming if converts else not days[user] & set(coming))
            said[row].append(payload["probability"])
    for row, what in true.items():
        share, mean = sum(what) / len(what), sum(said[row]) / len(what)
        if share < mean - SLACK:
            found[row].append(f"{row}: {share:.2f} of {len(what)} came true, said was {mean:.2f}")
    return found


def _unlike(given: Iterable[Mapping[str, Any]], wanted: Iterable[Ordered]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {row: [] for row in ROWS}
    left = {order.id: order for order in wanted if order.rule in WHO}
    for command in given:
        row, order = command["rule"], left.pop(command["id"], None)
        where = f"{row} ({command['subject']} at {command['issued_at']})"
        if order is None:
            found[row].append(f"{where}: given twice, or not one of the oracle's")
            continue
        facts = order.found.facts
        right = {path: facts[name] for path, name in SAYS.items() if lookup(command["payload"], path) is not None}
        right |= {"because": [facts["gap_days"], facts["active_days"], facts["age_days"]]}
        is_: dict[str, Any] = {path: lookup(command["payload"], path) for path in right}
        is_ |= {"because": [int(n) for n in re.findall(r"\d+", is_["because"])]}
        for name, value in command["why"]["numbers"].items():
            if name in facts and isinstance(facts[name], (int, float)):
                is_["why " + name], right["why " + name] = value, facts[name]
        if command["issued_at"] != order.found.at or command["type"] != order.type:
            found[row].append(f"{where}: the oracle wants {order.type} at {order.found.at}")
        found[row] += [
            f"{where}: {path} is {is_[path]!r}, the oracle says {value!r}"
            for path, value in right.items()
            if is_[path] != value and not _close(is_[path], value)
        ]
    for order in left.values():
        found[order.rule].append(f"{order.rule} ({order.found.subject} at {order.found.at}): the oracle's is not given")
    return found


def _close(one: object, other: object) -> bool:
    return isinstance(one, (int, float)) and isinstance(other, (int, float)) and abs(one - other) <= CLOSE

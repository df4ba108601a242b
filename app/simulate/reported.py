"""A cause for every row of I: three weeks of a product in which the third is better, and better liked, a rule measured against people
held out, and receipts of its deliveries. The twin has the same users for two days: nothing to compare.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from app.oracle.judged import Judge
from app.simulate.beside import Happened, Planted
from core.outcomes.arms import is_held
from schemas.definitions import CommandTemplate, Rule

TENANT, PRODUCT, TWIN = "hooli", "shop", "twin"
MONDAY, MINUTE, HOUR, DAY = 1_767_571_200_000, 60_000, 3_600_000, 86_400_000
DAYS, USERS = 22, 40
RESTS = (MONDAY + 20 * DAY + 12 * HOUR,)
"""After the last trial is over, before the last report: what was counted is then there, as live it is for hours."""
CLOSE = 1e-6
BUCKET = 2 ** (1 / 8)
"""Response times are told within 9 % (docs/outcomes.md)."""
ROWS = tuple(f"I{group}.{n}" for group in (1, 2, 3) for n in (1, 2, 3, 4))
RATED_EVERY_H, STARS, MORE_STARS = 5, (2, 3, 3, 4), (4, 5, 5, 5)
TRIAL = Rule.model_validate(
    {
        "name": "trial-offer",
        "id": "trial-offer",
        "trigger": {"kind": "event", "topic": "events.usage", "where": 'type == "trial.ending"'},
        "holdout": 0.5,
        "command": CommandTemplate(type="sales.offer.send", title="An offer", text="Stay."),
        "outcome": {
            "metric": {"kind": "conversion", "where": 'type == "purchase.completed"', "value": "amount"},
            "within_s": 7_200,
        },
    }
)
"""The rule that is measured; nothing of the rulebook has a hold-out out of the box."""
PRICE, CHANCE = 50, 0.25
HELD = [is_held(TENANT, TRIAL.id, f"user:u{u}", TRIAL.holdout) for u in range(USERS)]
"""Whoever gets the offer buys, whoever is held out does not: so the difference is one, and every figure can be told beforehand."""


def planted(seed: int) -> Planted:
    """Both products."""
    events = sorted(_events(seed), key=lambda e: e.at)
    return Planted("I", "three weeks", TENANT, events, [], MONDAY + DAYS * DAY)


def _events(seed: int) -> Iterator[Happened]:
    rng = np.random.default_rng(seed)
    for hour in range(DAYS * 24):
        now, better = MONDAY + hour * HOUR, hour >= 14 * 24
        for minute in range(0, 60, 15):
            at = now + minute * MINUTE
            those = range(USERS) if better else range(hour // 24 % 5 * 8, hour // 24 % 5 * 8 + 8)
            for n, user in enumerate(rng.choice(those, 8 if better else 3, replace=False).tolist()):
                used = {"type": "feature.used", "user": f"u{user}", "feature": "f" if better else "g"}
                yield from _both("events.usage", at + n, hour, f"{hour}-{minute}-{n}", used)
            asked = {"type": "request.completed", "service": "api", "status": 200}
            slow = {"latency_ms": 100 if better or minute else 2_000}
            yield from _both("events.performance", at, hour, f"{hour}-{minute}-r", asked | slow)
        if hour % RATED_EVERY_H == 0:
            n = hour // RATED_EVERY_H
            given = {
                "type": "rating.given",
                "user": f"u{n % USERS}",
                "rating": (MORE_STARS if better else STARS)[n % 4],
            }
            yield _happened("events.feedback", now + 2_000, PRODUCT, f"{hour}-s", given)
        if hour % 12 == 5 and hour // 12 < USERS:
            user = hour // 12
            word = {"user": f"u{user}", "feature": "f"}
            ending = {"type": "trial.ending", "probability": CHANCE}
            yield _happened("events.usage", now + 1_000, PRODUCT, f"t{user}", word | ending)
            if not HELD[user]:
                bought = {"type": "purchase.completed", "amount": PRICE}
                yield _happened("events.usage", now + 30 * MINUTE, PRODUCT, f"p{user}", word | bought)


def _both(topic: str, at: int, hour: int, ident: str, body: Mapping[str, Any]) -> Iterator[Happened]:
    yield _happened(topic, at, PRODUCT, ident, body)
    if hour // 24 in (18, 19):
        yield _happened(topic, at, TWIN, ident, body)


def _happened(topic: str, at: int, product: str, ident: str, body: Mapping[str, Any]) -> Happened:
    common = {"tenant": TENANT, "product": product, "id": f"{product}-{ident}", "occurred_at": at}
    return Happened(topic, at, common | dict(body))


def ratings(test: Planted) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """Product → when it was rated, and how, as the raw events say."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for event in test.events:
        if event.topic == "events.feedback":
            found.setdefault((TENANT, event.body["product"]), []).append((event.at, event.body["rating"]))
    return found


def receipts() -> list[dict[str, Any]]:
    """What deliveries of those weeks told: in the third they took longer. Real ones say the time of the play, not of its events."""
    found = []
    for day in range(7, 21):
        for n in range(20):
            issued = MONDAY + day * DAY + n * HOUR
            took = (1_500 if day >= 14 else 400) + n
            words = {"tenant": TENANT, "product": PRODUCT, "rule": TRIAL.id, "command": f"d{day}-{n}"}
            found.append(
                words
                | {"status": "delivered", "final": True, "issued_at": issued, "at": issued + took, "role": "deliver"}
            )
    return found


def differences(
    commands: Iterable[Mapping[str, Any]], judge: Judge, told: Sequence[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Row → where a figure in its commands is not what the oracle's days, the receipts or what was planted say.

    `told`: the receipts that were planted.
    """
    days = days_of(judge)
    last = MONDAY + 21 * DAY
    treated, held = HELD.count(False), HELD.count(True)
    wrong: defaultdict[str, list[str]] = defaultdict(list)

    def same(row: str, what: str, value: Any, right: float) -> None:
        if not isinstance(value, (int, float)) or abs(value - right) > CLOSE * max(1.0, abs(right)):
            wrong[row].append(f"{row}: {what} is {value!r}, the oracle says {right!r}")

    def took(row: str, what: str, response: Mapping[str, Any], end: int) -> None:
        ms = sorted(r["at"] - r["issued_at"] for r in told if end - 7 * DAY <= r["at"] < end)
        same(row, f"{what}: commands", response["commands"], len(ms))
        for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95)):
            right = float(np.quantile(ms, share, method="inverted_cdf"))
            if not right * (1 - CLOSE) <= response[name] <= right * BUCKET * (1 + CLOSE):
                wrong[row].append(f"{row}: {what}: {name} is {response[name]!r}, the receipts say {right!r}")

    changes = {
        "I1.2": "engagement",
        "I1.3": "adoption",
        "I1.4": "responsiveness",
        "I2.1": "health",
        "I2.2": "satisfaction",
        "I2.3": "market_share",
    }
    for command in (c for c in commands if c["product"] == PRODUCT):
        row, payload = command["rule"], command["payload"]
        end = payload["period"]["to"] if "period" in payload else command["issued_at"]
        if row in changes:
            now, then = (
                [
                    days[e][changes[row]]
                    for e in range(end - to * DAY, end - since * DAY + 1, DAY)
                    if changes[row] in days[e]
                ]
                for to, since in ((6, 0), (13, 7))
            )
            measured = payload["measured"]
            for name, right in (
                ("before", fmean(then)),
                ("after", fmean(now)),
                ("difference", fmean(now) - fmean(then)),
                ("days_before", len(then)),
                ("days_after", len(now)),
            ):
                same(row, f"{name} up to {end}", measured[name], right)
        elif row == "I1.1":
            took(row, f"up to {end}", payload["response"], end)
        elif row == "I3.3":
            took(row, f"up to {end}", payload["now"], end)
            took(row, f"before {end}", payload["before"], end - 7 * DAY)
        elif row == "I3.1":
            same(row, "uplift", payload["uplift"]["estimate"], 1.0)
        elif end == last and row == "I2.4":
            same(row, "gain", payload["gain"], PRICE * treated)
        elif end == last and row == "I3.2":
            same(row, "uplift", payload["ranked"][0]["uplift"], 1.0)
            same(row, "subjects", payload["ranked"][0]["subjects"], USERS)
        elif end == last and row == "I3.4":
            for name, right in (("subjects", held), ("predicted", CHANCE), ("observed", 0.0), ("brier", CHANCE**2)):
                same(row, name, payload["calibration"][name], right)
    return wrong


def days_of(judge: Judge) -> dict[int, dict[str, float]]:
    """End of each day → the oracle's figures of the day that ended then."""
    product = (TENANT, PRODUCT)
    found: dict[int, dict[str, float]] = {end: {} for end in range(MONDAY - 14 * DAY, MONDAY + DAYS * DAY + 1, DAY)}
    for (who, end), health in judge.health.items():
        if who != product or end not in found:
            continue
        known = {
            n: c["score"]
            for n, c in health["components"].items()
            if n in ("engagement", "responsiveness", "satisfaction")
        }
        if "adoption" in health["components"]:
            known["adoption"] = health["components"]["adoption"]["inputs"]["mean_rate"]
        if health["score"] is not None:
            known["health"] = health["score"]
        stages = [judge.stages[product].at(f, end)[0] for f in judge.features(product, end)]
        staged = [s for s in stages if s != "no_data"]
        if staged:
            known["market_share"] = staged.count("market") / len(staged)
        found[end] = known
    return found

"""Why: ids of detections, and what a command tells a person about its cause (numbers, limits, window, links, segment)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never
from urllib.parse import quote, urlencode

from schemas.commands import SegmentReference
from schemas.definitions import CommandTemplate, Product, Threshold
from schemas.detections import (
    Anomaly,
    AnomalyEnded,
    BandEntered,
    Detection,
    OutcomeReport,
    PredictionCleared,
    PredictionCrossed,
    ScheduleDue,
    StageEntered,
    ThresholdCleared,
    ThresholdCrossed,
    VerdictReached,
    ViralEntered,
)
from schemas.envelope import derived_id
from schemas.registers import ALL


def detection_id(kind: str, tenant: str, product: str, subject: str, at: int, threshold: str = "") -> str:
    """uuid5 of ("detection", tenant, product, kind, subject, end, threshold name or "")."""
    return derived_id("detection", tenant, product, kind, subject, str(at), threshold)


@dataclass(frozen=True, slots=True)
class Case:
    """What a rule meets, explained: the material of a command's `why` and of its templates."""

    reason: str
    numbers: dict[str, float | None]
    thresholds: dict[str, float]
    links: dict[str, str]
    window: str | None = None
    window_start: int | None = None
    window_end: int | None = None
    detection: str | None = None
    feature: str = ALL
    """Whose users segments are about; `*`: the product's."""
    adopters: int = 0
    target: int = 0


def facts_of(fields: Mapping[str, object], active_users: int | None = None) -> dict[str, object]:
    """What conditions and templates see of a detection's (or a trigger's) fields: these, and what follows from them.

    `adopters`, `non_adopters`, `active_users`; `rate_text`, `organic_text` and `score_text` are for reading ("no data" for null);
    of a user its name as `user`.
    """
    facts = with_user(fields)
    users, target = facts.get("users"), facts.get("target_users")
    if isinstance(users, int) and isinstance(target, int):
        facts |= {"adopters": users, "non_adopters": max(0, target - users)}
    facts["active_users"] = active_users if active_users is not None else facts.get("active_users", target or 0)
    facts["rate_text"] = _percent(_number_of(facts.get("rate")))
    facts["organic_text"] = _percent(_number_of(facts.get("organic_share")))
    facts["score_text"] = _number(_number_of(facts.get("score")))
    return facts


def with_user(fields: Mapping[str, object]) -> dict[str, object]:
    """The fields, and of a finding about a user its name as `user`, as events have it."""
    kind, _, name = str(fields.get("subject", "")).partition(":")
    return {"user": name, **fields} if kind == "user" and name else dict(fields)


def _number_of(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def links(tenant: str, product: str, detection: str | None = None) -> dict[str, str]:
    """Where to look further, as paths of the gateway."""
    scope = urlencode({"tenant": tenant})
    found = {
        "metrics": f"/api/v1/products/{quote(product, safe='')}/metrics?{scope}",
        "analytics": f"/api/v1/products/{quote(product, safe='')}/analytics?{scope}",
    }
    if detection is not None:
        found["trace"] = f"/api/v1/trace/{detection}?{scope}"
    return found


def segment(template: CommandTemplate, tenant: str, product: str, case: Case) -> SegmentReference | None:
    """Whom the command is for, where it is for many: name, size, and the link to page through the members."""
    which = template.segment
    if which is None:
        return None
    feature = ALL if which == "active_users" else case.feature
    size = {
        "adopters": case.adopters,
        "non_adopters": max(0, case.target - case.adopters),
        "active_users": case.target,
    }[which]
    path = f"/api/v1/products/{quote(product, safe='')}/segments/{quote(feature, safe='*')}/{which}/members"
    return SegmentReference(name=f"{feature}:{which}", size=size, link=f"{path}?{urlencode({'tenant': tenant})}")


def explain(found: Detection, product: Product, active_users: int, threshold: Threshold | None = None) -> Case:
    """The case of a detection. `active_users`: the product's, in the window judged."""
    reason, numbers, limits = _account(found, product, active_users, threshold)
    adopters, target = active_users, active_users
    feature = ALL
    if isinstance(found, (StageEntered, ViralEntered)):
        adopters, target, feature = found.users, found.target_users, found.feature
    return Case(
        reason=reason,
        numbers=numbers,
        thresholds=limits,
        links=links(found.tenant, found.product, found.id),
        window=found.window,
        window_start=found.window_start,
        window_end=found.window_end,
        detection=found.id,
        feature=feature,
        adopters=adopters,
        target=target,
    )


def _account(
    found: Detection, product: Product, active_users: int, threshold: Threshold | None
) -> tuple[str, dict[str, float | None], dict[str, float]]:
    match found:
        case StageEntered() | ViralEntered():
            numbers: dict[str, float | None] = {
                "users": found.users,
                "target_users": found.target_users,
                "adoption_rate": found.rate,
                "organic_share": found.organic_share,
            }
            if isinstance(found, ViralEntered):
                return (
                    f"{found.feature} became viral: {_percent(found.organic_share)} of its {found.users} adopters in "
                    f"{found.window} came by themselves (more than {_percent(product.viral_border)} is viral).",
                    numbers,
                    {"viral_border": product.viral_border, "viral_min_adopters": product.viral_min_adopters},
                )
            low, high = product.stage_borders
            return (
                f"{found.feature} went from {_word(found.previous)} to {_word(found.stage)}: {found.users} of "
                f"{found.target_users} target users in {found.window} ({_percent(found.rate)}).",
                numbers,
                {"low_border": low, "market_border": high, "margin": product.margin},
            )
        case BandEntered():
            weakest = f"; weakest: {found.weakest}" if found.weakest else ""
            return (
                f"{found.product} went from {_word(found.previous)} to {_word(found.band)}: health "
                f"{_number(found.score)} of 100 over {found.window}{weakest}.",
                {"score": found.score, "active_users": active_users, **found.components},
                _borders(product) | {"margin": product.band_margin},
            )
        case ThresholdCrossed() | ThresholdCleared():
            limits = {"limit": found.limit}
            if threshold is not None:
                limits |= {"for_s": threshold.for_s, "keep_firing_for_s": threshold.keep_firing_for_s}
                if threshold.clear_limit is not None:
                    limits["clear_limit"] = threshold.clear_limit
            crossed = isinstance(found, ThresholdCrossed)
            return (
                f"{found.metric} of {found.subject} {'crossed' if crossed else 'is back from'} its limit of "
                f"{_number(found.limit)} ({found.threshold}): {_number(found.value)} in {found.window}.",
                {"value": found.value, "active_users": active_users},
                limits,
            )
        case Anomaly() | AnomalyEnded():
            began = isinstance(found, Anomaly)
            said = (
                f"is unusually {'high' if found.direction == 'up' else 'low'}"
                if isinstance(found, Anomaly)
                else "is ordinary again"
            )
            return (
                f"{found.metric} of {found.subject} {said}: {_number(found.value)} in {found.window}; expected "
                f"{'' if began else 'then '}about {_number(found.expected)}, ordinary from {_number(found.low)} to "
                f"{_number(found.high)} ({found.detector}, {found.algorithm}).",
                {
                    "value": found.value,
                    "expected": found.expected,
                    "low": found.low,
                    "high": found.high,
                    "active_users": active_users,
                    **({"score": found.score} if isinstance(found, Anomaly) else {}),
                },
                {"limit": found.limit} if isinstance(found, Anomaly) else {},
            )
        case PredictionCrossed() | PredictionCleared():
            what = "does nothing" if found.model == "inactivity" else f"begins to use {found.feature}"
            edge = "above" if isinstance(found, PredictionCrossed) else "no longer above"
            return (
                f"{found.subject} {what} in the next {found.horizon_days} days of {found.product} with a probability of "
                f"{_percent(found.probability)}, {edge} {_percent(found.limit)} ({found.prediction}): {found.because}.",
                {
                    "probability": found.probability,
                    "age_days": found.age_days,
                    "gap_days": found.gap_days,
                    "active_days": found.active_days,
                    "auc": found.auc,
                    "brier": found.brier,
                    "calibration_error": found.calibration_error,
                    **{f"reason.{name}": weight for name, weight in found.reasons.items()},
                },
                {"limit": found.limit, "horizon_days": found.horizon_days},
            )
        case ScheduleDue():
            return (
                f"{found.schedule} was due at {found.due} ({found.zone}).",
                {"score": found.score, "active_users": active_users},
                _borders(product),
            )
        case VerdictReached():
            return (
                f"{found.rule} is {_word(found.verdict)} in {found.product} (it was {_word(found.previous)}): {found.metric} differs "
                f"by {found.uplift:+.4g}, between {found.low:+.4g} and {found.high:+.4g}; {found.treated} treated"
                + (f", {found.held} held out." if found.held else ", beside the time before."),
                {
                    "uplift": found.uplift,
                    "low": found.low,
                    "high": found.high,
                    "treated": found.treated,
                    "held": found.held,
                    "active_users": active_users,
                },
                {"alpha": found.alpha},
            )
        case OutcomeReport():
            changes = {
                name: change.difference
                for name in ("engagement", "adoption", "responsiveness", "health", "satisfaction", "market_share")
                if (change := getattr(found, name)) is not None
            }
            return (
                f"Outcomes of {found.product} in the {found.every}: {found.working} measured rules work, {found.harmful} harm, "
                f"{found.undecided} have shown no effect yet.",
                {"working": found.working, "harmful": found.harmful, "undecided": found.undecided, **changes},
                {"interval": 0.95},
            )
        case _:
            assert_never(found)


def _borders(product: Product) -> dict[str, float]:
    critical, declining, stable = product.band_borders
    return {"critical_border": critical, "declining_border": declining, "stable_border": stable}


def _percent(share: float | None) -> str:
    return "no data" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "no data" if value is None else f"{value:.4g}"


def _word(level: str) -> str:
    return level.replace("_", " ")

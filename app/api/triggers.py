"""Starting automations by hand: facts from the read model, rules from the definitions, a signal to DECIDE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.api.access import Caller
from app.api.gateway import Gateway, TheGateway, allowed, one_tenant
from app.api.problems import Problem
from app.api.spool import Outgoing
from app.store import queries
from core.rules.matching import RuleIndex
from schemas.commands import command_id
from schemas.definitions import Detector, OnAnomaly, OnBand, OnStage, OnThreshold, OnViral, Product, Rule, Threshold
from schemas.envelope import key, subject
from schemas.registers import WINDOWS, Signal
from schemas.tables import AdoptionRow, Band, HealthRow, Stage, WindowName

router = APIRouter(tags=["automation"])
Automation = Literal["feature-adoption", "product-health", "performance-optimization", "market-opportunity"]
Facts = dict[str, JsonValue]


class TriggerRequest(BaseModel):
    """What to start. Facts that are left out are taken from the newest figures of the product."""

    model_config = ConfigDict(extra="forbid")

    product: Annotated[str, Field(min_length=1, max_length=256)]
    feature: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Needed for rules about a feature."""
    stage: Stage | None = None
    """As if the feature had entered it; absent: the stage in force."""
    band: Band | None = None
    """As if the product's health had entered it; absent: the band in force."""
    rules: list[str] | None = None
    """Only these, by id or name; absent: all that belong to the automation."""
    facts: Facts = Field(default_factory=dict)
    """Put over the figures: what the rules' templates see."""


class Ordered(BaseModel):
    """A command that the trigger implies. Whether it is issued is DECIDE's to say: a paused rule or a ceiling holds it back."""

    id: str
    rule: str
    type: str
    subject: str


class Triggered(BaseModel):
    """What was started."""

    idempotency_key: str
    repeated: bool
    """True where the same key had started all of it before; nothing was written now."""
    commands: list[Ordered]


def _add(automation: Automation) -> None:
    async def trigger(
        gateway: TheGateway,
        caller: Annotated[Caller, Depends(allowed("triggers:write"))],
        body: TriggerRequest,
        idempotency_key: Annotated[
            str,
            Header(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$", description="Repeat it, repeat nothing."),
        ],
        tenant: Annotated[str | None, Query(description="Needed with a key for all tenants.")] = None,
        traceparent: Annotated[
            str | None, Header(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
        ] = None,
    ) -> Triggered:
        scope = one_tenant(caller, tenant)
        return await _start(gateway, automation, scope, body, idempotency_key, traceparent)

    trigger.__doc__ = _ABOUT[automation]
    router.add_api_route(
        f"/automation/triggers/{automation}",
        trigger,
        methods=["POST"],
        status_code=202,
        operation_id="trigger" + "".join(word.capitalize() for word in automation.split("-")),
        response_model=Triggered,
        summary=f"Start the automation {automation}",
    )


_ABOUT: Final[dict[Automation, str]] = {
    "feature-adoption": "Start what belongs to a feature's adoption stage (and to going viral, where it has).",
    "product-health": "Start what belongs to a product's health band.",
    "performance-optimization": "Start the rules that optimise performance.",
    "market-opportunity": "Start the rules about market opportunities.",
}


async def _start(
    gateway: Gateway,
    automation: Automation,
    tenant: str,
    body: TriggerRequest,
    cause: str,
    traceparent: str | None,
) -> Triggered:
    feature, health = await _figures(gateway, tenant, body)
    rules = _chosen(gateway, automation, tenant, body, feature, health)
    signals: dict[str, list[Rule]] = {}
    for rule in rules:
        signals.setdefault(_subject(rule, body), []).append(rule)
    ordered = [
        Ordered(id=command_id(tenant, r.id, about, cause), rule=r.id, type=r.command.type, subject=about)
        for about, of in signals.items()
        for r in of
    ]
    done = await queries.commands_known(gateway.store, [o.id for o in ordered])
    if len(done) == len(ordered):
        return Triggered(idempotency_key=cause, repeated=True, commands=ordered)
    now = gateway.clock()
    records = []
    for about, of in signals.items():
        facts = _facts(gateway, tenant, body, feature, health, about, of, now)
        signal = Signal(
            tenant=tenant,
            product=body.product,
            subject=about,
            kind="trigger",
            cause=cause,
            rules=[r.name for r in of],
            at=now,
            data={**facts, "automation": automation, **body.facts},
            traceparent=traceparent,
        )
        records.append(Outgoing("signals", key(tenant, about), msgspec.json.encode(signal)))
    await gateway.write(records)
    return Triggered(idempotency_key=cause, repeated=False, commands=ordered)


async def _figures(gateway: Gateway, tenant: str, body: TriggerRequest) -> tuple[AdoptionRow | None, HealthRow | None]:
    """The feature's row in the product's stage window and the product's health, as they stand now."""
    window = gateway.catalogue.product(tenant, body.product).stage_window
    rows = await queries.adoption(gateway.store, window=window, tenant=tenant, product=body.product)
    health = await queries.health_rows(gateway.store, tenant=tenant, product=body.product)
    return next((r for r in rows if r.feature == body.feature), None), (health[0] if health else None)


def _chosen(
    gateway: Gateway,
    automation: Automation,
    tenant: str,
    body: TriggerRequest,
    feature: AdoptionRow | None,
    health: HealthRow | None,
) -> list[Rule]:
    index = RuleIndex(gateway.catalogue)
    if body.rules is not None:
        found = {name: index.named(tenant, name) for name in body.rules}
        missing = [name for name, rule in found.items() if rule is None]
        if missing or not found:
            raise Problem(
                422,
                "unknown-rule",
                f"no rule {', '.join(missing) or 'is named'}: GET /api/v1/definitions?kind=rule lists those in force",
            )
        chosen = [rule for rule in found.values() if rule is not None]
    elif automation == "feature-adoption" and body.feature is None:
        raise Problem(422, "which-feature", "adoption is of a feature: say which one as `feature`")
    else:
        everything = {r.id: r for r in gateway.catalogue.of(Rule, tenant)}.values()
        chosen = [r for r in everything if _belongs(automation, body, feature, health)(r)]
    if any(_about_feature(r) for r in chosen) and body.feature is None:
        if body.rules is None:
            chosen = [r for r in chosen if not _about_feature(r)]
        else:
            raise Problem(422, "which-feature", "rules about a feature are asked for: say which one as `feature`")
    if not chosen:
        raise Problem(
            422,
            "nothing-to-start",
            f"no rule in force belongs to {automation} as things stand: name the stage, the band or the rules, "
            "or apply the rulebook (`uptake apply rulebook/`)",
        )
    return sorted(chosen, key=lambda r: (r.id, r.name))


def _belongs(
    automation: Automation, body: TriggerRequest, feature: AdoptionRow | None, health: HealthRow | None
) -> Callable[[Rule], bool]:
    """Whether a rule is part of the automation.

    Adoption and health start what belongs to where the feature or the product stands (or is said to stand); the other two
    start what names them in its tags, whatever the stage, unless a stage or a band is said.
    """
    standing = automation in ("feature-adoption", "product-health")
    stage = body.stage or (feature.stage if standing and feature is not None else None)
    band = body.band or (health.band if standing and health is not None else None)
    viral = body.stage is None and (not standing or (feature is not None and feature.viral))

    def check(rule: Rule) -> bool:
        tagged = automation in rule.tags
        match rule.trigger:
            case OnStage(stages=stages):
                mine = tagged or automation == "feature-adoption"
                return mine and (stage in stages if standing or stage is not None else True)
            case OnViral():
                return (tagged or automation == "feature-adoption") and viral
            case OnBand(bands=bands):
                mine = tagged or automation == "product-health"
                return mine and (band in bands if standing or band is not None else True)
            case _:
                return tagged

    return check


def _about_feature(rule: Rule) -> bool:
    return isinstance(rule.trigger, (OnStage, OnViral))


def _subject(rule: Rule, body: TriggerRequest) -> str:
    if _about_feature(rule) and body.feature is not None:
        return subject("feature", body.feature)
    if isinstance(rule.trigger, (OnThreshold, OnAnomaly)) and body.feature is not None:
        return subject("feature", body.feature)
    return subject("product", body.product)


def _facts(
    gateway: Gateway,
    tenant: str,
    body: TriggerRequest,
    feature: AdoptionRow | None,
    health: HealthRow | None,
    about: str,
    of: list[Rule],
    now: int,
) -> dict[str, Any]:
    """What the detection would have said, from the figures as they stand; null where nobody knows."""
    settings = gateway.catalogue.product(tenant, body.product)
    facts: dict[str, Any] = {"at": now, "since": now, "fired_at": now, "thresholds": _limits(settings)}
    window: WindowName
    if about.startswith("feature:"):
        window = feature.window if feature is not None else settings.stage_window
        end = feature.window_end if feature is not None else now
        facts |= {
            "feature": body.feature,
            "stage": body.stage or (feature.stage if feature else "no_data"),
            "previous": feature.stage if feature else "no_data",
            "rate": feature.adoption_rate if feature else None,
            "users": feature.users if feature else 0,
            "target_users": feature.target_users if feature else 0,
            "organic_share": feature.organic_share if feature else None,
        }
    else:
        window = settings.health_window
        end = health.at if health is not None else now
        scores = {name: c.score for name, c in health.components.items()} if health else {}
        active = health.components.get("trend") if health else None
        facts |= {
            "band": body.band or (health.band if health else "no_data"),
            "previous": health.band if health else "no_data",
            "score": health.score if health else None,
            "components": scores,
            "weakest": min(scores, key=lambda name: scores[name]) if scores else None,
            "active_users": int(active.inputs.get("now", 0)) if active else 0,
        }
    for rule in of:
        if isinstance(rule.trigger, OnThreshold):
            facts |= _limit(gateway, tenant, rule.trigger.threshold)
        if isinstance(rule.trigger, OnAnomaly):
            facts |= _unread(gateway, tenant, rule.trigger.detector)
    return facts | {"window": window, "window_start": end - WINDOWS[window][0], "window_end": end}


def _limits(settings: Product) -> dict[str, float]:
    """The product's borders, named as detections name them."""
    low, market = settings.stage_borders
    critical, declining, stable = settings.band_borders
    return {
        "low_border": low,
        "market_border": market,
        "viral_border": settings.viral_border,
        "viral_min_adopters": settings.viral_min_adopters,
        "critical_border": critical,
        "declining_border": declining,
        "stable_border": stable,
    }


def _limit(gateway: Gateway, tenant: str, name: str) -> dict[str, Any]:
    """What is known of a threshold without its having been crossed: all but the value."""
    found = next((t for t in gateway.catalogue.of(Threshold, tenant) if t.name == name), None)
    known = {"threshold": name, "value": None, "metric": None, "limit": None}
    return known if found is None else known | {"metric": found.metric, "limit": found.limit}


def _unread(gateway: Gateway, tenant: str, name: str) -> dict[str, Any]:
    """What is known of a detector without its having found anything: no reading, no band, no score."""
    found = next((d for d in gateway.catalogue.of(Detector, tenant) if d.name == name), None)
    nothing = dict.fromkeys(("algorithm", "metric", "value", "expected", "low", "high", "score", "limit", "direction"))
    known = {**nothing, "detector": name}
    if found is None:
        return known
    return known | {"algorithm": found.detector, "metric": found.metric, "limit": found.limit}


for _automation in _ABOUT:
    _add(_automation)

"""What the rules of `signals` are met with: occasions, from rows and from what rules remembered of them."""

from __future__ import annotations

from core.decide.explain import Case, links
from core.decide.memories import Fired
from core.rules.acting import Occasion
from core.rules.conditions import flatten, holds
from schemas.definitions import OnAbsence, OnCount, OnEvent, OnInactivity, OnSequence, Rule
from schemas.registers import ALL, Signal

DAY_MS = 86_400_000


def triggered(rule: Rule, signal: Signal, flat: dict[str, object]) -> bool:
    """Whether the row itself meets the trigger; METER's column predicate is wider than this one."""
    trigger = rule.trigger
    if not isinstance(trigger, OnEvent) or not signal.subject.startswith(f"{trigger.subject}:"):
        return False
    return trigger.where is None or holds(trigger.where, flat)


def said(signal: Signal) -> dict[str, object]:
    """The signal's facts, as conditions and templates see them."""
    return {
        **signal.data,
        "tenant": signal.tenant,
        "product": signal.product,
        "subject": signal.subject,
        "at": signal.at,
    }


def occasion_of(signal: Signal, facts: dict[str, object], broker_time: int, by_hand: bool) -> Occasion:
    """Of a row, or of a trigger by hand."""
    numbers = {
        name: float(value)
        for name, value in flatten(facts).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name != "at"
    }
    users, target = facts.get("users"), facts.get("target_users") or facts.get("active_users")
    feature = facts.get("feature")
    what = f"{facts.get('type', 'a matched row')}" if not by_hand else "a trigger by hand"
    return Occasion(
        tenant=signal.tenant,
        product=signal.product,
        subject=signal.subject,
        cause=signal.cause,
        at=signal.at,
        act=signal.act,
        facts=facts,
        case=Case(
            reason=f"{what} for {signal.subject} in {signal.product} ({signal.cause}).",
            numbers=dict(numbers),
            thresholds=_limits(facts) if by_hand else {},
            links=links(signal.tenant, signal.product),
            feature=feature if isinstance(feature, str) else ALL,
            adopters=users if isinstance(users, int) else 0,
            target=target if isinstance(target, int) else 0,
        ),
        broker_time=broker_time,
        traceparent=signal.traceparent,
        by_hand=by_hand,
        bucketed=not by_hand,
    )


def fired(found: Fired, tenant: str, product: str, broker_time: int) -> Occasion:
    """Of what a rule waited for and has come. Raises `TypeError` for a trigger that remembers nothing."""
    firing, seen = found.firing, found.firing.seen
    facts: dict[str, object] = {
        **seen.data,
        "tenant": tenant,
        "product": product,
        "subject": found.subject,
        "at": firing.at,
        "first_at": firing.first_at,
        "last_at": seen.at,
    }
    trigger = found.rule.trigger
    limits: dict[str, float] = {}
    match trigger:
        case OnCount():
            limits = {"times": trigger.times, "within_s": trigger.within_s}
            what = f"{trigger.times} times within {trigger.within_s} s"
            facts["times"] = trigger.times
        case OnSequence():
            limits = {"within_s": trigger.within_s}
            what = f"{len(trigger.steps)} steps, one after the other, within {trigger.within_s} s"
        case OnAbsence():
            limits = {"within_s": trigger.within_s}
            what = f"what was to follow did not, within {trigger.within_s} s"
        case OnInactivity():
            limits = {"after_s": trigger.after_s}
            what = f"not again for {trigger.after_s} s"
        case _:
            raise TypeError(f"{trigger.kind} remembers nothing")
    feature = facts.get("feature")
    return Occasion(
        tenant=tenant,
        product=product,
        subject=found.subject,
        cause=firing.cause,
        at=firing.at,
        act=seen.act or firing.at >= broker_time - DAY_MS,
        facts=facts,
        case=Case(
            reason=f"{found.subject} in {product}: {what} ({seen.cause}).",
            numbers={"first_at": firing.first_at, "last_at": seen.at},
            thresholds=limits,
            links=links(tenant, product),
            window=f"{max(limits.get('within_s', 0), limits.get('after_s', 0)):.0f}s",
            window_start=firing.first_at,
            window_end=firing.at,
            feature=feature if isinstance(feature, str) else ALL,
        ),
        broker_time=broker_time,
        traceparent=seen.traceparent,
    )


def _limits(facts: dict[str, object]) -> dict[str, float]:
    """The product's limits that the gateway sends along with a trigger: templates look at them as at a detection's."""
    found = facts.get("thresholds")
    if not isinstance(found, dict):
        return {}
    return {str(name): float(limit) for name, limit in found.items() if isinstance(limit, (int, float))}

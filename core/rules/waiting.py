"""Which single events a rule waits for: what METER selects rows by, and DECIDE tells a trigger's steps apart by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.rules.conditions import holds
from schemas.conditions import AnyOf
from schemas.definitions import OnEvent, Rule, Trigger
from schemas.outcomes import PEOPLE, Conversion
from schemas.rules import about_of
from schemas.triggers import OnAbsence, OnCount, OnInactivity, OnSequence, Remembering, happenings

PERFORMANCE: Final = "request.completed"
"""The only type of the performance topic; usage has it not."""


def remembers(trigger: Trigger) -> Remembering | None:
    """The trigger, if it is one that remembers what subjects did."""
    return trigger if isinstance(trigger, (OnCount, OnSequence, OnAbsence, OnInactivity)) else None


def waits_for(trigger: Trigger, topic: str) -> OnEvent | None:
    """The events of the topic that the trigger needs to see, as one trigger; None where it needs none."""
    if isinstance(trigger, OnEvent):
        return trigger if trigger.topic == topic else None
    remembering = remembers(trigger)
    if remembering is None:
        return None
    mine = [h for h in happenings(remembering) if h.topic == topic]
    if not mine:
        return None
    wheres = [h.where for h in mine if h.where is not None]
    everything = len(wheres) < len(mine)
    where = None if everything else wheres[0] if len(wheres) == 1 else AnyOf(of=wheres)
    return OnEvent(topic=mine[0].topic, where=where, subject=remembering.subject)


def steps_met(trigger: Remembering, subject: str, flat: Mapping[str, object], topic: str | None = None) -> list[int]:
    """Which of the trigger's happenings this event is one of, by their places. `topic`: where it came from; None: a hot one."""
    if not subject.startswith(f"{trigger.subject}:"):
        return []
    if topic is None:
        topic = "events.performance" if flat.get("type") == PERFORMANCE else "events.usage"
    # The two that wait for one event say so themselves: a `Happening` made of them is validated, for every row.
    parts = [trigger] if isinstance(trigger, (OnCount, OnInactivity)) else happenings(trigger)
    return [i for i, h in enumerate(parts) if h.topic == topic and (h.where is None or holds(h.where, flat))]


def converts_by(rule: Rule, topic: str) -> OnEvent | None:
    """The events of the topic that the rule's outcome counts, as a trigger about the rule's subjects; None where it counts none."""
    metric = rule.outcome.metric if rule.outcome is not None else None
    about = about_of(rule.trigger)
    if not isinstance(metric, Conversion) or metric.topic != topic or about not in PEOPLE:
        return None
    return OnEvent(topic=metric.topic, where=metric.where, subject=about)


def is_conversion(rule: Rule, subject: str, flat: Mapping[str, object], topic: str | None = None) -> bool:
    """Whether this event is one that the rule's outcome counts. `topic`: where it came from; None: a hot one."""
    if topic is None:
        topic = "events.performance" if flat.get("type") == PERFORMANCE else "events.usage"
    wait = converts_by(rule, topic)
    return (
        wait is not None and subject.startswith(f"{wait.subject}:") and (wait.where is None or holds(wait.where, flat))
    )

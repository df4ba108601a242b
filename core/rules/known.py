"""Which facts a trigger brings, of which type: taken from the schemas of events and detections, so that the two cannot differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, assert_never

from pydantic import BaseModel

from core.rules.waiting import waits_for
from schemas.definitions import (
    OnAbsence,
    OnAnomaly,
    OnBand,
    OnCount,
    OnEvent,
    OnInactivity,
    OnReport,
    OnSchedule,
    OnSequence,
    OnStage,
    OnThreshold,
    OnVerdict,
    OnViral,
    Trigger,
)
from schemas.detections import (
    Anomaly,
    AnomalyEnded,
    BandEntered,
    OutcomeReport,
    ScheduleDue,
    StageEntered,
    ThresholdCleared,
    ThresholdCrossed,
    VerdictReached,
    ViralEntered,
)
from schemas.events import PerformanceEvent, UsageEvent

TEXT, NUMBER, TRUTH, LIST, MAPPING = "text", "number", "true or false", "list", "mapping"
_TYPES: Final = {
    "string": TEXT, "number": NUMBER, "integer": NUMBER, "boolean": TRUTH, "array": LIST, "object": MAPPING
}  # fmt: skip
_EVENTS: Final[Mapping[str, type[BaseModel]]] = {"events.usage": UsageEvent, "events.performance": PerformanceEvent}


@dataclass(frozen=True, slots=True)
class Fact:
    """Types that it may have (none: any), and, where the schema lists them, its values."""

    types: frozenset[str] = frozenset()
    values: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """The facts by name. `open`: there may be others, for events carry what their senders like."""

    facts: Mapping[str, Fact]
    open: bool
    of: str
    """What carries them, for people."""

    def fact(self, path: str) -> Fact | None:
        """What is known of a dotted path; None where there is no such fact."""
        found = self.facts.get(path)
        if found is not None:
            return found
        root = self.facts.get(path.split(".", 1)[0])
        return Fact() if root is not None and "." in path and (not root.types or MAPPING in root.types) else None


def event_facts(topic: str) -> Known:
    """The facts of an event, as `where` sees them."""
    return Known(_fields(_EVENTS[topic]) | {"occurred_at": _NUMBER, "at": _NUMBER, "subject": _TEXT}, True, topic)


def trigger_facts(trigger: Trigger) -> Known:
    """The facts that conditions and templates of a rule with this trigger see."""
    more: dict[str, Fact] = {"active_users": _NUMBER, "rate_text": _TEXT, "organic_text": _TEXT, "score_text": _TEXT}
    match trigger:
        case OnEvent():
            return event_facts(trigger.topic)
        case OnCount() | OnSequence() | OnAbsence() | OnInactivity():
            facts: dict[str, Fact] = {"first_at": _NUMBER, "last_at": _NUMBER}
            if isinstance(trigger, OnCount):
                facts["times"] = _NUMBER
            topics = [topic for topic in _EVENTS if waits_for(trigger, topic) is not None]
            for topic in topics:
                for name, fact in event_facts(topic).facts.items():
                    facts[name] = Fact(facts[name].types | fact.types) if name in facts else fact
            return Known(facts, True, " and ".join(topics))
        case OnStage():
            return Known(_fields(StageEntered) | more | _ADOPTERS, False, "a stage that was entered")
        case OnViral():
            return Known(_fields(ViralEntered) | more | _ADOPTERS, False, "a feature that became viral")
        case OnBand():
            return Known(_fields(BandEntered) | more, False, "a band that was entered")
        case OnThreshold(edge="crossed"):
            return Known(_fields(ThresholdCrossed) | more, False, "a threshold that was crossed")
        case OnThreshold():
            return Known(_fields(ThresholdCleared) | more, False, "a threshold that was cleared")
        case OnAnomaly(edge="began"):
            return Known(_fields(Anomaly) | more, False, "an anomaly that began")
        case OnAnomaly():
            return Known(_fields(AnomalyEnded) | more, False, "an anomaly that ended")
        case OnSchedule():
            return Known(_fields(ScheduleDue) | more, False, "a schedule that is due")
        case OnVerdict():
            return Known(_fields(VerdictReached) | more, False, "a verdict on a rule")
        case OnReport():
            return Known(_fields(OutcomeReport) | more, False, "a report on outcomes")
        case _:
            assert_never(trigger)


_TEXT, _NUMBER = Fact(frozenset([TEXT])), Fact(frozenset([NUMBER]))
_ADOPTERS: Final = {"adopters": _NUMBER, "non_adopters": _NUMBER}


@cache
def _fields(model: type[BaseModel]) -> dict[str, Fact]:
    schema = model.model_json_schema()
    return {name: _fact(part, schema.get("$defs", {})) for name, part in schema["properties"].items()}


def _fact(part: Mapping[str, Any], defined: Mapping[str, Any]) -> Fact:
    options = part.get("anyOf", [part])
    types: set[str] = set()
    values: list[object] = []
    for option in options:
        if "$ref" in option:
            option = defined.get(option["$ref"].rsplit("/", 1)[-1], {})
        kind = option.get("type")
        if kind == "null":
            continue
        if kind not in _TYPES:
            return Fact()
        types.add(_TYPES[kind])
        values += option.get("enum", [option["const"]] if "const" in option else [])
    return Fact(frozenset(types), tuple(values))

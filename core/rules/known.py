"""Which facts a trigger brings, of which type: taken from the schemas of events and detections, so that the two cannot differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, assert_never

from pydantic import BaseModel

from core.people.asked import person_fact
from core.people.facts import RATES
from core.people.profile import COUNTED
from core.rules.waiting import waits_for
from schemas.definitions import (
    OnAbsence,
    OnAnomaly,
    OnBand,
    OnCount,
    OnEvent,
    OnInactivity,
    OnPrediction,
    OnReport,
    OnSchedule,
    OnSegment,
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
    PredictionCleared,
    PredictionCrossed,
    ScheduleDue,
    StageEntered,
    ThresholdCleared,
    ThresholdCrossed,
    VerdictReached,
    ViralEntered,
)
from schemas.events import EVENTS

TEXT, NUMBER, TRUTH, LIST, MAPPING = "text", "number", "true or false", "list", "mapping"
_TYPES: Final = {
    "string": TEXT, "number": NUMBER, "integer": NUMBER, "boolean": TRUTH, "array": LIST, "object": MAPPING
}  # fmt: skip


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
    people: bool = False
    """Whether the subject's profile is at hand: `contact.…`, `account.…`, `segments`, `campaign.…`."""

    def fact(self, path: str) -> Fact | None:
        """What is known of a dotted path; None where there is no such fact."""
        if self.people and person_fact(path):
            return _person(path)
        found = self.facts.get(path)
        if found is not None:
            return found
        root = self.facts.get(path.split(".", 1)[0])
        return Fact() if root is not None and "." in path and (not root.types or MAPPING in root.types) else None


def event_facts(topic: str) -> Known:
    """The facts of an event, as `where` sees them."""
    return Known(_fields(EVENTS[topic]) | {"occurred_at": _NUMBER, "at": _NUMBER, "subject": _TEXT}, True, topic)


def trigger_facts(trigger: Trigger) -> Known:
    """The facts that conditions and templates of a rule with this trigger see."""
    more: dict[str, Fact] = {"active_users": _NUMBER, "rate_text": _TEXT, "organic_text": _TEXT, "score_text": _TEXT}
    match trigger:
        case OnEvent():
            return replace(event_facts(trigger.topic), people=True)
        case OnCount() | OnSequence() | OnAbsence() | OnInactivity():
            facts: dict[str, Fact] = {"first_at": _NUMBER, "last_at": _NUMBER}
            if isinstance(trigger, OnCount):
                facts["times"] = _NUMBER
            topics = [topic for topic in EVENTS if waits_for(trigger, topic) is not None]
            for topic in topics:
                for name, fact in event_facts(topic).facts.items():
                    facts[name] = Fact(facts[name].types | fact.types) if name in facts else fact
            return Known(facts, True, " and ".join(topics), True)
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
        case OnSegment():
            return Known({**_SEGMENT, **_PEOPLE}, False, "a segment's edge", True)
        case OnPrediction(edge="crossed"):
            return Known(_fields(PredictionCrossed) | more | {"user": _TEXT}, False, "a prediction that crossed")
        case OnPrediction():
            return Known(_fields(PredictionCleared) | more | {"user": _TEXT}, False, "a prediction that cleared")
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


_LIST, _TRUTH, _MAPPING = Fact(frozenset([LIST])), Fact(frozenset([TRUTH])), Fact(frozenset([MAPPING]))
_PERSON: Final[Mapping[str, Fact]] = {
    **dict.fromkeys(("id", "stage", "status", "time_zone", "account"), _TEXT),
    **dict.fromkeys(("score", "spent", "rating", *COUNTED.values(), *RATES), _NUMBER),
    **dict.fromkeys(("last_purchase_at", "last_opened_at", "last_seen_at"), _NUMBER),
    **dict.fromkeys(("tags", "lists"), _LIST),
    **dict.fromkeys(("fields", "demographics"), _MAPPING),
}
_CAMPAIGN: Final[Mapping[str, Fact]] = {"member": _TRUTH, "position": _NUMBER, "step": _TEXT, "variant": _TEXT}
_PEOPLE: Final = {"contact": _MAPPING, "account": _MAPPING, "campaign": _MAPPING, "segments": _LIST}
_SEGMENT: Final = {
    **dict.fromkeys(("tenant", "product", "subject", "segment", "type"), _TEXT),
    "edge": Fact(frozenset([TEXT]), ("entered", "left")),
    "at": _NUMBER,
}


def _person(path: str) -> Fact | None:
    """What is known of a profile's fact."""
    root, _, rest = path.partition(".")
    if path == "segments":
        return _LIST
    if root in ("contact", "account") and rest:
        name, _, below = rest.partition(".")
        return Fact() if below and name in ("fields", "demographics") else _PERSON.get(rest)
    if root == "campaign" and "." in rest:
        return _CAMPAIGN.get(rest.rsplit(".", 1)[1])
    return None


def person_facts() -> Known:
    """The facts that a segment's condition sees."""
    return Known(_PEOPLE, False, "a profile", True)


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

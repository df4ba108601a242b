"""The tests that stand beside rules and workflows, as raw events of the past: what happens in them happens on real topics.

Each test has a tenant of its own, so no other test's events reach its subjects. Its events carry what the test says and what
an event of their topic must have, and nothing of what is expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.simulate.profiles import known, told
from core.rulebook import SILENCE, Case, Trip
from core.rules.trying import AT
from core.rules.waiting import remembers
from core.workflows.testing import Journey
from schemas.definitions import OnEvent, OnSegment, Rule, Workflow
from schemas.events import EVENTS, KEYED
from schemas.triggers import OnCount, OnSequence, happenings

PRODUCT = "shop"
REMEMBERED_GAP_MS = 1_000
"""Between the events of an example that asks for several."""
LATER_MS = 5_000
"""Events come so long after the end of a wait, not in its very millisecond: beyond the disorder that clocks allow for."""


@dataclass(frozen=True, slots=True)
class Happened:
    """A raw event."""

    topic: str
    at: int
    body: dict[str, Any]

    @property
    def key(self) -> bytes:
        """As its topic is keyed."""
        named = next((str(self.body[n]) for n in KEYED[self.topic] if self.body.get(n) is not None), "")
        return f"{self.body['tenant']}|{named}".encode()

    @property
    def value(self) -> bytes:
        """Its bytes."""
        return orjson.dumps(self.body)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A command that the test says is given."""

    type: str
    step: str | None
    says: Mapping[str, Any]
    """Dotted paths into the command, and the values that stand there."""


@dataclass(frozen=True, slots=True)
class Planted:
    """One test as raw events."""

    of: str
    """Id of the rule or workflow."""
    name: str
    tenant: str
    events: list[Happened]
    wanted: list[Wanted] = field(default_factory=list)
    until: int = 0
    """Event time must come so far that what is expected has happened."""


def planted(cases: Iterable[Case], trips: Iterable[Trip]) -> Iterator[Planted]:
    """Every test that is made of events and time alone; those that need a person's answer or a receipt are not among them."""
    number = 0
    for case in cases:
        if isinstance(case.rule.trigger, (OnEvent, OnSegment)) or remembers(case.rule.trigger) is not None:
            made = _example(case, f"case-{number:03}")
            if made is not None:
                number += 1
                yield made
    for trip in trips:
        found = _journey(trip.workflow, trip.journey, f"case-{number:03}")
        if found is not None:
            number += 1
            yield found


def _example(case: Case, tenant: str) -> Planted | None:
    rule, example = case.rule, case.example
    trigger = rule.trigger
    if isinstance(trigger, OnSequence):
        return None  # an example gives one event, a sequence asks for several different ones
    kind, name = _about(rule, example.given)
    made = _Maker(tenant, kind, name)
    events = [made.event(topic, AT - before, body) for topic, before, body in told(example.given, name)]
    rest = 0
    if not isinstance(trigger, OnSegment):
        topic, times = _happens(trigger)
        plain = {k: v for k, v in example.given.items() if k not in known(example.given)}
        events += [made.event(topic, AT + i * REMEMBERED_GAP_MS, plain) for i in range(times)]
        rest = max(getattr(trigger, "within_s", 0), getattr(trigger, "after_s", 0)) * 1000
    says = {f"payload.{path}": value for path, value in example.payload.items()}
    wanted = [] if example.expect == SILENCE else [Wanted(example.expect, None, says)]
    return Planted(rule.id, str(example.given), tenant, events, wanted, max(AT, events[-1].at) + rest)


def _about(rule: Rule, given: Mapping[str, Any]) -> tuple[str, str]:
    """Kind and name of the subject: of a segment's edge it stands in the example, of an event among its fields or its profile's."""
    if isinstance(rule.trigger, OnSegment):
        kind, _, name = str(given.get("subject", "user:someone")).partition(":")
        return kind, name
    kind = str(getattr(rule.trigger, "subject", "user"))
    profile = known(given).get("account" if kind == "account" else "contact", {})
    plain = None if isinstance(given.get(kind), Mapping) else given.get(kind)
    return kind, str(plain or profile.get("id", "someone"))


def _happens(trigger: Any) -> tuple[str, int]:
    """The topic of the trigger's event, and how often it asks for it."""
    if isinstance(trigger, OnEvent):
        return trigger.topic, 1
    remembering = remembers(trigger)
    assert remembering is not None
    return happenings(remembering)[0].topic, trigger.times if isinstance(trigger, OnCount) else 1


def _journey(workflow: Workflow, journey: Journey, tenant: str) -> Planted | None:
    if not isinstance(workflow.trigger, OnEvent):
        return None
    kind = workflow.trigger.subject
    first = next((m.event for m in journey.steps if m.event is not None), {})
    made = _Maker(tenant, kind, str((first or {}).get(kind, journey.subject)))
    clock, waited = journey.at, False
    events: list[Happened] = []
    wanted: list[Wanted] = []
    for move in journey.steps:
        if move.event is not None:
            if move.late:
                return None  # read late is a matter of the moment of reading
            clock += LATER_MS if waited else 1 if events else 0
            waited = False
            events.append(made.event(move.topic, clock, move.event))
        elif move.wait is not None:
            clock += move.wait * 1000
            waited = True
        elif move.expect is not None:
            for one in move.expect:
                said = (one, None, {}) if isinstance(one, str) else (one.type, one.step, one.payload)
                wanted.append(Wanted(*said))
        elif move.status is None and move.outcome is None:
            return None  # a person's answer, or a receipt
    return Planted(workflow.id, journey.name, tenant, events, wanted, clock)


class _Maker:
    """Makes whole events of one test."""

    def __init__(self, tenant: str, kind: str, name: str) -> None:
        self._tenant, self._kind, self._name = tenant, kind, name
        self._made = 0

    def event(self, topic: str, at: int, given: Mapping[str, Any]) -> Happened:
        """What is given, and what an event of the topic must have."""
        self._made += 1
        body: dict[str, Any] = {
            "id": f"{self._tenant}-{self._made}",
            "product": PRODUCT,
            "type": "request.completed" if topic == "events.performance" else "feature.used",
            **given,
            "tenant": self._tenant,
            "occurred_at": at,
        }
        if self._kind != "product":
            body.setdefault(self._kind, self._name)
        needed = EVENTS[topic].model_fields
        for name in ("user", "contact"):
            if name in needed and needed[name].is_required():
                body.setdefault(name, self._name)
        if "subject" in needed and needed["subject"].is_required():
            body.setdefault("subject", f"{self._kind}:{self._name}")
        return Happened(topic, at, body)

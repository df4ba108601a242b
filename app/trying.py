"""The tests that stand beside definitions: examples of rules, journeys of workflows. Everything in memory, nothing is published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue, ValidationError

from core.rulebook import SILENCE, Case, Trip, examples, load_rulebook, trips
from core.rules.trying import try_rule
from core.workflows.testing import Failed, travel
from core.workflows.walk import lookup
from schemas.definitions import OnThreshold, Threshold


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one test."""

    file: str
    definition: str
    """Kind and name."""
    test: str
    failure: str | None
    """What differs; None: it passed."""


def try_all(texts: Mapping[str, str]) -> Iterator[Tried]:
    """Every test of these files (name → text), in order. Raises `RulebookError` where the files do not hold together."""
    thresholds = {d.name: d for d in load_rulebook(texts) if isinstance(d, Threshold)}
    for i, case in enumerate(examples(texts)):
        yield Tried(case.file, f"rule {case.rule.name}", f"example {i + 1}", _example(case, thresholds))
    for trip in trips(texts):
        yield Tried(trip.file, f"workflow {trip.workflow.name}", trip.journey.name, _journey(trip))


def _journey(trip: Trip) -> str | None:
    try:
        travel(trip.workflow, trip.others, trip.journey)
    except Failed as error:
        return str(error)
    except (ValidationError, ValueError) as error:
        return str(error).splitlines()[0]
    return None


def _example(case: Case, thresholds: Mapping[str, Threshold]) -> str | None:
    trigger = case.rule.trigger
    threshold = thresholds.get(trigger.threshold) if isinstance(trigger, OnThreshold) else None
    try:
        command = try_rule(case.rule, case.example.given, threshold=threshold)
    except (ValidationError, ValueError) as error:
        return str(error).splitlines()[0]
    came = SILENCE if command is None else command.type
    if came != case.example.expect:
        return f"expected {case.example.expect}, came {came}"
    for path, value in case.example.payload.items():
        found: JsonValue = None if command is None else lookup(command.payload, path)
        if found != value:
            return f"payload {path} is {found!r}, expected {value!r}"
    return None

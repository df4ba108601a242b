"""The rulebook: definitions as YAML text, checked as a whole, with the examples that each rule brings along.

A file is `definitions:`, a list; each entry is a definition as `schemas.definitions` says, and a rule may carry `tests:`.
Pure: text in, definitions out. Every problem is reported at once, with its file, the path inside it and the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError

from core.rules.lint import Path, rule_findings, segment_findings
from core.rules.loops import conflicts, loops
from core.workflows.problems import call_problems, problems
from core.workflows.testing import Journey
from core.yamltext import BadYaml, Places, load_yaml
from schemas.definitions import (
    DEFINITION,
    Definition,
    Detector,
    OnAnomaly,
    OnPrediction,
    OnSegment,
    OnThreshold,
    Prediction,
    Rule,
    Segment,
    Threshold,
    Workflow,
)
from schemas.envelope import Word

SILENCE = "silence"
LOOP = "a command would come back as an event without end, so take one part away"


def dotted(path: Path) -> str:
    """The path as people write it: `command.payload.links[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def loop_problems(definition: Definition, others: Iterable[Definition]) -> list[str]:
    """The loops that there would be with this definition among the others, and would not be without it."""
    rest = [d for d in others if (d.tenant, d.kind, d.name) != (definition.tenant, definition.kind, definition.name)]
    before = {way for _, way in loops(rest)}
    return [f"{LOOP}: {way}" for _, way in loops([*rest, definition]) if way not in before]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something is wrong, or (`warning`) worth a look, in a file."""

    file: str
    path: Path
    """Keys and places from the top of the file."""
    reason: str
    name: str = ""
    """Of the definition, where the path leads into one."""
    level: Literal["error", "warning"] = "error"
    shown: str = ""
    """The path for people, where that says more: the names of a workflow's nodes."""
    line: int | None = None
    """In the file, from 1; None where it is no YAML."""

    def __str__(self) -> str:
        place = self.shown or (dotted(self.path[2:]) if self.path[:1] == ("definitions",) else dotted(self.path))
        entry = f"definitions[{self.path[1]}]" if self.path[:1] == ("definitions",) and len(self.path) > 1 else ""
        at = "" if self.line is None else f"line {self.line}"
        parts = [self.file, at, f"{entry} ({self.name})" if self.name and entry else entry, place, self.reason]
        return ": ".join(part for part in parts if part)


class RulebookError(Exception):
    """The rulebook does not hold together; one line for each problem."""

    def __init__(self, found: list[Problem]) -> None:
        self.found = found
        self.problems = [str(problem) for problem in found]
        super().__init__("\n".join(self.problems))


class Example(Word):
    """Facts of a trigger, and what the rule makes of them."""

    given: dict[str, JsonValue]
    """Fields of the detection (or of the event); the rest is filled in sensibly."""
    expect: str
    """A command type, or `silence`."""
    payload: dict[str, JsonValue] = Field(default_factory=dict)
    """Dotted paths into the command, and the values that must stand there."""


@dataclass(frozen=True, slots=True)
class Case:
    """An example with the rule and the file it belongs to."""

    file: str
    rule: Rule
    example: Example


@dataclass(frozen=True, slots=True)
class Trip:
    """A journey with its workflow, the file it stands in, and the workflows that may be called."""

    file: str
    workflow: Workflow
    journey: Journey
    others: tuple[Workflow, ...]


Test = Example | Journey


def load_rulebook(texts: Mapping[str, str]) -> list[Definition]:
    """Every definition of these files (name → text). Raises `RulebookError` where anything is wrong."""
    return [entry.definition for entry in _whole(texts)]


def examples(texts: Mapping[str, str]) -> list[Case]:
    """The examples of all rules, in order of file. Raises `RulebookError`."""
    return [
        Case(entry.file, entry.definition, example)
        for entry in _whole(texts)
        if isinstance(entry.definition, Rule)
        for example in entry.tests
        if isinstance(example, Example)
    ]


def trips(texts: Mapping[str, str]) -> list[Trip]:
    """The journeys of all workflows, in order of file. Raises `RulebookError`."""
    entries = _whole(texts)
    workflows = [e.definition for e in entries if isinstance(e.definition, Workflow)]
    return [
        Trip(entry.file, entry.definition, journey, tuple(w for w in workflows if w is not entry.definition))
        for entry in entries
        if isinstance(entry.definition, Workflow)
        for journey in entry.tests
        if isinstance(journey, Journey)
    ]


@dataclass(frozen=True, slots=True)
class Entry:
    """One definition of a file."""

    file: str
    place: int
    definition: Definition
    tests: list[Test]

    def problem(self, path: Path, reason: str, level: Literal["error", "warning"] = "error") -> Problem:
        """A problem within it."""
        return Problem(self.file, ("definitions", self.place, *path), reason, self.definition.name, level)

    def complaint(self, text: str) -> Problem:
        """A workflow's problem, told as `nodes[3] (a): next: …`."""
        path, shown, reason = complaint_path(text)
        return replace(self.problem(path, reason), shown=shown)


def read_rulebook(texts: Mapping[str, str]) -> tuple[list[Entry], list[Problem]]:
    """What stands in these files, and everything that is wrong with it or worth a look."""
    found: list[Problem] = []
    entries: list[Entry] = []
    for file in sorted(texts):
        try:
            document = load_yaml(texts[file])
        except BadYaml as error:
            found.append(Problem(file, (), f"not YAML: {error}"))
            continue
        listed = document.get("definitions") if isinstance(document, dict) else None
        if not isinstance(listed, list) or set(document) != {"definitions"}:
            found.append(Problem(file, (), "expected one key, `definitions`, with a list under it"))
            continue
        for i, body in enumerate(listed):
            entries += _entry(file, i, body, found)
    found += _conflicts(entries)
    found += _together(entries)
    places = {problem.file: _places(texts[problem.file]) for problem in found}
    return entries, [
        problem if (of := places[problem.file]) is None else replace(problem, line=of.line(_written(problem.path)))
        for problem in found
    ]


def _places(text: str) -> Places | None:
    try:
        load_yaml(text)
    except BadYaml:
        return None
    return Places(text)


def _written(path: Path) -> Path:
    """The path in the file: a condition may stand under its other name."""
    return tuple(other for part in path for other in ((part, "when") if part == "condition" else (part,)))


def _whole(texts: Mapping[str, str]) -> tuple[Entry, ...]:
    return _read_once(tuple(sorted(texts.items())))


@lru_cache(maxsize=4)
def _read_once(texts: tuple[tuple[str, str], ...]) -> tuple[Entry, ...]:
    # Who asks for the definitions asks for their examples and journeys too.
    entries, found = read_rulebook(dict(texts))
    if errors := [p for p in found if p.level == "error"]:
        raise RulebookError(errors)
    return tuple(entries)


def _entry(file: str, place: int, entry: Any, wrong: list[Problem]) -> Iterator[Entry]:
    here: Path = ("definitions", place)
    if not isinstance(entry, dict):
        wrong.append(Problem(file, here, "expected a mapping with `kind` and `name`"))
        return
    name = str(entry.get("name", "no name"))

    def invalid(inside: Path, error: ValidationError) -> Iterator[Problem]:
        for e in error.errors(include_url=False):
            yield Problem(file, (*here, *((*inside, *e["loc"]) or ("entry",))), e["msg"], name)

    try:
        definition = DEFINITION.validate_python({k: v for k, v in entry.items() if k != "tests"})
    except ValidationError as error:
        wrong += invalid((), error)
        return
    tests = entry.get("tests", [])
    kind = Journey if isinstance(definition, Workflow) else Example
    found: list[Test] = []
    for i, test in enumerate(tests if isinstance(tests, list) else []):
        try:
            found.append(kind.model_validate(test))
        except ValidationError as error:
            wrong += invalid(("tests", i), error)
    made = Entry(file, place, definition, found)
    if not isinstance(tests, list):
        wrong.append(made.problem(("tests",), "expected a list"))
    if isinstance(definition, Rule):
        wrong += [made.problem(f.path, f.reason, f.level) for f in rule_findings(definition)]
    elif isinstance(definition, Segment):
        wrong += [made.problem(f.path, f.reason, f.level) for f in segment_findings(definition)]
    elif isinstance(definition, Workflow):
        wrong += [made.complaint(text) for text in problems(definition)]
    yield made


def complaint_path(complaint: str) -> tuple[Path, str, str]:
    """`nodes[3] (a): on.b: why` → the path nodes, 3, on, b; `nodes[3] (a): on.b`; `why`."""
    path: list[str | int] = []
    pieces: Sequence[str] = complaint.split(": ")
    taken = 0
    for piece in pieces[: min(2, len(pieces) - 1)]:
        written = piece.split(" ")[0]
        if piece.count(" ") > 1 or not re.fullmatch(r"[\w.\[\]]+", written):
            break
        path += [int(p) if p.isdigit() else p for p in re.findall(r"\w+", written)]
        taken += 1
    return tuple(path), ": ".join(pieces[:taken]), ": ".join(pieces[taken:])


def _conflicts(entries: list[Entry]) -> Iterator[Problem]:
    seen: dict[tuple[str, str, str], str] = {}
    ids: dict[tuple[str, str], str] = {}
    thresholds = {e.definition.name for e in entries if isinstance(e.definition, Threshold)}
    detectors = {e.definition.name for e in entries if isinstance(e.definition, Detector)}
    live = {e.definition.name for e in entries if isinstance(e.definition, Segment) and e.definition.where is not None}
    predictions = {e.definition.name for e in entries if isinstance(e.definition, Prediction)}
    for entry in entries:
        definition = entry.definition
        key = (definition.tenant, definition.kind, definition.name)
        if key in seen:
            yield entry.problem(
                ("name",), f"{definition.kind} {definition.name} stands in {seen[key]} too; give it another name"
            )
        seen[key] = entry.file
        if isinstance(definition, (Rule, Workflow)):
            by_id = (definition.tenant, definition.id)
            if by_id in ids:
                yield entry.problem(
                    ("id",),
                    f"{definition.kind} id {definition.id} is taken by {ids[by_id]}; ids are what command ids are made of",
                )
            ids[by_id] = definition.name
            trigger = definition.trigger
            if isinstance(trigger, OnThreshold) and trigger.threshold not in thresholds:
                yield entry.problem(("trigger", "threshold"), f"no threshold {trigger.threshold} in this rulebook")
            if isinstance(trigger, OnAnomaly) and trigger.detector not in detectors:
                yield entry.problem(("trigger", "detector"), f"no detector {trigger.detector} in this rulebook")
            if isinstance(trigger, OnSegment) and trigger.segment not in live:
                yield entry.problem(
                    ("trigger", "segment"), f"no segment {trigger.segment} with `where` in this rulebook"
                )
            if isinstance(trigger, OnPrediction) and trigger.prediction not in predictions:
                yield entry.problem(("trigger", "prediction"), f"no prediction {trigger.prediction} in this rulebook")
        if isinstance(definition, Workflow):
            known = {e.definition.name: e.definition for e in entries if isinstance(e.definition, Workflow)}
            yield from map(entry.complaint, call_problems(definition, known))


def _together(entries: list[Entry]) -> Iterator[Problem]:
    """Loops, and rules in each other's way."""
    known = [e.definition for e in entries]
    of = {id(e.definition): e for e in entries}
    for one, way in loops(known):
        path: Path = ("command", "type") if isinstance(one, Rule) else ("nodes",)
        yield of[id(one)].problem(path, f"{LOOP}: {way}")
    for rule, why in conflicts(known):
        path = ("command", "type") if isinstance(rule, Rule) else ("nodes",)
        yield of[id(rule)].problem(path, why, "warning")

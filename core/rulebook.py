"""The rulebook: definitions as YAML text, checked as a whole, with the examples that each rule brings along.

A file is `definitions:`, a list; each entry is a definition as `schemas.definitions` says, and a rule may carry `tests:`.
Pure: text in, definitions out. Every problem is reported at once, with its file, the path inside it and the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from core.rules.render import Renderer, RenderError
from core.workflows.problems import call_problems, problems
from core.workflows.testing import Journey
from core.yamltext import BadYaml, line_of, load_yaml
from schemas.definitions import DEFINITION, Definition, OnThreshold, Rule, Threshold, Workflow
from schemas.envelope import Word

SILENCE = "silence"


class RulebookError(Exception):
    """The rulebook does not hold together; one line for each problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


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
    return [definition for _, definition, _ in _load(texts)]


def examples(texts: Mapping[str, str]) -> list[Case]:
    """The examples of all rules, in order of file. Raises `RulebookError`."""
    return [
        Case(file, rule, example)
        for file, rule, found in _load(texts)
        if isinstance(rule, Rule)
        for example in found
        if isinstance(example, Example)
    ]


def trips(texts: Mapping[str, str]) -> list[Trip]:
    """The journeys of all workflows, in order of file. Raises `RulebookError`."""
    loaded = _load(texts)
    workflows = [w for _, w, _ in loaded if isinstance(w, Workflow)]
    return [
        Trip(file, workflow, journey, tuple(w for w in workflows if w is not workflow))
        for file, workflow, found in loaded
        if isinstance(workflow, Workflow)
        for journey in found
        if isinstance(journey, Journey)
    ]


def _load(texts: Mapping[str, str]) -> list[tuple[str, Definition, list[Test]]]:
    wrong: list[str] = []
    loaded: list[tuple[str, Definition, list[Test]]] = []
    for file in sorted(texts):
        try:
            document = load_yaml(texts[file])
        except BadYaml as error:
            wrong.append(f"{file}: not YAML: {error}")
            continue
        entries = document.get("definitions") if isinstance(document, dict) else None
        if not isinstance(entries, list) or set(document) != {"definitions"}:
            wrong.append(f"{file}: expected one key, `definitions`, with a list under it")
            continue
        for i, entry in enumerate(entries):
            loaded += _entry(_Place(file, texts[file], i), entry, wrong)
    wrong += _conflicts(loaded)
    if wrong:
        raise RulebookError(wrong)
    return loaded


@dataclass(frozen=True, slots=True)
class _Place:
    """One entry of a file."""

    file: str
    text: str
    index: int

    def problem(self, name: object, path: Sequence[str | int], words: str) -> str:
        """One line that says where."""
        line = line_of(self.text, ["definitions", self.index, *path])
        at = self.file if line is None else f"{self.file}: line {line}"
        return f"{at}: definitions[{self.index}] ({name}): {words}"


def _entry(place: _Place, entry: Any, wrong: list[str]) -> Iterator[tuple[str, Definition, list[Test]]]:
    if not isinstance(entry, dict):
        wrong.append(f"{place.file}: definitions[{place.index}]: expected a mapping with `kind` and `name`")
        return
    name = entry.get("name", "no name")
    body = {k: v for k, v in entry.items() if k != "tests"}
    tests = entry.get("tests", [])
    try:
        definition = DEFINITION.validate_python(body)
    except ValidationError as error:
        wrong += _invalid(place, name, (), error)
        return
    kind = Journey if isinstance(definition, Workflow) else Example
    found: list[Test] = []
    for i, test in enumerate(tests if isinstance(tests, list) else []):
        try:
            found.append(kind.model_validate(test))
        except ValidationError as error:
            wrong += _invalid(place, name, ("tests", i), error)
    if not isinstance(tests, list):
        wrong.append(place.problem(name, ["tests"], "tests: expected a list"))
    complaints: Sequence[str] = []
    if isinstance(definition, Rule):
        complaints = [*template_problems(definition)]
    elif isinstance(definition, Workflow):
        complaints = problems(definition)
    wrong += [place.problem(name, _parts(c), c) for c in complaints]
    yield place.file, definition, found


def _invalid(place: _Place, name: object, inside: Sequence[str | int], error: ValidationError) -> Iterator[str]:
    for e in error.errors(include_url=False):
        path = [*inside, *e["loc"]]
        yield place.problem(name, path, f"{'.'.join(map(str, path)) or 'entry'}: {e['msg']}")


def _parts(complaint: str) -> list[str | int]:
    """The path at the beginning of a complaint: `nodes[3] (a): on.b: …` → nodes, 3, on, b."""
    parts: list[str | int] = []
    for piece in complaint.split(": ")[:2]:
        path = piece.split(" ")[0]
        if piece.count(" ") > 1 or not re.fullmatch(r"[\w.\[\]]+", path):
            break
        parts += [int(p) if p.isdigit() else p for p in re.findall(r"\w+", path)]
    return parts


def template_problems(rule: Rule) -> Iterator[str]:
    """What is wrong with the rule's templates: path and reason."""
    renderer = Renderer()
    for path, text in _strings(rule.command.model_dump(mode="json"), "command"):
        try:
            renderer.check(text)
        except RenderError as error:
            yield f"{path}: {error}"


def _strings(value: JsonValue, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield path, value
        case list():
            for i, item in enumerate(value):
                yield from _strings(item, f"{path}[{i}]")
        case dict():
            for k, item in value.items():
                yield from _strings(item, f"{path}.{k}")


def _conflicts(loaded: Sequence[tuple[str, Definition, Sequence[Test]]]) -> Iterator[str]:
    seen: dict[tuple[str, str, str], str] = {}
    ids: dict[tuple[str, str], str] = {}
    thresholds = {d.name for _, d, _ in loaded if isinstance(d, Threshold)}
    for file, definition, _ in loaded:
        key = (definition.tenant, definition.kind, definition.name)
        if key in seen:
            yield f"{file}: {definition.kind} {definition.name} stands in {seen[key]} too; give it another name"
        seen[key] = file
        if isinstance(definition, (Rule, Workflow)):
            by_id = (definition.tenant, definition.id)
            if by_id in ids:
                yield f"{file}: {definition.kind} id {definition.id} is taken by {ids[by_id]}; ids are what command ids are made of"
            ids[by_id] = definition.name
            trigger = definition.trigger
            if isinstance(trigger, OnThreshold) and trigger.threshold not in thresholds:
                yield f"{file}: {definition.name}: trigger.threshold: no threshold {trigger.threshold} in this rulebook"
        if isinstance(definition, Workflow):
            known = {d.name: d for _, d, _ in loaded if isinstance(d, Workflow)}
            yield from (f"{file}: {definition.name}: {p}" for p in call_problems(definition, known))

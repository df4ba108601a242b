"""The rulebook: definitions as YAML text, checked as a whole, with the examples that each rule brings along.

A file is `definitions:`, a list; each entry is a definition as `schemas.definitions` says, and a rule may carry `tests:`.
Pure: text in, definitions out. Every problem is reported at once, with its file, the path inside it and the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from core.rules.render import Renderer, RenderError
from core.yamltext import BadYaml, load_yaml
from schemas.definitions import DEFINITION, Definition, Detector, OnAnomaly, OnThreshold, Rule, Threshold
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


def load_rulebook(texts: Mapping[str, str]) -> list[Definition]:
    """Every definition of these files (name → text). Raises `RulebookError` where anything is wrong."""
    return [definition for _, definition, _ in _load(texts)]


def examples(texts: Mapping[str, str]) -> list[Case]:
    """The examples of all rules, in order of file. Raises `RulebookError`."""
    return [
        Case(file, rule, example) for file, rule, found in _load(texts) if isinstance(rule, Rule) for example in found
    ]


def _load(texts: Mapping[str, str]) -> list[tuple[str, Definition, list[Example]]]:
    problems: list[str] = []
    loaded: list[tuple[str, Definition, list[Example]]] = []
    for file in sorted(texts):
        try:
            document = load_yaml(texts[file])
        except BadYaml as error:
            problems.append(f"{file}: not YAML: {error}")
            continue
        entries = document.get("definitions") if isinstance(document, dict) else None
        if not isinstance(entries, list) or set(document) != {"definitions"}:
            problems.append(f"{file}: expected one key, `definitions`, with a list under it")
            continue
        for i, entry in enumerate(entries):
            loaded += _entry(file, f"definitions[{i}]", entry, problems)
    problems += _conflicts(loaded)
    if problems:
        raise RulebookError(problems)
    return loaded


def _entry(file: str, path: str, entry: Any, problems: list[str]) -> Iterator[tuple[str, Definition, list[Example]]]:
    if not isinstance(entry, dict):
        problems.append(f"{file}: {path}: expected a mapping with `kind` and `name`")
        return
    where = f"{file}: {path} ({entry.get('name', 'no name')})"
    body = {k: v for k, v in entry.items() if k != "tests"}
    tests = entry.get("tests", [])
    try:
        definition = DEFINITION.validate_python(body)
        found = [Example.model_validate(t) for t in tests]
    except ValidationError as error:
        for e in error.errors(include_url=False):
            place = ".".join(str(part) for part in e["loc"][:])
            problems.append(f"{where}: {place or 'entry'}: {e['msg']}")
        return
    if isinstance(definition, Rule):
        problems += [f"{where}: {p}" for p in template_problems(definition)]
    yield file, definition, found


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


def _conflicts(loaded: list[tuple[str, Definition, list[Example]]]) -> Iterator[str]:
    seen: dict[tuple[str, str, str], str] = {}
    ids: dict[tuple[str, str], str] = {}
    thresholds = {d.name for _, d, _ in loaded if isinstance(d, Threshold)}
    detectors = {d.name for _, d, _ in loaded if isinstance(d, Detector)}
    for file, definition, _ in loaded:
        key = (definition.tenant, definition.kind, definition.name)
        if key in seen:
            yield f"{file}: {definition.kind} {definition.name} stands in {seen[key]} too; give it another name"
        seen[key] = file
        if isinstance(definition, Rule):
            by_id = (definition.tenant, definition.id)
            if by_id in ids:
                yield f"{file}: rule id {definition.id} is taken by {ids[by_id]}; ids are what command ids are made of"
            ids[by_id] = definition.name
            trigger = definition.trigger
            if isinstance(trigger, OnThreshold) and trigger.threshold not in thresholds:
                yield f"{file}: {definition.name}: trigger.threshold: no threshold {trigger.threshold} in this rulebook"
            if isinstance(trigger, OnAnomaly) and trigger.detector not in detectors:
                yield f"{file}: {definition.name}: trigger.detector: no detector {trigger.detector} in this rulebook"

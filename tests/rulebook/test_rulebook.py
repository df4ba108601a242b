"""The shipped rulebook: whole, uniform, every rule tried on its own examples; and the loader's answers to bad files."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path

import pytest
from pydantic import JsonValue

from app import catalogue
from core.rulebook import SILENCE, Case, RulebookError, examples, load_rulebook
from core.rules.render import asked
from core.rules.trying import try_rule
from core.rules.waiting import remembers
from schemas.commands import DOMAINS, Command
from schemas.definitions import (
    OnAnomaly,
    OnBand,
    OnEvent,
    OnReport,
    OnSegment,
    OnStage,
    OnThreshold,
    OnVerdict,
    OnViral,
    Rule,
    Threshold,
    Workflow,
)

ROOT = Path(__file__).parents[2] / "rulebook"
TEXTS = {str(p.relative_to(ROOT)): p.read_text() for p in sorted(ROOT.rglob("*.yaml"))}
RULES = {d.id: d for d in load_rulebook(TEXTS) if isinstance(d, Rule)}
THRESHOLDS = {d.name: d for d in load_rulebook(TEXTS) if isinstance(d, Threshold)}
CASES = examples(TEXTS)
GROUPS = ("A1", "A2", "A3", "A4", "B1", "B2", "B3", "B4", "D1", "I1", "I2", "I3")
MEASURED = [f"{group}.{n}" for group in GROUPS for n in range(1, 5)]
CROSS_DOMAIN = [f"E{group}.{n}" for group in range(1, 8) for n in range(1, 4 if group == 7 else 5)]
TRIGGERS = [
    "contact-added",
    "email-opened",
    "link-clicked",
    "form-submitted",
    "engagement-score",
    "inactivity",
    "crm-update",
    "churn-risk",
    "engagement-decay",
    "likely-to-convert",
]
CONDITIONS = [
    *("tag", "custom-field", "demographics"),
    *("open-rate", "click-rate", "reply-rate"),
    *("campaign-member", "campaign-position"),
    *("crm-stage", "purchases"),
    *("weekday", "time-of-day", "time-zone"),
    *("engagement-score", "churn-probability"),
]
CAMPAIGNS = ["join-short", "join-long", "next", "advanced", "left"]
PARTS = {"P1": TRIGGERS, "P2": CONDITIONS, "P10": CAMPAIGNS}
CATALOGUE = [*MEASURED, *CROSS_DOMAIN, *(f"{part}.{name}" for part, names in PARTS.items() for name in names)]


@pytest.mark.parametrize("case", CASES, ids=[f"{c.rule.id}-{i}" for i, c in enumerate(CASES)])
def test_examples(case: Case) -> None:
    threshold = THRESHOLDS.get(getattr(case.rule.trigger, "threshold", ""))
    command = try_rule(case.rule, case.example.given, threshold=threshold)
    if case.example.expect == SILENCE:
        assert command is None
        return
    assert command is not None
    assert command.type == case.example.expect
    for path, value in case.example.payload.items():
        assert _at(command.payload, path) == value, path
    _well_formed(command, case.rule)


def _at(payload: dict[str, JsonValue], path: str) -> JsonValue:
    return reduce(lambda value, part: value[part], path.split("."), payload)  # type: ignore[call-overload, index, return-value]


def _well_formed(command: Command, rule: Rule) -> None:
    assert Command.model_validate_json(command.model_dump_json()) == command
    assert command.why.reason
    if isinstance(rule.trigger, (OnEvent, OnSegment)):
        assert command.why.detection is None, "a single event is no detection, and has no window"
    else:
        assert command.why.numbers and command.why.thresholds
        assert command.why.window and command.why.window_start and command.why.window_end
        assert (command.why.detection is None) == (remembers(rule.trigger) is not None), (
            "events of a subject are no detection"
        )
    assert command.why.links["metrics"].startswith("/api/v1/products/shop/metrics?tenant=acme")
    assert "{{" not in command.model_dump_json()
    assert "None" not in command.title + command.text
    assert (command.segment is not None) == (rule.command.segment is not None)
    if command.segment is not None:
        assert command.segment.link.startswith("/api/v1/products/shop/segments/")
        assert command.segment.link.endswith(f"/{rule.command.segment}/members?tenant=acme")


def test_the_catalogue_is_covered() -> None:
    shipped = [r for r in RULES.values() if "catalogue" in r.tags]
    assert sorted(r.id for r in shipped) == sorted(CATALOGUE)
    types = [r.command.type for r in shipped]
    assert len(set(types)) == len(types), "a command type belongs to one row"
    for rule in shipped:
        assert re.fullmatch(r"[a-z]+\.[a-z_]+\.[a-z_]+", rule.command.type)
        assert rule.command.type.split(".")[0] in DOMAINS
        assert rule.name == rule.id and rule.description and rule.owner and rule.command.payload
        assert rule.cooldown_s or isinstance(rule.trigger, OnVerdict), "of two rules' verdicts neither hides the other"
        assert rule.priority == "urgent" or not rule.id.startswith("B1.")


def test_triggers_name_states_and_no_catalogue_ids() -> None:
    stages, bands = ("low", "growth", "market"), ("critical", "declining", "stable", "optimal")
    for rule_id in MEASURED:
        trigger, row = RULES[rule_id].trigger, int(rule_id[1])
        match trigger:
            case OnStage():
                assert rule_id[0] == "A" and trigger.stages == [stages[row - 1]]
            case OnViral():
                assert rule_id[:2] == "A4"
            case OnAnomaly() | OnThreshold():
                assert rule_id[:2] == "D1"
            case OnReport() | OnVerdict():
                assert rule_id[0] == "I"
            case OnBand():
                assert rule_id[0] == "B" and trigger.bands == [bands[row - 1]]
            case _:
                pytest.fail(f"{rule_id} has another trigger")


def test_every_rule_has_an_example_that_fires_and_cross_domain_ones_one_that_does_not() -> None:
    firing = {c.rule.id for c in CASES if c.example.expect != SILENCE}
    silent = {c.rule.id for c in CASES if c.example.expect == SILENCE}
    assert firing == set(RULES)
    assert set(CATALOGUE) - set(MEASURED) <= silent


def test_no_trigger_or_condition_names_a_row_of_the_catalogue() -> None:
    rows = set(catalogue.ids())
    for definition in load_rulebook(TEXTS):
        if isinstance(definition, (Rule, Workflow)):
            told = definition.model_dump_json(include={"trigger", "condition", "events"})
            words = set(re.findall(r"[A-Za-z0-9.]+", told))
            assert not words & rows, definition.id


def test_all_templates_stay_within_the_sandbox() -> None:
    for rule in RULES.values():
        asked(rule.command.title)
        asked(rule.command.text)


GOOD = """
definitions:
  - kind: rule
    name: x
    id: x
    trigger: {kind: viral}
    command: {type: product.a.b, title: t, text: t}
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "x.yaml: not YAML"),
        ("rules: []", "expected one key, `definitions`"),
        ("definitions: [3]", "definitions[0]: expected a mapping"),
        (GOOD.replace("viral", "vital"), "definitions[0] (x): rule.trigger"),
        (GOOD.replace("product.a.b", "b.a.product"), "definitions[0] (x): rule.command.type"),
        (GOOD.replace("title: t", "title: '{{ x'"), "command.title"),
        (GOOD.replace("title: t", "title: '{% for i in x %}{% endfor %}'"), "For is not allowed"),
        (GOOD.replace("title: t", "title: '{{ x.__class__() }}'"), "Call is not allowed"),
        (GOOD.replace("{kind: viral}", "{kind: threshold, threshold: t}"), "no threshold t in this rulebook"),
        (GOOD.replace("{kind: viral}", "{kind: anomaly, detector: d}"), "no detector d in this rulebook"),
        (GOOD + GOOD.replace("\ndefinitions:", ""), "rule x stands in x.yaml too"),
        (GOOD.replace("id: x", "id: x\n    typo: 1"), "definitions[0] (x): rule.typo"),
    ],
)
def test_problems_are_named(text: str, says: str) -> None:
    with pytest.raises(RulebookError) as error:
        load_rulebook({"x.yaml": text})
    assert says in str(error.value)
    assert str(error.value).startswith("x.yaml: ")

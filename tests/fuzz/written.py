"""Doors of definitions: as JSON from their topic, as YAML from files."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import yaml
from pydantic import ValidationError

from core.definitions import Catalogue
from core.rulebook import RulebookError, load_rulebook
from core.rules.lint import rule_findings
from core.rules.matching import RuleIndex
from integrations.hands import Hands
from schemas.definitions import DEFINITION, Connection, Rule, head_key
from tests.fuzz.mutate import damaged, encoded, spoiled
from tests.fuzz.samples import Outcome, all_definitions

_TANGLES = (
    "a: &a [x]\n", "b: &b [*a, *a]\n", "*a", "<<: *a", "? {a: b}\n: c\n", "!!python/object:os.system x", "!!binary x", "!!timestamp 1",
    "2001-99-99", "0x", "1e999", ".nan", "[" * 80, "{" * 200, "- " * 300, "\t", "%YAML 9.9\n---\n", "--- \n--- \n",
    "\u2028", "&a *a", "0b12", "1:99:99",
    "9" * 5_000, "<<: {definitions: []}", "!!set {a, b}", "!!omap [a: 1]",
)  # fmt: skip


def definitions(random: Random, held: list[Any]) -> Outcome:
    """Definitions as JSON, as processes read them from their topic: in force and usable, or refused."""
    value = encoded(random, damaged(random, random.choice(all_definitions())), spoil=0.1)
    held.append(value)
    catalogue = Catalogue()
    try:
        definition = DEFINITION.validate_json(value)
        catalogue.apply(head_key(definition), value)
    except ValidationError:
        return {"refused": 1}
    RuleIndex(catalogue).named("acme", "x")
    for found in catalogue.heads():
        if isinstance(found, Connection):
            Hands().problems(found)
        if isinstance(found, Rule):
            list(rule_findings(found))
        found.model_dump_json()
    return {"accepted": 1}


@cache
def _texts() -> list[str]:
    made = [yaml.safe_dump({"definitions": [d]}, sort_keys=False) for d in all_definitions()]
    return [t for t in made if len(t) < 2_500]


def texts(random: Random, held: list[Any]) -> Outcome:
    """Rulebooks as YAML: definitions, or problems by the line."""
    text = random.choice(_texts())
    if random.random() < 0.3:
        text = encoded(random, {"definitions": [damaged(random, random.choice(all_definitions()))]}, 0).decode(
            "utf-8", "replace"
        )
    if random.random() < 0.6:
        text = spoiled(random, text.encode("utf-8", "replace")).decode("utf-8", "replace")
    for _ in range(random.choice((0, 0, 1, 2))):
        at = random.randrange(len(text) + 1)
        text = text[:at] + random.choice(_TANGLES) + text[at:]
    held.append(text)
    try:
        load_rulebook({"f.yaml": text})
    except RulebookError as error:
        assert error.problems
        return {"refused": 1}
    return {"accepted": 1}

"""Which rules a finding meets: an index over the catalogue, rebuilt when the catalogue changes."""

from __future__ import annotations

from collections import defaultdict

from core.definitions import Catalogue
from schemas.definitions import OnBand, OnEvent, OnStage, OnThreshold, OnViral, Rule, Trigger
from schemas.detections import (
    BandEntered,
    Detection,
    StageEntered,
    ThresholdCleared,
    ThresholdCrossed,
    ViralEntered,
)


class RuleIndex:
    """Rules by what triggers them, each list in order of rule id. A tenant's own rule hides everybody's of that name."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._generation = -1
        self._by_trigger: dict[str, dict[str, list[Rule]]] = {}
        self._by_name: dict[str, dict[str, Rule]] = {}

    def met_by(self, found: Detection) -> list[Rule]:
        """The rules whose trigger names this detection."""
        return self._of(found.tenant).get(name_of(found), [])

    def named(self, tenant: str, name: str) -> Rule | None:
        """The rule of that name (or id) that is in force for the tenant."""
        self._of(tenant)
        return self._by_name[tenant].get(name)

    def _of(self, tenant: str) -> dict[str, list[Rule]]:
        if self._generation != self._catalogue.generation:
            self._by_trigger.clear()
            self._by_name.clear()
            self._generation = self._catalogue.generation
        found = self._by_trigger.get(tenant)
        if found is None:
            rules: dict[str, Rule] = {}
            for rule in sorted(self._catalogue.of(Rule, tenant), key=lambda r: r.tenant == tenant):
                rules[rule.name] = rule
            found = defaultdict(list)
            for rule in sorted(rules.values(), key=lambda r: (r.id, r.name)):
                for name in names_of(rule.trigger):
                    found[name].append(rule)
            self._by_trigger[tenant] = found = dict(found)
            self._by_name[tenant] = {r.id: r for r in rules.values()} | rules
        return found


def names_of(trigger: Trigger) -> list[str]:
    """Every kind of detection that meets the trigger; none for one of single events."""
    match trigger:
        case OnStage(stages=stages):
            return [f"stage:{s}" for s in dict.fromkeys(stages)]
        case OnViral():
            return ["viral"]
        case OnBand(bands=bands):
            return [f"band:{b}" for b in dict.fromkeys(bands)]
        case OnThreshold(threshold=name, edge=edge):
            return [f"{edge}:{name}"]
        case OnEvent():
            return []


def name_of(found: Detection) -> str:
    """The kind of this detection, as `names_of` spells it."""
    match found:
        case StageEntered():
            return f"stage:{found.stage}"
        case ViralEntered():
            return "viral"
        case BandEntered():
            return f"band:{found.band}"
        case ThresholdCrossed():
            return f"crossed:{found.threshold}"
        case ThresholdCleared():
            return f"cleared:{found.threshold}"

"""Which rules a finding meets: an index over the catalogue, rebuilt when the catalogue changes."""

from __future__ import annotations

from collections import defaultdict

from core.definitions import Catalogue
from core.rules.waiting import remembers
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
    Rule,
    Trigger,
)
from schemas.detections import (
    Anomaly,
    AnomalyEnded,
    BandEntered,
    Detection,
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
from schemas.outcomes import Conversion, Figure


class RuleIndex:
    """Rules by what triggers them, each list in order of rule id. A tenant's own rule hides everybody's of that name."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._generation = -1
        self._by_trigger: dict[str, dict[str, list[Rule]]] = {}
        self._by_name: dict[str, dict[str, Rule]] = {}
        self._rules: dict[str, list[Rule]] = {}
        self._remembering: dict[str, list[Rule]] = {}
        self._measuring: dict[str, list[Rule]] = {}
        self._reporting: dict[str, bool] = {}

    def met_by(self, found: Detection) -> list[Rule]:
        """The rules whose trigger names this detection."""
        return self._of(found.tenant).get(name_of(found), [])

    def named(self, tenant: str, name: str) -> Rule | None:
        """The rule of that name (or id) that is in force for the tenant."""
        self._of(tenant)
        return self._by_name[tenant].get(name)

    def scheduled(self, tenant: str, product: str) -> dict[str, OnSchedule]:
        """The schedules that are in force for the product, by their rule's name."""
        self._of(tenant)
        return {
            rule.name: rule.trigger
            for rule in self._rules[tenant]
            if isinstance(rule.trigger, OnSchedule) and rule.trigger.product in (None, product)
        }

    def entering(self, tenant: str, segment: str, edge: str) -> list[Rule]:
        """The rules that wake when a subject enters or leaves the segment, in order of rule id."""
        return self._of(tenant).get(f"segment_{edge}:{segment}", [])

    def remembering(self, tenant: str) -> list[Rule]:
        """The tenant's rules whose triggers remember what subjects did, in order of rule id."""
        self._of(tenant)
        return self._remembering[tenant]

    def measuring(self, tenant: str) -> list[Rule]:
        """The tenant's rules that are measured by what subjects do, in order of rule id."""
        self._of(tenant)
        return self._measuring[tenant]

    def reporting(self, tenant: str) -> bool:
        """Whether some rule of the tenant waits for reports on outcomes."""
        self._of(tenant)
        return self._reporting[tenant]

    def figured(self, found: Detection) -> list[Rule]:
        """The rules that this detection meets and that are measured by figures."""
        return [r for r in self.met_by(found) if r.outcome is not None and isinstance(r.outcome.metric, Figure)]

    def minding(self, found: Detection) -> list[Rule]:
        """The rules that this detection meets and that mind late data."""
        return [r for r in self.met_by(found) if r.late != "drop"]

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
                for name in names_of(rule.trigger, rule.name):
                    found[name].append(rule)
            self._rules[tenant] = sorted(rules.values(), key=lambda r: (r.id, r.name))
            self._remembering[tenant] = [r for r in self._rules[tenant] if remembers(r.trigger) is not None]
            measured = [r for r in self._rules[tenant] if r.outcome is not None]
            self._measuring[tenant] = [r for r in measured if r.outcome and isinstance(r.outcome.metric, Conversion)]
            self._reporting[tenant] = any(isinstance(r.trigger, OnReport) for r in self._rules[tenant])
            self._by_trigger[tenant] = found = dict(found)
            self._by_name[tenant] = {r.id: r for r in rules.values()} | rules
        return found


def names_of(trigger: Trigger, rule: str = "") -> list[str]:
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
        case OnAnomaly(detector=name, edge=edge):
            return [f"anomaly_{edge}:{name}"]
        case OnPrediction(prediction=name, edge=edge):
            return [f"prediction_{edge}:{name}"]
        case OnSchedule():
            return [f"schedule:{rule}"]
        case OnVerdict(verdicts=verdicts):
            return [f"verdict:{v}" for v in dict.fromkeys(verdicts)]
        case OnReport(every=every):
            return [f"report:{every}"]
        case OnSegment(segment=name, edge=edge):
            return [f"segment_{edge}:{name}"]
        case OnEvent() | OnCount() | OnSequence() | OnAbsence() | OnInactivity():
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
        case Anomaly():
            return f"anomaly_began:{found.detector}"
        case AnomalyEnded():
            return f"anomaly_ended:{found.detector}"
        case PredictionCrossed():
            return f"prediction_crossed:{found.prediction}"
        case PredictionCleared():
            return f"prediction_cleared:{found.prediction}"
        case ScheduleDue():
            return f"schedule:{found.schedule}"
        case VerdictReached():
            return f"verdict:{found.verdict}"
        case OutcomeReport():
            return f"report:{found.every}"

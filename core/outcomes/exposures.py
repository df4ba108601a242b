"""Exposures of one partition of `signals`: who met a measured rule, what they did then, and the counts of those whose time is over.

    exposed  a subject in a rule's comparison      done  a conversion that waits for event time
    counted  how far a product is                  met   who has been in a comparison (`core.outcomes.met`)

A subject counts once in an experiment, from its first exposure on, in the arm it was in then. A conversion counts when it occurred
later than the exposure and not after its end, whenever it is read before that end is counted; one read before its exposure waits
until event time has passed it, for rules that remember fire late. Counts leave by the hour in which exposures ended, each once;
an exposure that is counted leaves with them, and only that its subject was there is remembered.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from core.decide.packing import encode, key
from core.outcomes.arms import Exposed, signature
from core.outcomes.met import Met
from core.room import Room
from core.task import StateRecord
from schemas.definitions import Rule
from schemas.parts import Arms, Counted

HOUR_MS: Final = 3_600_000
MAX_EXPOSED: Final = 500_000
"""Subjects in comparisons whose time is not over, and (apart from these) conversions that wait, in one partition."""
MAX_MET: Final = 20_000_000
"""Subjects in comparisons whose time is over that one partition remembers: 160 MB."""
Product = tuple[str, str]
Place = tuple[str, str, str, str]
"""tenant, product, rule's name, subject."""


@dataclass(slots=True)
class Exposure:
    """One subject in one experiment."""

    signature: str
    version: int
    held: bool
    at: int
    due: int
    probability: float | None
    converted: bool = False
    value: float = 0.0

    def row(self) -> list[object]:
        """What a checkpoint keeps."""
        head = [self.signature, self.version, self.held, self.at, self.due]
        return [*head, self.probability, self.converted, self.value]


class Exposures:
    """All comparisons of one partition. `partition`: its number, named in what it tells. `most`: subjects whose time is not over;
    `most_met`: those that are remembered.
    """

    def __init__(self, partition: int, most: int = MAX_EXPOSED, most_met: int = MAX_MET) -> None:
        self.partition = partition
        self._most, self._most_met = most, most_met
        self._met = Met()
        self._old: list[tuple[Place, Exposure]] = []
        """Rows of a version that kept what was counted."""
        self._exposed: Room[Place, Exposure] = Room()
        self._done: Room[Place, tuple[int, dict[str, float]]] = Room()
        """(tenant, product, subject, cause) → (time, rule → value)."""
        self._waiting: defaultdict[Product, list[tuple[int, str, str]]] = defaultdict(list)
        self._ends: defaultdict[Product, list[tuple[int, str, str]]] = defaultdict(list)
        self._upto: dict[Product, tuple[int, int]] = {}
        """Product → (event time told, end up to which is counted)."""
        self._changed: set[tuple[str, ...]] = set()
        self._signatures: dict[tuple[str, str, int], str] = {}

    def begin(self, exposed: Exposed) -> str | None:
        """A subject met a measured rule; why it is not in the comparison, where it is not: `late` or `full`."""
        rule, product = exposed.rule, (exposed.tenant, exposed.product)
        if rule.outcome is None:
            return None
        place = (*product, rule.name, exposed.subject)
        known, measured = self._exposed.get(place), self._signature(rule)
        if known is not None and known.signature == measured:
            return None
        of = (*product, rule.name)
        if self._met.holds(of, measured, exposed.subject):
            return None
        if exposed.at < self._upto.get(product, (0, 0))[0]:
            return "late"
        if known is None and not self._exposed.open_to(exposed.tenant, self._most):
            return "full"
        if not self._met.open_to(exposed.tenant, self._most_met):
            return "full"
        self._met.begins(of, measured)
        due = exposed.at + rule.outcome.within_s * 1000
        self._keep(place, Exposure(measured, rule.version, exposed.held, exposed.at, due, exposed.probability))
        return None

    def did(
        self, tenant: str, product: str, subject: str, cause: str, at: int, values: Mapping[str, float]
    ) -> str | None:
        """The subject converted, for these rules with these values; why it is not kept: `full`."""
        if at < self._upto.get((tenant, product), (0, 0))[0]:
            self._count(tenant, product, subject, at, values)
            return None
        if not self._done.open_to(tenant, self._most):
            return "full"
        self._done[tenant, product, subject, cause] = (at, dict(values))
        self._changed.add(("done", tenant, product, subject, cause))
        heapq.heappush(self._waiting[tenant, product], (at, subject, cause))
        return None

    def tell(self, tenant: str, product: str, clock: int) -> Arms | None:
        """Event time is at `clock`, and all that occurred before it has been told: what is to be told on, at most once an hour."""
        told, upto = self._upto.get((tenant, product), (0, 0))
        if clock <= told:
            return None
        waiting = self._waiting[tenant, product]
        while waiting and waiting[0][0] < clock:
            _, subject, cause = heapq.heappop(waiting)
            found = self._done.pop((tenant, product, subject, cause), None)
            if found is not None:
                self._changed.add(("done", tenant, product, subject, cause))
                self._count(tenant, product, subject, *found)
        until = clock // HOUR_MS * HOUR_MS
        self._upto[tenant, product] = (clock, max(until, upto))
        self._changed.add(("counted", tenant, product))
        if until <= upto:
            return None
        return Arms(
            tenant=tenant,
            product=product,
            partition=self.partition,
            upto=until,
            counted=self._counted(tenant, product, until),
        )

    def forget(self, holds: Callable[[str, str], bool]) -> int:
        """Forget the subjects of which `holds(tenant, subject)`; how much went. What was counted stays counted."""
        exposed = [p for p in self._exposed if holds(p[0], p[3])]
        done = [p for p in self._done if holds(p[0], p[2])]
        for place in exposed:
            del self._exposed[place]
            self._changed.add(("exposed", *place))
        for row in done:
            del self._done[row]
            self._changed.add(("done", *row))
        return len(exposed) + len(done)

    # --- state --------------------------------------------------------------------------------------------------------

    def drain(self) -> list[StateRecord]:
        """Rows that changed since the last drain."""
        records = [(key(row, *rest), self._content(row, rest)) for row, *rest in sorted(self._changed)]
        self._changed.clear()
        pages = [(key("met", *page), None if found is None else encode(found)) for page, found in self._met.drain()]
        return [*records, *pages]

    def let_go(self) -> None:
        """Instead of `drain`, where nobody writes checkpoints."""
        self._changed.clear()

    def load(self, row: str, rest: list[Any], content: Any) -> bool:
        """Take one row back; False where it is none of ours."""
        match row:
            case "exposed":
                tenant, product, rule, subject = rest
                exposure, over = Exposure(*content[:8]), len(content) > 8 and content[8]
                if over:
                    self._old.append(((tenant, product, rule, subject), exposure))
                else:
                    self._keep((tenant, product, rule, subject), exposure)
            case "met":
                *of, page = rest
                tenant, product, rule = of
                self._met.load((tenant, product, rule), page, content)
            case "done":
                tenant, product, subject, cause = rest
                at, values = content
                self._done[tenant, product, subject, cause] = (at, values)
                heapq.heappush(self._waiting[tenant, product], (at, subject, cause))
            case "counted":
                tenant, product = rest
                told, upto = content
                self._upto[tenant, product] = (told, upto)
            case _:
                return False
        return True

    def loaded(self) -> None:
        """Every row is there: none of them is news, but for those that an older version has left, which go."""
        self._changed.clear()
        self._met.loaded()
        every = [*self._exposed.items(), *self._old]
        before = [row for row in every if not self._met.knows(row[0][:3])]  # of a version that had no pages
        for place, exposure in sorted(before, key=lambda row: (row[1].version, row[0])):
            self._met.begins(place[:3], exposure.signature)
        for place, exposure in self._old:
            self._met.add(place[:3], exposure.signature, place[3])
            self._changed.add(("exposed", *place))
        self._old.clear()

    def _content(self, row: str, rest: list[str]) -> bytes | None:
        if row == "counted":
            tenant, product = rest
            return encode(list(self._upto[tenant, product]))
        one, two, three, four = rest
        if row == "done":
            done = self._done.get((one, two, three, four))
            return None if done is None else encode(list(done))
        exposure = self._exposed.get((one, two, three, four))
        return None if exposure is None else encode(exposure.row())

    # --- work ---------------------------------------------------------------------------------------------------------

    def _signature(self, rule: Rule) -> str:
        known = (rule.tenant, rule.name, rule.version)
        if known not in self._signatures:
            if len(self._signatures) > 10_000:
                self._signatures.clear()
            self._signatures[known] = signature(rule)
        return self._signatures[known]

    def _keep(self, place: Place, exposure: Exposure) -> None:
        self._exposed[place] = exposure
        self._changed.add(("exposed", *place))
        heapq.heappush(self._ends[place[0], place[1]], (exposure.due, place[2], place[3]))

    def _count(self, tenant: str, product: str, subject: str, at: int, values: Mapping[str, float]) -> None:
        for rule, value in values.items():
            place = (tenant, product, rule, subject)
            exposure = self._exposed.get(place)
            if exposure is not None and exposure.at < at <= exposure.due:
                exposure.converted = True
                exposure.value += value
                self._changed.add(("exposed", *place))

    def _counted(self, tenant: str, product: str, until: int) -> list[Counted]:
        """Exposures that ended before `until`, by the hour in which they did, rule and experiment."""
        found: dict[tuple[int, str, str], tuple[int, list[float], list[float], list[float]]] = {}
        ends = self._ends[tenant, product]
        while ends and ends[0][0] < until:
            due, rule, subject = heapq.heappop(ends)
            place = (tenant, product, rule, subject)
            exposure = self._exposed.get(place)
            if exposure is None or exposure.due != due:
                continue
            del self._exposed[place]
            self._met.add(place[:3], exposure.signature, subject)
            self._changed.add(("exposed", *place))
            at = (due // HOUR_MS + 1) * HOUR_MS
            version, treated, held, forecast = found.setdefault(
                (at, rule, exposure.signature), (exposure.version, [0.0] * 4, [0.0] * 4, [0.0] * 4)
            )
            found[at, rule, exposure.signature] = (max(version, exposure.version), treated, held, forecast)
            hit = float(exposure.converted)
            _add(held if exposure.held else treated, 1.0, hit, exposure.value, exposure.value**2)
            if exposure.held and exposure.probability is not None:
                _add(forecast, 1.0, exposure.probability, hit, (exposure.probability - hit) ** 2)
        return [
            Counted(at, rule, measured, version, treated, held, forecast)
            for (at, rule, measured), (version, treated, held, forecast) in sorted(found.items())
        ]


def _add(sums: list[float], *more: float) -> None:
    for i, value in enumerate(more):
        sums[i] += value


def value_of(rule: Rule, flat: Mapping[str, object]) -> float:
    """What a conversion was worth; 0 where the rule asks for no value or the event has none."""
    field = getattr(rule.outcome and rule.outcome.metric, "value", None)
    found = flat.get(field) if field is not None else None
    return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else 0.0

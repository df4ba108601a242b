"""What definitions would come to, by the days before: how many commands, whose, and which others meet the same subjects or contradict.

The days are replayed with everything that is in force and the planned definitions in place of those of the same name, through the code
that runs live (`app.backtest`). So cool-downs, ceilings, pauses and hold-outs count as they would have counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from app.archive import Archived, ArchiveError
from app.backtest import Ordered, Result, Wanted, backtest
from app.backtest.past import Past
from app.backtest.reach import clocks_of
from app.backtest.report import day
from core.definitions import Catalogue
from core.people.people import KINDS
from core.rules.loops import opposites
from schemas.definitions import ALL_TENANTS, Definition, Rule, Workflow, head_key

DAY_MS: Final = 86_400_000
MOST_OTHERS: Final = 5
"""Others that are told of a definition, those with the most subjects first."""
Acts = Rule | Workflow


@dataclass(frozen=True, slots=True)
class Other:
    """Another definition that meets the same subjects."""

    rule: str
    """Its id."""
    subjects: int
    """Whom both give a command within a day."""
    why: str = ""
    """Of a contradiction: what the two order."""


@dataclass(slots=True)
class Impact:
    """What one definition would have come to."""

    kind: str
    tenant: str
    name: str
    id: str
    days: float
    """Of how many days that are in the archive."""
    commands: int = 0
    most: int = 0
    """On one UTC day."""
    subjects: int = 0
    held: dict[str, int] = field(default_factory=dict)
    """Reason → commands that were held back."""
    overlaps: list[Other] = field(default_factory=list)
    conflicts: list[Other] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        shown = {
            name: getattr(self, name)
            for name in ("kind", "tenant", "name", "id", "commands", "most", "subjects", "held")
        }
        others = [{"rule": o.rule, "subjects": o.subjects} for o in self.overlaps]
        against = [{"rule": o.rule, "subjects": o.subjects, "why": o.why} for o in self.conflicts]
        return shown | {"days": round(self.days, 2), "overlaps": others, "conflicts": against}

    def lines(self) -> list[str]:
        """For people."""
        mean = self.commands / self.days if self.days else 0.0
        told = [
            f"{self.kind} {self.name}: {self.commands:,} commands in {self.days:.1f} days ({mean:,.1f} a day, {self.most:,} at most), "
            f"to {self.subjects:,} subjects"
        ]
        if self.held:
            reasons = ", ".join(f"{n:,} {why}" for why, n in sorted(self.held.items(), key=lambda h: (-h[1], h[0])))
            told.append(f"  held back: {reasons}")
        for other in self.overlaps:
            share = other.subjects / self.subjects
            told.append(f"  overlap: {other.rule} orders for {other.subjects:,} of them within a day ({share:.0%})")
        told += [f"  conflict: {c.why}, for {c.subjects:,} subjects within a day" for c in self.conflicts]
        return told


def impacts(
    url: str,
    partitions: int,
    planned: Sequence[Definition],
    days: int,
    strict: bool = False,
    told: Callable[[str], None] = lambda text: None,
    processes: int | None = None,
) -> list[Impact]:
    """Of each planned rule and workflow, over the archive's last days. Raises `ArchiveError` where it cannot be read, or is empty."""
    archived = Archived.open(url)
    at = [clocks[:, 1] for clocks in clocks_of(archived).all.values()]
    if not at:
        raise ArchiveError("the archive has no event time yet: nothing can be estimated from it")
    end = max(int(clocks.max()) for clocks in at)
    begin = max(end - days * DAY_MS, min(int(clocks.min()) for clocks in at))
    rules = [*in_force(archived, planned), *planned]
    wanted = Wanted(url, partitions, begin, end, rules=rules, strict=strict, processes=processes)
    result = backtest(wanted, told)
    return weighed(result, planned, (end - begin) / DAY_MS)


def in_force(archived: Archived, planned: Iterable[Definition]) -> list[Acts]:
    """Rules and workflows that were in force at the archive's end, but for those that the planned ones take the place of."""
    catalogue = Catalogue()
    past = Past.of(archived)
    past.follower(catalogue).until(max(past.times(), default=0))
    gone = {head_key(d) for d in planned}
    acts: list[Acts] = [*catalogue.of(Rule), *catalogue.of(Workflow)]
    return [d for d in acts if head_key(d) not in gone]


def weighed(result: Result, planned: Iterable[Definition], days: float) -> list[Impact]:
    """What a replay says of each planned rule and workflow."""
    near = _near(result.commands)
    found = []
    for one in planned:
        if not isinstance(one, Rule | Workflow):
            continue
        mine = [c for c in result.commands if c.rule == one.id and one.tenant in (c.tenant, ALL_TENANTS)]
        impact = Impact(one.kind, one.tenant, one.name, one.id, days, len(mine))
        impact.most = max(Counter(day(c.at) for c in mine).values(), default=0)
        impact.subjects = len({(c.tenant, c.subject) for c in mine})
        impact.held = {why: n for (rule, why), n in sorted(result.suppressed.items()) if rule == one.id}
        met: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        against: defaultdict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        for command in mine:
            for other in near(command):
                if (other.tenant, other.subject) == (command.tenant, command.subject):
                    met[other.rule].add((command.tenant, command.subject))
                if (why := contradiction(command, other)) is not None:
                    against[other.rule, why].add((command.tenant, command.subject))
        impact.overlaps = _most(Other(rule, len(who)) for rule, who in met.items())
        impact.conflicts = _most(Other(rule, len(who), why) for (rule, why), who in against.items())
        found.append(impact)
    return found


def contradiction(this: Ordered, other: Ordered) -> str | None:
    """What two commands order against each other: opposites about one subject, or two values of one flag."""
    same = this.subject == other.subject
    if this.writes is not None and other.writes is not None:
        (flag, _, value), (theirs, _, contrary) = (w.partition("=") for w in (this.writes, other.writes))
        shared = same or not any(c.subject.partition(":")[0] in KINDS for c in (this, other))
        if flag == theirs and value != contrary and shared:
            return f"it sets flag {flag} to {value} where {other.rule} sets it to {contrary}"
    if same and opposites(this.type, other.type):
        return f"it orders {this.type} where {other.rule} orders {other.type}"
    return None


def _near(commands: Iterable[Ordered]) -> Callable[[Ordered], list[Ordered]]:
    """Finds commands of other rules within a day: about the same subject, or that write the same flag."""
    by: defaultdict[tuple[str, str], list[Ordered]] = defaultdict(list)
    for command in commands:
        for place in _places(command):
            by[place].append(command)

    def near(command: Ordered) -> list[Ordered]:
        found = {
            other.id: other
            for place in _places(command)
            for other in by[place]
            if other.rule != command.rule and abs(other.at - command.at) <= DAY_MS
        }
        return list(found.values())

    return near


def _places(command: Ordered) -> list[tuple[str, str]]:
    places = [(command.tenant, command.subject)]
    if command.writes is not None:
        places.append((command.tenant, f"flag {command.writes.partition('=')[0]}"))
    return places


def _most(others: Iterable[Other]) -> list[Other]:
    return sorted(others, key=lambda o: (-o.subjects, o.rule, o.why))[:MOST_OTHERS]

"""How definitions hang together: commands that come back as events and wake rules or workflows again, and rules that stand in each
other's way.

A command leaves on `commands.<domain>`, and on whatever topic a Kafka connection writes it to; a source that reads one of these makes
events of it; events wake rules, begin runs of workflows, and move the figures that others wait for. A way round is a loop, and
nothing bounds it. (What a run waits for in the middle is no way round: a run has a bound of its own.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from core.rules.columns import required
from core.rules.waiting import waits_for
from core.workflows.graph import templates
from schemas.definitions import (
    ALL_TENANTS,
    Connection,
    Definition,
    OnBand,
    OnSchedule,
    OnStage,
    OnThreshold,
    OnViral,
    Rule,
    Source,
    Workflow,
)

_OPPOSITES: Final = [
    ("enable", "disable"), ("open", "close"), ("pause", "resume"), ("raise", "lower"), ("promote", "retire"), ("deploy", "roll_back"),
    ("start", "stop"), ("grow", "shrink"), ("lock", "unlock"), ("add", "remove"), ("scale_up", "scale_down"),
]  # fmt: skip


Acts = Rule | Workflow


def loops(definitions: Iterable[Definition]) -> Iterator[tuple[Acts, str]]:
    """Each way round once: a rule or workflow on it, and the way in words."""
    known = list(definitions)
    rules: list[Acts] = sorted(
        (d for d in known if isinstance(d, Rule | Workflow)), key=lambda r: (r.kind, r.tenant, r.name)
    )
    sources = [d for d in known if isinstance(d, Source)]
    connections = [d for d in known if isinstance(d, Connection) and d.integration == "kafka"]
    edges: dict[int, dict[int, str]] = defaultdict(dict)
    for i, rule in enumerate(rules):
        for way, source in _returns(rule, connections, sources):
            for j, woken in enumerate(rules):
                if _shared(rule, woken) and _wakes(source, woken):
                    edges[i].setdefault(j, f"{way} → source {source.name} → {source.target}")
    done: set[int] = set()
    for start in range(len(rules)):
        turn = _round(start, edges, done)
        if turn is not None:
            done.update(turn)
            told = [f"{_named(rules[a])} → {edges[a][b]}" for a, b in zip(turn, [*turn[1:], turn[0]], strict=True)]
            yield rules[start], f"{' → '.join(told)} → {_named(rules[turn[0]])}"
        done.add(start)


def conflicts(definitions: Iterable[Definition]) -> Iterator[tuple[Acts, str]]:
    """Rules and workflows that the same thing wakes and that order opposites; rules that order the same."""
    known: list[Acts] = sorted(
        (d for d in definitions if isinstance(d, Rule | Workflow)), key=lambda r: (r.kind, r.tenant, r.name)
    )
    for i, one in enumerate(known):
        for other in known[i + 1 :]:
            if one.trigger.kind != other.trigger.kind or not _shared(one, other) or not _overlap(one, other):
                continue
            against = [(a, b) for a in _first_orders(one) for b in _first_orders(other) if opposites(a, b)]
            if against:
                (what, verb), (_, contrary) = (type_.rsplit(".", 1) for type_ in against[0])
                yield other, f"orders {contrary} of {what} where {_named(one)} orders {verb}: both wake on the same"
            elif isinstance(one, Rule) and isinstance(other, Rule) and _alike(one, other):
                yield other, f"orders {one.command.type} on the same as rule {one.name}: one of them is enough"


def opposites(one: str, other: str) -> bool:
    """Whether two types of commands order opposites of the same thing.

    >>> opposites("product.flag.open", "product.flag.close"), opposites("product.flag.open", "product.door.close")
    (True, False)
    """
    (what, verb), (thing, contrary) = (type_.rsplit(".", 1) for type_ in (one, other))
    return what == thing and any({verb, contrary} == set(pair) for pair in _OPPOSITES)


def _alike(one: Rule, other: Rule) -> bool:
    return one.command.type == other.command.type and one.condition == other.condition


def _first_orders(of: Acts) -> list[str]:
    """Types of the commands that it may give but to take back what it gave."""
    if isinstance(of, Rule):
        return [of.command.type]
    return list(dict.fromkeys(t.type for node in of.nodes for path, t in templates(node) if path != "undo"))


def _named(of: Acts) -> str:
    return f"{of.kind} {of.name}"


def _orders(of: Acts) -> list[str]:
    """Types of the commands that it may give, each once."""
    if isinstance(of, Rule):
        return [of.command.type]
    return list(dict.fromkeys(template.type for node in of.nodes for _, template in templates(node)))


def _shared(a: Acts, b: Acts) -> bool:
    return a.tenant == b.tenant or ALL_TENANTS in (a.tenant, b.tenant)


def _overlap(a: Acts, b: Acts) -> bool:
    if isinstance(a.trigger, OnStage) and isinstance(b.trigger, OnStage):
        return bool({*a.trigger.stages} & {*b.trigger.stages})
    if isinstance(a.trigger, OnBand) and isinstance(b.trigger, OnBand):
        return bool({*a.trigger.bands} & {*b.trigger.bands})
    return a.trigger == b.trigger


def _returns(rule: Acts, connections: list[Connection], sources: list[Source]) -> Iterator[tuple[str, Source]]:
    """The sources that read what becomes of its commands."""
    topics: dict[str, str] = {}
    for type_ in _orders(rule):
        domain = type_.split(".", 1)[0]
        topics.setdefault(f"commands.{domain}", f"commands.{domain}")
        for connection in connections:
            wanted = not connection.domains or domain in connection.domains
            if wanted and (not connection.types or any(_type(t, type_) for t in connection.types)):
                topic = str(connection.config.get("topic", ""))
                topics.setdefault(topic, f"connection {connection.name} → {topic}")
    for source in sources:
        if source.topic in topics and (source.tenant in (rule.tenant, ALL_TENANTS) or rule.tenant == ALL_TENANTS):
            yield topics[source.topic], source


def _type(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _wakes(source: Source, rule: Acts) -> bool:
    """Whether events of the source may wake the rule, or begin a run."""
    trigger = rule.trigger
    match trigger:
        case OnSchedule():
            return False
        case OnStage() | OnViral():
            return source.target == "events.usage"
        case OnBand() | OnThreshold():
            return True
        case _:
            waited = waits_for(trigger, source.target)
            if waited is None:
                return False
            asked = required(waited.where)
            return all(source.constants[f] in values for f, values in asked.items() if f in source.constants)


def _round(start: int, edges: dict[int, dict[int, str]], done: set[int]) -> list[int] | None:
    """The shortest way from a rule back to it, over rules that are on no way told before."""
    if start in done:
        return None
    came: dict[int, int] = {}
    level = [start]
    while level:
        following = []
        for at in level:
            for to in sorted(edges.get(at, {})):
                if to == start:
                    way = [at]
                    while way[-1] != start:
                        way.append(came[way[-1]])
                    return way[::-1]
                if to not in came and to not in done:
                    came[to] = at
                    following.append(to)
        level = following
    return None

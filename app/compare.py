"""Holds what the system published beside what the oracle computed, row by row."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.oracle.commands import Ordered
from app.oracle.figures import WINDOWS
from app.oracle.judged import Judge

SHOWN = 10
CLOSE = 1e-9
ADOPTION = ("users", "events", "target_users", "adoption_rate", "organic_share", "stage", "viral")
GRID = {"1h": 60_000, "1d": 3_600_000, "7d": 86_400_000}


@dataclass(slots=True)
class Difference:
    """The count of things compared, and those that differ."""

    what: str
    compared: int = 0
    differing: int = 0
    shown: list[str] = field(default_factory=list)

    def check(self, where: str, ours: object, oracle: object) -> None:
        """Compare one thing."""
        self.compared += 1
        if not _same(ours, oracle):
            self.differing += 1
            if len(self.shown) < SHOWN:
                self.shown.append(f"{where}: system {ours!r}, oracle {oracle!r}")


def _same(a: object, b: object) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE)
    return a == b


class Carried:
    """Rows by key and time: the newest at or before a time is the one that holds."""

    def __init__(self, rows: Iterable[tuple[tuple[str, ...], int, dict[str, Any]]]) -> None:
        self._times: dict[tuple[str, ...], list[int]] = defaultdict(list)
        self._rows: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        for key, at, row in sorted(rows, key=lambda r: (r[0], r[1])):
            self._times[key].append(at)
            self._rows[key].append(row)

    def at(self, key: tuple[str, ...], at: int) -> dict[str, Any] | None:
        """The row in force."""
        found = bisect_right(self._times.get(key, []), at)
        return self._rows[key][found - 1] if found else None

    @property
    def keys(self) -> set[tuple[str, ...]]:
        """Everything that has a row."""
        return set(self._times)

    @property
    def newest(self) -> int:
        """The latest time of any row."""
        return max((times[-1] for times in self._times.values()), default=0)


def adoption(rows: Iterable[dict[str, Any]], judge: Judge, ends: Mapping[str, Iterable[int]]) -> Difference:
    """The adoption table at these ends of each window."""
    out = Difference("adoption rows")
    carried = Carried(((r["tenant"], r["product"], r["feature"], r["window"]), int(r["window_end"]), r) for r in rows)
    for window, asked in ends.items():
        for end in asked:
            wanted = judge.adoption(window, end)
            for (product, feature), row in wanted.items():
                ours = carried.at((*product, feature, window), end)
                shown = None if ours is None else {name: ours[name] for name in ADOPTION}
                out.check(f"{'/'.join(product)}/{feature} {window} ending {end}", shown, row)
    known = {(p, f) for p, f in judge.figures.appeared}
    for tenant, name, used, _ in carried.keys:
        if ((tenant, name), used) not in known:
            out.check(f"{tenant}/{name}/{used}", "has rows", "was never used")
    if carried.newest > judge.figures.clock:
        out.check("newest row", carried.newest, judge.figures.clock)
    return out


def health(rows: Iterable[dict[str, Any]], judge: Judge) -> Difference:
    """The health table at every end of the health window."""
    out = Difference("health rows")
    carried = Carried(((r["tenant"], r["product"]), int(r["at"]), r) for r in rows)
    for (product, end), wanted in judge.health.items():
        ours = carried.at(product, end)
        shown = None if ours is None else {name: ours[name] for name in ("score", "band", "components")}
        out.check(f"{'/'.join(product)} at {end}", shown, wanted)
    return out


def commands(found: Iterable[dict[str, Any]], wanted: Iterable[Ordered]) -> Difference:
    """The set of command ids, each once, with their types and the numbers they give as reason."""
    out = Difference("commands")
    ours = list(found)
    by_id = {c["id"]: c for c in ours}
    times = Counter(c["id"] for c in ours)
    expected = {o.id: o for o in wanted}
    for ident, order in expected.items():
        command = by_id.get(ident)
        where = f"{order.rule} for {order.found.tenant}/{order.found.product} {order.found.subject} at {order.found.at}"
        if command is None:
            out.check(where, "no command", ident)
            continue
        facts = {**order.found.facts, **order.found.facts.get("components", {})}
        facts["adoption_rate"] = facts.get("rate")
        numbers = {
            **_numbers(command["payload"], facts, "payload"),
            **_numbers(command["why"]["numbers"], facts, "why"),
        }
        told = {"times": times[ident], "type": command["type"], "at": command["issued_at"], **numbers}
        right = {n: facts[n.rpartition(".")[2]] for n in numbers}
        out.check(where, told, {"times": 1, "type": order.type, "at": order.found.at, **right})
    for ident in by_id.keys() - expected.keys():
        command = by_id[ident]
        where = f"{command['rule']} for {command['tenant']}/{command['product']} {command['subject']}"
        out.check(f"{where} at {command['issued_at']}", ident, "no command")
    return out


def _numbers(value: object, facts: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Every number in a nested value whose name the oracle knows, by path."""
    found: dict[str, Any] = {}
    if isinstance(value, Mapping):
        for name, item in value.items():
            if isinstance(item, (int, float)) and not isinstance(item, bool) and name in facts:
                found[f"{path}.{name}"] = item
            found |= _numbers(item, facts, f"{path}.{name}")
    return found


def dead_letters(found: Mapping[str, list[tuple[str, ...]]], outcomes: Mapping[str, int]) -> Difference:
    """Dead letters by reason, each place once."""
    out = Difference("dead letters")
    wanted = {r: n for r, n in outcomes.items() if r not in ("accepted", "duplicate", "control")}
    for reason in sorted(wanted.keys() | found.keys()):
        places = found.get(reason, [])
        told = (len(places), len(set(places)))
        out.check(reason, told, (wanted.get(reason, 0), wanted.get(reason, 0)))
    return out


def grid(judge: Judge, start_ms: int, window: str) -> list[int]:
    """Every end of a window, up to the clock, that the tables keep."""
    step = max(GRID[window], WINDOWS[window][1])
    return list(range(start_ms // step * step + step, judge.figures.clock + 1, step))

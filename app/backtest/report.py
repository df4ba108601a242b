"""What a backtest came to, and what two of them differ in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

MOST_LINES: Final = 40


class Given(msgspec.Struct, frozen=True):
    """Of a command, what is told about it: one that was made here needs no checking."""

    id: str
    tenant: str
    product: str
    type: str
    subject: str
    rule: str
    rule_version: int
    cause: str
    step: str
    issued_at: int
    payload: dict[str, Any]


given = msgspec.json.Decoder(Given).decode
"""A command's record. Raises `msgspec.MsgspecError`."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """One command that would have been sent."""

    id: str
    tenant: str
    rule: str
    version: int
    type: str
    subject: str
    cause: str
    step: str
    at: int
    """Event time, milliseconds."""
    simulated: bool
    """Never sent in earnest: what became of it was made up (delivered)."""
    writes: str | None = None
    """`flag=value`, where it writes a flag."""

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What makes two versions' commands the same."""
        return self.tenant, self.subject, self.cause, self.step


@dataclass(slots=True)
class Result:
    """Of one backtest."""

    commands: list[Ordered] = field(default_factory=list)
    suppressed: dict[tuple[str, str], int] = field(default_factory=dict)
    """(rule, reason) → how many."""
    failed: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    seconds: float = 0.0
    sent: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Commands that were sent in earnest in the range: id → (rule, event time)."""

    @property
    def missing(self) -> list[str]:
        """Sent in earnest, and not here."""
        return sorted(self.sent.keys() - {c.id for c in self.commands})

    @property
    def extra(self) -> list[str]:
        """Here, and not sent in earnest."""
        return sorted({c.id for c in self.commands} - self.sent.keys())

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "rows": self.rows,
            "seconds": round(self.seconds, 1),
            "commands": len(self.commands),
            "sent": len(self.sent),
            "missing": len(self.missing),
            "extra": len(self.extra),
            "days": dict(sorted(Counter(day(c.at) for c in self.commands).items())),
            "rules": dict(sorted(Counter(c.rule for c in self.commands).items())),
            "suppressed": {f"{rule}: {reason}": n for (rule, reason), n in sorted(self.suppressed.items())},
            "failed": dict(sorted(self.failed.items())),
        }

    def lines(self) -> list[str]:
        """For people."""
        by_rule: dict[str, Counter[str]] = {}
        subjects: Counter[str] = Counter()
        for command in self.commands:
            by_rule.setdefault(command.rule, Counter())[day(command.at)] += 1
            subjects[command.subject] += 1
        out = [f"{self.rows:,} rows in {self.seconds:.1f} s: {len(self.commands):,} commands would have been sent"]
        for rule, days in sorted(by_rule.items()):
            out.append(f"  {rule}: {sum(days.values()):,} on {len(days)} days, most {max(days.values()):,} on one")
            out += [f"    {date}  {n:,}" for date, n in sorted(days.items())]
        if subjects:
            most = ", ".join(f"{s} ({n})" for s, n in sorted(subjects.items(), key=lambda s: (-s[1], s[0]))[:5])
            out.append(f"  {len(subjects):,} subjects; most commands: {most}")
        held: dict[str, Counter[str]] = {}
        for (rule, reason), n in self.suppressed.items():
            held.setdefault(rule, Counter())[reason] += n
        for rule, reasons in sorted(held.items()):
            out.append(f"  {rule} suppressed: {', '.join(f'{n:,} {why}' for why, n in reasons.most_common())}")
        out += [f"  failed: {n:,} {reason}" for reason, n in sorted(self.failed.items())]
        return out


@dataclass(slots=True)
class Compared:
    """What the other version would do that this one does not, and the reverse."""

    added: list[Ordered] = field(default_factory=list)
    removed: list[Ordered] = field(default_factory=list)
    moved: list[tuple[Ordered, Ordered]] = field(default_factory=list)
    """Same subject and step of the same rule, another cause or time: (this, other)."""
    same: int = 0

    def lines(self) -> list[str]:
        """For people."""
        out = [
            f"{self.same:,} the same, {len(self.added):,} added, {len(self.removed):,} removed, {len(self.moved):,} moved"
        ]
        marked = [("+", c, "") for c in self.added] + [("-", c, "") for c in self.removed]
        marked += [("~", old, f" → {moment(new.at)}") for old, new in self.moved]
        marked.sort(key=lambda m: (m[1].at, m[1].id))
        out += [f"  {sign} {moment(c.at)}{more}  {c.rule}  {c.subject}" for sign, c, more in marked[:MOST_LINES]]
        if len(marked) > MOST_LINES:
            out.append(f"  … and {len(marked) - MOST_LINES:,} more (`--json` has all)")
        return out

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "same": self.same,
            "added": [plain(c) for c in self.added],
            "removed": [plain(c) for c in self.removed],
            "moved": [{"from": plain(old), "to": plain(new)} for old, new in self.moved],
        }


def compared(this: Iterable[Ordered], other: Iterable[Ordered]) -> Compared:
    """From `this` to `other`, by rule, subject, cause and step. A command that went and one that came for the same rule, subject
    and step are one that moved: paired in order of time.
    """
    old = {(c.rule, *c.place): c for c in this}
    new = {(c.rule, *c.place): c for c in other}
    found = Compared()
    for place in old.keys() & new.keys():
        if old[place].at == new[place].at:
            found.same += 1
        else:
            found.moved.append((old[place], new[place]))
    came = _waiting([new[p] for p in new.keys() - old.keys()])
    for gone in sorted((old[p] for p in old.keys() - new.keys()), key=lambda c: (c.at, c.id)):
        pair = came.get((gone.rule, gone.tenant, gone.subject, gone.step))
        if pair:
            found.moved.append((gone, pair.pop(0)))
        else:
            found.removed.append(gone)
    found.added = sorted((c for rest in came.values() for c in rest), key=lambda c: (c.at, c.id))
    found.moved.sort(key=lambda m: (m[0].at, m[0].id))
    return found


def _waiting(commands: Iterable[Ordered]) -> dict[tuple[str, str, str, str], list[Ordered]]:
    found: dict[tuple[str, str, str, str], list[Ordered]] = {}
    for command in sorted(commands, key=lambda c: (c.at, c.id)):
        found.setdefault((command.rule, command.tenant, command.subject, command.step), []).append(command)
    return found


def plain(command: Ordered) -> Mapping[str, Any]:
    """As JSON."""
    return {name: getattr(command, name) for name in ("id", "tenant", "rule", "subject", "cause", "step", "at")}


def day(at: int) -> str:
    """The UTC day.

    >>> day(0)
    '1970-01-01'
    """
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d")


def moment(at: int) -> str:
    """To the second, UTC."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")

"""Routing: which connections want a command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from schemas.commands import Command, Priority
from schemas.definitions import Connection

RANK: dict[Priority, int] = {"urgent": 0, "normal": 1, "low": 2}
"""Order in which what is due goes out; a lower rank first."""


def wanted_by(command: Command, connections: Iterable[Connection], now: int) -> list[Connection]:
    """The connections in force at `now` whose domains, types and least priority admit the command, in their order."""
    return [c for c in connections if c.effective_from <= now and _wants(c, command)]


def matches(value: str, patterns: Sequence[str]) -> bool:
    """Whether a value equals one of the patterns, or begins as one that ends in `*` says. No patterns match all."""
    return not patterns or any(
        value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern for pattern in patterns
    )


def _wants(connection: Connection, command: Command) -> bool:
    return (
        (not connection.domains or command.domain in connection.domains)
        and matches(command.type, connection.types)
        and RANK[command.priority] <= RANK[connection.min_priority]
    )

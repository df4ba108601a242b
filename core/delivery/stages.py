"""What a command passes before it is routed: each stage lets it by or names the reason why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from core.delivery.directory import Directory
from core.delivery.ledger import Ledger
from core.delivery.routing import matches
from schemas.commands import Command
from schemas.delivery import SuppressionReason

Stage = Callable[[Command, Directory, Ledger, int], SuppressionReason | None]
"""(command, directory, ledger, now) → reason. `now` is the broker time of the command's row."""


def expired(command: Command, directory: Directory, ledger: Ledger, now: int) -> SuppressionReason | None:
    """Too late: nobody acts on it any more."""
    return "expired" if now >= command.expires_at else None


def duplicate(command: Command, directory: Directory, ledger: Ledger, now: int) -> SuppressionReason | None:
    """Taken before."""
    return "duplicate" if ledger_key(command) in ledger else None


def paused(command: Command, directory: Directory, ledger: Ledger, now: int) -> SuppressionReason | None:
    """Its tenant or its rule is paused. (A paused connection holds its deliveries back instead.)"""
    return "paused" if directory.paused(command.tenant, rule=command.rule) else None


def silence(command: Command, directory: Directory, ledger: Ledger, now: int) -> SuppressionReason | None:
    """A person asked for silence about this just now."""
    silent = any(
        s.starts_at <= now < s.ends_at
        and matches(command.type, s.types)
        and matches(command.rule, s.rules)
        and matches(command.subject, s.subjects)
        for s in directory.silences(command.tenant)
    )
    return "silence" if silent else None


STAGES: Final[tuple[Stage, ...]] = (expired, duplicate, paused, silence)
"""In this order; the first reason holds."""


def reason_against(command: Command, directory: Directory, ledger: Ledger, now: int) -> SuppressionReason | None:
    """The first stage's reason not to act, or None."""
    for stage in STAGES:
        reason = stage(command, directory, ledger, now)
        if reason is not None:
            return reason
    return None


def ledger_key(command: Command) -> str:
    """A tenant's command; tenants cannot use up each other's ids."""
    return f"{command.tenant}|{command.id}"

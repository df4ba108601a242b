"""Approval before a definition goes live (S2): what has to wait, as a proposal that nobody acts on, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterable

from core.definitions import Catalogue
from schemas.definitions import ALL_TENANTS, DEFINITION, Definition, Policy, Proposal

NAME = "approvals"
"""Of a tenant's policy."""


class NotPending(ValueError):
    """There is nothing to decide; the message names the next move."""


def waits(catalogue: Catalogue, definition: Definition) -> bool:
    """Whether the tenant's policy (or everybody's, where it has none) wants it approved first."""
    for owner in (definition.tenant, ALL_TENANTS):
        for policy in catalogue.of(Policy):
            if (policy.tenant, policy.name) == (owner, NAME):
                return definition.kind in policy.approval
    return False


def proposal(definition: Definition, by: str, at: int) -> Proposal:
    """The definition, as something that waits."""
    body = definition.model_dump(mode="json", exclude={"version"})
    return Proposal(tenant=definition.tenant, name=proposed(definition.kind, definition.name), body=body, by=by, at=at)


def proposed(kind: str, name: str) -> str:
    """The name of what is proposed of a definition; a newer proposal takes the place of an older one."""
    text = f"{kind}:{name}"
    return text if len(text) <= 128 else text[:128]


def pending(catalogue: Catalogue, tenant: str | None) -> list[Proposal]:
    """What waits, oldest first."""
    found = [p for p in catalogue.of(Proposal) if p.status == "pending" and tenant in (None, p.tenant)]
    return sorted(found, key=lambda p: (p.at, p.tenant, p.name))


def find(catalogue: Catalogue, tenant: str, name: str) -> Proposal:
    """The proposal of that name. Raises `NotPending`."""
    found = next((p for p in catalogue.of(Proposal) if (p.tenant, p.name) == (tenant, name)), None)
    if found is None or found.status != "pending":
        there = ", ".join(p.name for p in pending(catalogue, tenant)) or "nothing"
        raise NotPending(f"{name!r} does not wait for approval; what does: {there}")
    return found


def decided(found: Proposal, approved: bool, by: str, at: int, reason: str = "") -> list[Definition]:
    """What is written: the decision, which stays on record, and, where it is approved, the definition.

    Raises `NotPending` where the one who proposed it would approve it.
    """
    if approved and by == found.by:
        raise NotPending(f"{by} proposed it: somebody else approves it")
    record = found.model_copy(
        update={
            "status": "approved" if approved else "rejected",
            "decided_by": by,
            "decided_at": at,
            "reason": reason,
        }
    )
    written: Iterable[Definition] = [DEFINITION.validate_python({**found.body, "version": 1})] if approved else []
    return [record, *written]

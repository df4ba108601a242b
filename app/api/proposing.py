"""What a role that may not approve publishes: written at once, or put forward where the tenant wants it approved first."""

from __future__ import annotations

from typing import Any, Final

from fastapi.responses import JSONResponse

from app.api.access import Caller
from app.api.gateway import Gateway
from app.definitions import same
from core.approving import proposal, waits
from schemas.definitions import Definition, Proposal

WAITING: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": Proposal, "description": "The tenant wants it approved first: it is proposed, and not in force."}
}
"""For the OpenAPI document."""


async def publish_or_propose(gateway: Gateway, caller: Caller, wanted: Definition) -> Definition | JSONResponse:
    """The definition as it is in force now; or the answer 202 with the proposal that waits."""
    before = _head(gateway, wanted)
    if not caller.may("approvals:write") and waits(gateway.catalogue, wanted) and not (before and same(before, wanted)):
        made = proposal(wanted, caller.name, gateway.clock())
        await gateway.publish([made], caller.name)
        return JSONResponse((_head(gateway, made) or made).model_dump(mode="json"), 202)
    await gateway.publish([wanted], caller.name)
    return _head(gateway, wanted) or wanted


def _head(gateway: Gateway, of: Definition) -> Definition | None:
    place = (of.kind, of.tenant, of.name)
    return next((d for d in gateway.catalogue.written() if (d.kind, d.tenant, d.name) == place), None)

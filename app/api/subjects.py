"""People over HTTP: forgetting one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from app.api.access import Caller
from app.api.gateway import TheGateway, allowed, one_tenant
from app.api.problems import Problem
from app.forget import Asked, BadSubject, forget
from schemas.definitions import ALL_TENANTS

router = APIRouter(tags=["subjects"])


@router.delete("/subjects/{subject:path}", operation_id="forgetSubject", status_code=202)
async def forget_subject(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("subjects:forget"))],
    subject: Annotated[str, Path(description="`user:NAME` or `contact:NAME`.", max_length=512)],
    tenant: str | None = None,
) -> Asked:
    """Erase a person, and drop events about them from now on. What answers is the record of it, which keeps no name.

    State and read model are erased by their owners within seconds.
    """
    scope = one_tenant(caller, tenant)
    if scope == ALL_TENANTS:
        raise Problem(422, "which-tenant", "a person is one tenant's: say whose with ?tenant=…")
    try:
        asked = await gateway.changed(forget(gateway.settings, scope, subject, by=caller.name, now=gateway.clock()))
    except BadSubject as error:
        raise Problem(422, "bad-subject", str(error)) from error
    gateway.members.clear()
    return asked

"""Definitions over HTTP: rules, thresholds, segments, sources, connections, pauses, silences; and API keys."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from pydantic import BaseModel, JsonValue

from app.api.access import Caller, Permission, Role, hashed, new_key
from app.api.checking import checked, text_of
from app.api.gateway import Gateway, TheGateway, allowed, caller_of, demand, one_tenant, some_tenant
from app.api.problems import Problem, documented, not_found
from app.api.proposing import WAITING, publish_or_propose
from schemas.definitions import (
    ALL_TENANTS,
    ApiKey,
    Definition,
    DefinitionName,
    Forgotten,
    Hook,
    Pause,
    Rule,
    Workflow,
    pause_name,
)
from schemas.envelope import Millis

router = APIRouter(tags=["definitions"])
Kind = Literal[
    "product",
    "segment",
    "campaign",
    "source",
    "rule",
    "workflow",
    "threshold",
    "detector",
    "prediction",
    "connection",
    "pause",
    "silence",
    "policy",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Tenant = Annotated[str | None, Query(description="Needed with a key for all tenants; `all` is everybody's.")]
Runs = Annotated[
    Literal["finish", "cancel", "undo"],
    Query(
        description="Of a workflow: its runs go on to their end, end now, or take back what has an undo and end now."
    ),
]
Known = Annotated[Caller, Depends(caller_of)]
Reader = Annotated[Caller, Depends(allowed("definitions:read"))]
_EXTRA: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object", "additionalProperties": True}}},
    }
}


_WRITES: Final[dict[Kind, Permission]] = {
    "product": "product:write",
    "segment": "segment:write",
    "campaign": "segment:write",
    "source": "source:write",
    "rule": "rule:write",
    "workflow": "rule:write",
    "threshold": "threshold:write",
    "detector": "threshold:write",
    "prediction": "threshold:write",
    "connection": "connection:write",
    "pause": "pause:write",
    "silence": "silence:write",
    "policy": "approvals:write",
}


class KeyShown(BaseModel):
    """A key without itself."""

    name: str
    tenant: str
    role: Role
    created_at: Millis
    expires_at: Millis | None = None


class KeyWanted(BaseModel):
    """What a new key shall be."""

    name: DefinitionName
    role: Role
    expires_at: Millis | None = None
    """Refused from this time on, milliseconds; absent: until it is revoked."""


class KeyMade(KeyShown):
    """A new key. This is the only time that it is shown."""

    key: str


@router.get("/definitions", operation_id="listDefinitions")
async def list_definitions(
    gateway: TheGateway, caller: Reader, tenant: Tenant = None, kind: Kind | None = None
) -> list[Definition]:
    """Everything in force: the tenant's own, and what applies to all tenants. API keys and hooks are not among them."""
    scope = some_tenant(caller, tenant)
    found = [
        d
        for d in gateway.catalogue.heads()
        if not isinstance(d, ApiKey | Forgotten | Hook)
        and (kind is None or d.kind == kind)
        and (scope is None or d.tenant in (scope, ALL_TENANTS))
    ]
    return sorted(found, key=lambda d: (d.kind, d.tenant, d.name))


@router.get("/definitions/{kind}/{name}", operation_id="getDefinition")
async def get_definition(
    gateway: TheGateway, caller: Reader, kind: Kind, name: DefinitionName, tenant: Tenant = None
) -> Definition:
    """One definition in force: the tenant's own, else everybody's."""
    scope = one_tenant(caller, tenant)
    found = _find(gateway, kind, scope, name) or _find(gateway, kind, ALL_TENANTS, name)
    if found is None:
        raise not_found(kind, name, f"GET /api/v1/definitions?kind={kind} lists those in force")
    return found


@router.put(
    "/definitions/{kind}/{name}",
    operation_id="putDefinition",
    openapi_extra=_EXTRA,
    response_model=Definition,
    responses=WAITING | documented({409: "The tenant has as many definitions as it may."}),
)
async def put_definition(
    request: Request,
    gateway: TheGateway,
    caller: Known,
    kind: Kind,
    name: DefinitionName,
    body: Annotated[dict[str, JsonValue], Body()],
    tenant: Tenant = None,
) -> Any:
    """Write a definition as a new version; in force when this answers. The same content again changes nothing.

    `kind`, `name`, `tenant` and `version` come from the request and may be left out of the body.
    """
    demand(caller, _WRITES[kind])
    scope = one_tenant(caller, tenant)
    _operators_only(caller, kind)
    wanted = checked(gateway, scope, {**body, "kind": kind, "name": name}, await text_of(request))
    if _find(gateway, kind, scope, name) is None:
        gateway.quotas.definitions(caller, scope, sum(d.tenant == scope for d in gateway.catalogue.heads()))
    return await publish_or_propose(gateway, caller, wanted)


@router.delete(
    "/definitions/{kind}/{name}",
    operation_id="deleteDefinition",
    status_code=204,
    response_model=None,
    responses=WAITING,
)
async def delete_definition(
    gateway: TheGateway, caller: Known, kind: Kind, name: DefinitionName, tenant: Tenant = None, runs: Runs = "finish"
) -> Response | None:
    """Take a definition out of force; its versions stay as history. A workflow begins no runs; those that go on do as `runs` says.

    To take back what they did (`undo`) gives commands: where the tenant wants workflows approved, that is proposed.
    """
    demand(caller, _WRITES[kind])
    scope = one_tenant(caller, tenant)
    _operators_only(caller, kind)
    found = _find(gateway, kind, scope, name)
    if not isinstance(found, Workflow):
        await _retire(gateway, kind, scope, name)
        return None
    wanted = found.model_copy(update={"retired": runs})
    if runs == "undo":
        answer = await publish_or_propose(gateway, caller, wanted)
        return answer if isinstance(answer, Response) else None
    await gateway.publish([wanted], caller.name)
    return None


@router.post("/rules/{name}/pause", operation_id="pauseRule")
async def pause_rule(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("pause:write"))],
    name: DefinitionName,
    tenant: Tenant = None,
) -> Pause:
    """Stop a rule from acting, at once and until it is resumed."""
    scope = one_tenant(caller, tenant)
    rule = _rule(gateway, scope, name)
    pause = Pause(tenant=scope, name=pause_name("rule", rule.id), scope="rule", of=rule.id, by=caller.name)
    await gateway.publish([pause])
    return pause


@router.post("/rules/{name}/resume", operation_id="resumeRule", status_code=204)
async def resume_rule(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("pause:write"))],
    name: DefinitionName,
    tenant: Tenant = None,
) -> None:
    """Let a paused rule act again."""
    scope = one_tenant(caller, tenant)
    await _retire(gateway, "pause", scope, pause_name("rule", _rule(gateway, scope, name).id))


@router.get("/keys", operation_id="listKeys")
async def list_keys(
    gateway: TheGateway, caller: Annotated[Caller, Depends(allowed("keys:write"))], tenant: Tenant = None
) -> list[KeyShown]:
    """API keys, without themselves."""
    scope = some_tenant(caller, tenant)
    found = [k for k in gateway.catalogue.of(ApiKey) if scope is None or k.tenant == scope]
    return [_shown(k) for k in sorted(found, key=lambda k: (k.tenant, k.name))]


@router.post(
    "/keys",
    operation_id="createKey",
    status_code=201,
    responses=documented(
        {409: "There is a key of that name already, or the tenant has as many definitions as it may."}
    ),
)
async def create_key(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("keys:write"))],
    body: KeyWanted,
    tenant: Tenant = None,
) -> KeyMade:
    """Make an API key. It is shown here and never again."""
    scope = one_tenant(caller, tenant)
    if _find(gateway, "api_key", scope, body.name) is not None:
        raise Problem(409, "name-taken", f"there is a key {body.name!r} already: take another name, or revoke that one")
    now = gateway.clock()
    if body.expires_at is not None and body.expires_at <= now:
        raise Problem(
            422, "expired-already", "expires_at lies in the past: leave it out, or name a time to come in milliseconds"
        )
    gateway.quotas.definitions(caller, scope, sum(d.tenant == scope for d in gateway.catalogue.heads()))
    key = new_key()
    made = ApiKey(
        tenant=scope, name=body.name, hash=hashed(key), role=body.role, created_at=now, expires_at=body.expires_at
    )
    await gateway.publish([made])
    return KeyMade(**_shown(made).model_dump(), key=key)


@router.delete("/keys/{name}", operation_id="revokeKey", status_code=204)
async def revoke_key(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("keys:write"))],
    name: DefinitionName,
    tenant: Tenant = None,
) -> None:
    """Revoke an API key; it is refused from now on."""
    await _retire(gateway, "api_key", one_tenant(caller, tenant), name)


def _operators_only(caller: Caller, kind: Kind) -> None:
    """A source reads any topic and may speak for any tenant, so no tenant may define one."""
    if kind == "source" and caller.tenant != ALL_TENANTS:
        raise Problem(403, "operators-only", "sources read topics of the whole cluster: use a key for all tenants")


def _shown(key: ApiKey) -> KeyShown:
    return KeyShown(
        name=key.name, tenant=key.tenant, role=key.role, created_at=key.created_at, expires_at=key.expires_at
    )


def _find(gateway: Gateway, kind: str, tenant: str, name: str) -> Definition | None:
    return next((d for d in gateway.catalogue.heads() if (d.kind, d.tenant, d.name) == (kind, tenant, name)), None)


async def _retire(gateway: Gateway, kind: str, tenant: str, name: str) -> None:
    found = _find(gateway, kind, tenant, name)
    if found is None:
        raise not_found(kind.replace("_", " "), name, f"nothing of that name is in force for tenant {tenant!r}")
    await gateway.retire(found)


def _rule(gateway: Gateway, tenant: str, name: str) -> Rule:
    for rule in gateway.catalogue.of(Rule, tenant):
        if name in (rule.name, rule.id):
            return rule
    raise not_found("rule", name, "GET /api/v1/definitions?kind=rule lists those in force")

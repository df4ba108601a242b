"""Hooks: addresses that others post to. Whoever knows one speaks through it, of one product of one tenant, and reads nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, cast
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field, JsonValue, ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from app.api.access import Caller, hashed, new_key
from app.api.gateway import Gateway, TheGateway, allowed, one_tenant, some_tenant
from app.api.problems import Problem, documented, errors_of, not_found
from app.api.taking import Accepted, Stream, listed, take
from app.clients.secrets import Secrets
from core.sources import called
from integrations.hands import SecretUnavailable
from schemas.definitions import DefinitionName, Hook
from schemas.events import EventsTopic

MAX_CALLS: Final = 1_000
"""Of one request: a body that is a list is as many calls."""
FORM: Final = "application/x-www-form-urlencoded"
router = APIRouter(tags=["hooks"])
calls = APIRouter(tags=["hooks"])
Tenant = Annotated[str | None, Query(description="Needed with a key for all tenants.")]
Writer = Annotated[Caller, Depends(allowed("hook:write"))]


class HookWanted(BaseModel):
    """What a new hook shall be: see the definition `hook`."""

    name: DefinitionName
    product: str
    target: EventsTopic
    fields: dict[str, str]
    constants: dict[str, str] = Field(default_factory=dict)
    time_unit: Literal["rfc3339", "ms", "s"] = "rfc3339"
    secret: dict[str, JsonValue] | None = None
    description: str = ""


class HookShown(HookWanted):
    """A hook without its address."""

    tenant: str


class HookMade(HookShown):
    """A new hook. This is the only time that its address is shown."""

    path: str
    """What to post to, below the gateway's address: `/hooks/…`."""


@router.get("/hooks", operation_id="listHooks")
async def list_hooks(gateway: TheGateway, caller: Writer, tenant: Tenant = None) -> list[HookShown]:
    """Hooks in force, without their addresses."""
    scope = some_tenant(caller, tenant)
    found = [h for h in gateway.catalogue.of(Hook) if scope is None or h.tenant == scope]
    return [_shown(h) for h in sorted(found, key=lambda h: (h.tenant, h.name))]


@router.post(
    "/hooks",
    operation_id="createHook",
    status_code=201,
    responses=documented(
        {409: "There is a hook of that name already, or the tenant has as many definitions as it may."}
    ),
)
async def create_hook(gateway: TheGateway, caller: Writer, body: HookWanted, tenant: Tenant = None) -> HookMade:
    """Make an address whose calls become events. It is shown here and never again."""
    scope = one_tenant(caller, tenant)
    if _named(gateway, scope, body.name) is not None:
        raise Problem(
            409, "name-taken", f"there is a hook {body.name!r} already: take another name, or delete that one"
        )
    gateway.quotas.definitions(caller, scope, sum(d.tenant == scope for d in gateway.catalogue.heads()))
    made, path = new_hook(scope, body.model_dump())
    if made.secret is not None and (wrong := _secrets(gateway).foreign(scope, made.secret)):
        raise Problem(422, "invalid-definition", f"secret: {wrong[0]}", errors=[{"at": "secret", "why": wrong[0]}])
    await gateway.publish([made], caller.name)
    return HookMade(**_shown(made).model_dump(), path=path)


@router.delete("/hooks/{name}", operation_id="deleteHook", status_code=204)
async def delete_hook(gateway: TheGateway, caller: Writer, name: DefinitionName, tenant: Tenant = None) -> None:
    """Take a hook out of force: its address is refused from now on."""
    scope = one_tenant(caller, tenant)
    found = _named(gateway, scope, name)
    if found is None:
        raise not_found("hook", name, f"nothing of that name is in force for tenant {scope!r}")
    await gateway.retire(found)


@calls.post(
    "/hooks/{address}",
    operation_id="callHook",
    status_code=202,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}
                },
                FORM: {"schema": {"type": "object"}},
            },
        }
    },
    responses={
        202: {"description": "Everything is acknowledged by Kafka.", "model": Accepted},
        207: {"description": "Some of it is acknowledged by Kafka; the others are listed.", "model": Accepted},
        **documented(
            {
                401: "The call is not signed as the hook asks.",
                404: "No hook has this address.",
                415: "Neither JSON nor a form.",
                422: "Nothing of it is an event; each reason is listed.",
                429: "Too many calls; `Retry-After` says when to go on.",
                503: "Kafka does not answer; call again.",
            }
        ),
    },
)
async def call_hook(request: Request, response: Response, gateway: TheGateway, address: str) -> Accepted:
    """What others call: the body becomes an event, as the hook's definition says. The address is the key.

    JSON (an object, or a list of them) or a form. A call made again, with the same id or the same body, is one event.
    """
    hook = _at(gateway, address)
    caller = Caller(f"hook:{hook.name}", hook.tenant, "development")
    gateway.quotas.requests(caller)
    body = await request.body()
    _signed(gateway, hook, body, request.headers)
    rows = _rows(body, request.headers.get("content-type", ""))
    ident = request.headers.get("webhook-id") or hashlib.sha256(body).hexdigest()[:32]
    now = gateway.clock()
    events = [
        called(hook, row, f"{hook.name}-{ident}" + (f"-{index}" if index else ""), now)
        for index, row in enumerate(rows)
    ]
    stream = cast(Stream, hook.target.removeprefix("events."))
    accepted = await take(gateway, caller, hook.tenant, hook.product, events, stream=stream)
    response.status_code = 207 if accepted.rejected else 202
    return accepted


def new_hook(tenant: str, wanted: Mapping[str, Any]) -> tuple[Hook, str]:
    """A hook, and the path of its address. Raises `Problem` 422 with what is wrong."""
    address = new_key()
    try:
        hook = Hook.model_validate({**wanted, "tenant": tenant, "hash": hashed(address)})
    except ValidationError as error:
        listed = errors_of(error)
        first = listed[0]
        raise Problem(422, "invalid-definition", f"{first['at'] or 'hook'}: {first['why']}", errors=listed) from error
    return hook, f"/hooks/{address}"


def _at(gateway: Gateway, address: str) -> Hook:
    wanted = hashed(address)
    for hook in gateway.catalogue.of(Hook):
        if hook.hash == wanted:
            return hook
    raise Problem(404, "no-such-hook", "no hook has this address: `uptake hooks create` makes one and prints it")


def _signed(gateway: Gateway, hook: Hook, body: bytes, headers: Mapping[str, str]) -> None:
    if hook.secret is None:
        return
    try:
        judge = Webhook(_secrets(gateway).reveal(hook.tenant, hook.secret))
    except (SecretUnavailable, ValueError, RuntimeError) as error:
        detail = f"the secret of hook {hook.name} cannot be read where the gateway runs: {error}"
        raise Problem(503, "secret-unavailable", detail, headers={"retry-after": "60"}) from error
    try:
        judge.verify(body, dict(headers))
    except WebhookVerificationError as error:
        detail = f"{error}: sign the call as Standard Webhooks says (webhook-id, webhook-timestamp, webhook-signature)"
        raise Problem(401, "not-signed", detail) from error


def _rows(body: bytes, content_type: str) -> list[JsonValue]:
    kind = content_type.split(";")[0].strip().lower()
    if kind == FORM:
        try:
            return [dict(parse_qsl(body.decode(), max_num_fields=1_000, errors="strict"))]
        except ValueError as error:
            raise Problem(400, "not-a-form", f"the body is no form ({error}): send key=value pairs") from error
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "unsupported-media-type", f"content-type {kind or 'none'} is not read: send JSON, or a form")
    return listed(body, "object", MAX_CALLS)


def _secrets(gateway: Gateway) -> Secrets:
    settings = gateway.settings
    return Secrets(os.environ, settings.secret_env_prefix, settings.secret_dir)


def _shown(hook: Hook) -> HookShown:
    return HookShown.model_validate(hook.model_dump(include=set(HookShown.model_fields)))


def _named(gateway: Gateway, tenant: str, name: str) -> Hook | None:
    return next((h for h in gateway.catalogue.of(Hook) if (h.tenant, h.name) == (tenant, name)), None)

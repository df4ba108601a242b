"""Automations of a tenant over HTTP (K4): rules and workflows made, listed, enabled, paused, tried on made-up events, started."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Body, Depends, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from app.api.access import Caller
from app.api.checking import checked, text_of
from app.api.gateway import Gateway, TheGateway, allowed, one_tenant, some_tenant
from app.api.problems import Problem, documented, errors_of, not_found
from app.api.proposing import WAITING
from app.api.records import Reader, Tenant
from app.api.spool import Outgoing
from app.api.workflows import One, Status, StatusShown, StatusWanted, created, set_status
from app.store import queries
from app.store import runs as kept
from core.rules.trying import try_rule
from core.workflows.step import run_id
from core.workflows.testing import Failed, Journey, watch
from schemas.commands import command_id
from schemas.definitions import ALL_TENANTS, OnThreshold, Rule, Threshold, Workflow
from schemas.envelope import key
from schemas.limits import MAX_NAME_CHARS
from schemas.registers import Signal

router = APIRouter(tags=["automations"])
Automation = Rule | Workflow
_MOST_FACTS: Final = 64 * 1024
"""Bytes of facts that one trigger may give."""
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [{"$ref": "#/components/schemas/Rule"}, {"$ref": "#/components/schemas/Workflow"}],
                    "discriminator": {"propertyName": "kind"},
                }
            }
        },
    }
}


class Listed(BaseModel):
    """An automation in force."""

    id: str
    name: str
    kind: Literal["rule", "workflow"]
    tenant: str
    version: int
    status: Status
    description: str
    trigger: str
    """Kind of the trigger."""


class Trial(BaseModel):
    """A definition, and what it shall be tried on."""

    model_config = ConfigDict(extra="forbid")

    definition: dict[str, JsonValue]
    """A rule or a workflow; it need not be published."""
    given: dict[str, JsonValue] | None = None
    """Of a rule: facts of its trigger, as in an example beside it."""
    steps: Annotated[list[dict[str, JsonValue]], Field(max_length=1_000)] | None = None
    """Of a workflow: events, waits and answers, as in a test beside it."""


class Planned(BaseModel):
    """A command that would be given."""

    id: str
    type: str
    step: str
    at: int | None
    title: str
    text: str
    payload: dict[str, JsonValue]


class Tried(BaseModel):
    """What came of a trial. Nothing is published or sent."""

    failure: str | None
    """What the steps expected otherwise; null: nothing."""
    commands: list[Planned]
    log: list[str]
    """Of a workflow: what its runs did."""


class TriggerWanted(BaseModel):
    """About whom an automation shall be started, and with which facts."""

    model_config = ConfigDict(extra="forbid")

    product: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
    subject: Annotated[str, Field(min_length=3, max_length=512, pattern=r"^[a-z_]+:.+$")]
    """`kind:name`, as `user:ann`."""
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    """What its condition and templates find, as if the trigger had them."""


class Started(BaseModel):
    """What was started. The same key again starts nothing new."""

    id: str
    idempotency_key: str
    run: str | None
    """Of a workflow: the run's id, unless its re-entry policy refuses it."""
    command: str | None
    """Of a rule: the command's id, unless it is held back."""
    repeated: bool
    """True where the same key had started it before, as far as the read model knows."""


@router.get("/automations", operation_id="listAutomations")
async def list_automations(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("definitions:read"))],
    tenant: Tenant = None,
    kind: Literal["rule", "workflow"] | None = None,
    status: Status | None = None,
    after: Annotated[str | None, Query(description="Only those behind this `kind/tenant/name`.")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> list[Listed]:
    """Rules and workflows in force: the tenant's own, and everybody's; in order of kind, tenant and name."""
    scope = some_tenant(caller, tenant)
    found: list[Automation] = [*gateway.catalogue.of(Rule, scope), *gateway.catalogue.of(Workflow, scope)]
    listed = [_listed(gateway, scope, one) for one in found if kind in (None, one.kind)]
    kept_ = [one for one in listed if status in (None, one.status) and (after is None or _place(one) > after)]
    return sorted(kept_, key=_place)[:limit]


@router.post(
    "/automations",
    operation_id="createAutomation",
    status_code=201,
    openapi_extra=_BODY,
    response_model=Automation,
    responses=WAITING
    | documented({409: "There is one of that name, or the tenant has as many definitions as it may."}),
)
async def create(
    request: Request,
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("rule:write"))],
    body: Annotated[dict[str, JsonValue], Body()],
    tenant: One = None,
) -> Any:
    """Define a rule or a workflow (`kind` says which). What is wrong with it is answered with line, path and reason."""
    scope = one_tenant(caller, tenant)
    return await created(gateway, caller, scope, _automation(gateway, scope, body, await text_of(request)))


@router.put("/automations/{id}/status", operation_id="putAutomationStatus")
async def put_status(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("pause:write"))],
    id: str,
    body: StatusWanted,
    tenant: One = None,
) -> StatusShown:
    """Enable it, or pause it."""
    scope = one_tenant(caller, tenant)
    return await set_status(gateway, caller, scope, _of(gateway, scope, id), body.status)


@router.post("/automations/preview", operation_id="previewAutomation")
async def preview(
    request: Request,
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("rule:write"))],
    body: Trial,
    tenant: One = None,
) -> Tried:
    """Try a definition on made-up facts or events, on a virtual clock, as `uptake test` does."""
    scope = one_tenant(caller, tenant)
    wanted = _automation(gateway, scope, body.definition, await text_of(request), ("definition",))
    if isinstance(wanted, Rule):
        return _try_rule(gateway, scope, wanted, body.given or {})
    if body.steps is None:
        raise Problem(422, "which-steps", "a workflow is tried on `steps`: events, waits, answers")
    try:
        journey = Journey.model_validate({"name": "preview", "steps": [*body.steps]})
    except ValidationError as error:
        listed = errors_of(error)
        raise Problem(422, "bad-steps", f"{listed[0]['at']}: {listed[0]['why']}", errors=listed) from error
    others = [w for w in gateway.catalogue.of(Workflow, scope) if w.name != wanted.name]
    return _try_workflow(wanted, others, journey)


@router.post("/automations/{id}/trigger", operation_id="triggerAutomation", status_code=202)
async def trigger(
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("triggers:write"))],
    id: str,
    body: TriggerWanted,
    idempotency_key: Annotated[
        str, Header(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$", description="Repeat it, repeat nothing.")
    ],
    tenant: One = None,
) -> Started:
    """Start a rule or a workflow for one subject, by its id. Its cool-downs, ceilings, pauses and re-entry policy hold."""
    scope = one_tenant(caller, tenant)
    if scope == ALL_TENANTS:
        raise Problem(422, "which-tenant", "a subject is one tenant's: say whose with ?tenant=…")
    return await start(gateway, scope, _of(gateway, scope, id), body, idempotency_key)


@router.get("/automations/{id}/runs", operation_id="listAutomationRuns")
async def list_runs(
    gateway: TheGateway, caller: Reader, id: str, tenant: One = None, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> list[kept.RunRow]:
    """Runs of a workflow, the newest first. A rule has none; its commands are at `GET /commands?rule=ID`."""
    scope = one_tenant(caller, tenant)
    found = _of(gateway, scope, id)
    return await kept.list_runs(gateway.store, tenant=scope, workflow=found.name, limit=limit)


async def start(gateway: Gateway, tenant: str, one: Automation, wanted: TriggerWanted, cause: str) -> Started:
    """Tell whoever holds the subject to start it."""
    if len(msgspec.json.encode(wanted.facts)) > _MOST_FACTS:
        raise Problem(413, "too-large", f"facts have at most {_MOST_FACTS} bytes: give a reference instead")
    workflow = isinstance(one, Workflow)
    run = run_id(tenant, one.id, wanted.subject, cause) if workflow else None
    command = None if workflow else command_id(tenant, one.id, wanted.subject, cause)
    repeated = bool(
        await queries.commands_known(gateway.store, [command])
        if command is not None
        else await kept.get_run(gateway.store, run or "", tenant)
    )
    signal = Signal(
        tenant=tenant,
        product=wanted.product,
        subject=wanted.subject,
        kind="trigger",
        cause=cause,
        rules=[] if workflow else [one.name],
        at=gateway.clock(),
        data={**wanted.facts},
        workflows=[one.name] if workflow else [],
    )
    if not repeated:
        place = key(tenant, wanted.subject)
        await gateway.write([Outgoing(topic="signals", key=place, value=msgspec.json.encode(signal))])
    return Started(id=one.id, idempotency_key=cause, run=run, command=command, repeated=repeated)


def _automation(
    gateway: Gateway, scope: str, body: dict[str, JsonValue], text: str, inside: tuple[str, ...] = ()
) -> Automation:
    if body.get("kind") not in ("rule", "workflow"):
        raise Problem(422, "invalid-definition", "kind: an automation is a rule or a workflow")
    wanted = checked(gateway, scope, body, text, inside)
    assert isinstance(wanted, Rule | Workflow)
    return wanted


def _of(gateway: Gateway, tenant: str, id_: str) -> Automation:
    known: list[Automation] = [*gateway.catalogue.of(Rule, tenant), *gateway.catalogue.of(Workflow, tenant)]
    found = [one for one in known if id_ in (one.id, one.name)]
    if not found:
        raise not_found("automation", id_, "GET /api/v1/automations lists those in force")
    return max(found, key=lambda one: (one.tenant == tenant, one.id == id_))


def _listed(gateway: Gateway, scope: str | None, one: Automation) -> Listed:
    paused = any(gateway.catalogue.paused(scope or one.tenant, rule=name) for name in {one.id, one.name})
    known = {name: getattr(one, name) for name in ("id", "name", "kind", "tenant", "version", "description")}
    return Listed(**known, status="paused" if paused else "active", trigger=one.trigger.kind)


def _place(one: Listed) -> str:
    return f"{one.kind}/{one.tenant}/{one.name}"


def _try_rule(gateway: Gateway, scope: str, rule: Rule, given: dict[str, JsonValue]) -> Tried:
    trigger = rule.trigger
    threshold = None
    if isinstance(trigger, OnThreshold):
        threshold = next((t for t in gateway.catalogue.of(Threshold, scope) if t.name == trigger.threshold), None)
    try:
        command = try_rule(rule, given, threshold=threshold)
    except (ValidationError, ValueError) as error:
        return Tried(failure=str(error).splitlines()[0], commands=[], log=[])
    if command is None:
        return Tried(failure=None, commands=[], log=[])
    fields = {name: getattr(command, name) for name in ("id", "type", "step", "title", "text", "payload")}
    return Tried(failure=None, commands=[Planned(**fields, at=command.issued_at)], log=[])


def _try_workflow(workflow: Workflow, others: list[Workflow], journey: Journey) -> Tried:
    try:
        records, commands = watch(workflow, others, journey)
    except (Failed, ValidationError, ValueError) as error:
        return Tried(failure=str(error), commands=[], log=[])
    names = ("id", "type", "step", "title", "text", "payload")
    made = [Planned(**{name: getattr(c, name) for name in names}, at=c.issued_at) for c in commands]
    log = [f"{n.at} {n.step or '(run)'} {n.what}" for record in records for n in record.notes]
    return Tried(failure=None, commands=made, log=log)

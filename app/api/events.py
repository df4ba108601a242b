"""POST events: a list of them, or one, as JSON or CloudEvents."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import JsonValue

from app.api.access import Caller
from app.api.gateway import TheGateway, allowed, one_tenant
from app.api.problems import Problem, documented
from app.api.taking import Accepted, Stream, listed, take
from schemas import cloudevents

MAX_EVENTS: Final = 10_000

router = APIRouter(tags=["events"])
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"type": "object"},
                        {"type": "array", "items": {"type": "object"}, "maxItems": MAX_EVENTS},
                    ]
                }
            },
            cloudevents.STRUCTURED: {"schema": {"type": "object"}},
            cloudevents.BATCHED: {"schema": {"type": "array", "items": {"type": "object"}, "maxItems": MAX_EVENTS}},
        },
    }
}


@router.post(
    "/products/{product_id:path}/events",
    status_code=202,
    operation_id="sendEvents",
    openapi_extra=_BODY,
    responses={
        202: {"description": "Every row is acknowledged by Kafka.", "model": Accepted},
        207: {"description": "Some rows are acknowledged by Kafka; the others are listed.", "model": Accepted},
        **documented({415: "Neither JSON nor CloudEvents."}),
    },
)
async def send_events(
    request: Request,
    response: Response,
    gateway: TheGateway,
    caller: Annotated[Caller, Depends(allowed("events:write"))],
    product_id: str,
    tenant: str | None = None,
    stream: Annotated[Stream | None, Query(description="Where they belong; absent: by each event's type.")] = None,
) -> Accepted:
    """Send one event or a list of up to 10,000: JSON, or CloudEvents 1.0 (structured, or a batch of them).

    `tenant` and `product` of an event may be left out (the key and the path say them); if there they have to agree.
    Sending a request again, with the same ids, changes nothing.
    """
    scope = one_tenant(caller, tenant)
    rows, as_cloudevents = _parsed(await request.body(), request.headers.get("content-type", ""))
    accepted = await take(
        gateway,
        caller,
        scope,
        product_id,
        rows,
        as_cloudevents=as_cloudevents,
        stream=stream,
        trace=request.headers.get("traceparent", ""),
    )
    response.status_code = 207 if accepted.rejected else 202
    return accepted


def _parsed(body: bytes, content_type: str) -> tuple[list[JsonValue], bool]:
    """The rows of a request, and whether they are CloudEvents."""
    kind = content_type.split(";")[0].strip().lower()
    if kind not in ("application/json", cloudevents.STRUCTURED, cloudevents.BATCHED):
        raise Problem(
            415,
            "unsupported-media-type",
            f"content-type {kind or 'none'} is not read: send application/json, {cloudevents.STRUCTURED} or "
            f"{cloudevents.BATCHED}",
        )
    return listed(body, "event", MAX_EVENTS), kind != "application/json"

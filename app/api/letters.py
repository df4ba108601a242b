"""Dead letters over HTTP: lists, one whole, counts, sending them again, and who did. Scoped to the key's tenant: a letter
whose tenant cannot be known is for keys of all tenants.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from aiokafka.errors import KafkaError
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import Caller
from app.api.gateway import Gateway, TheGateway, allowed, some_tenant
from app.api.problems import Problem, documented, not_found
from app.api.records import Before, Limit, Page, Tenant, cursor_of, page_of
from app.kafka import MissingTopic, NoKafka
from app.letters import MOST_REPLAYS, Order, Overtaken, newest_redrives, redrive
from app.store import queries
from app.store.queries import KeptLetter, LetterCount
from core.forgetting import Forgetting
from core.ingest import sources_of
from core.letters import Filter
from schemas.delivery import Redrive
from schemas.envelope import Millis

router = APIRouter(tags=["dead letters"])
MOST_AT_ONCE: Final = 1_000
PATIENCE_S: Final = 60.0
"""How long one call sends; what it did not reach, the next call does."""
Reader = Annotated[Caller, Depends(allowed("dead_letters:read"))]
Redriver = Annotated[Caller, Depends(allowed("dead_letters:redrive"))]
Since = Annotated[Millis | None, Query(description="Only rows of this broker time on, milliseconds.")]
Until = Annotated[Millis | None, Query(description="Only rows before this broker time, milliseconds.")]


class RedriveRequest(BaseModel):
    """Which letters to send again; what is left out does not matter. All of them: give nothing."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = None
    step: str | None = None
    topic: str | None = None
    """Where the rows came from."""
    since: Millis | None = None
    until: Millis | None = None
    dry_run: bool = True
    """Count, and send nothing."""
    rate: Annotated[float, Field(ge=1, le=1_000)] = 100.0
    """Letters a second."""
    most_replays: Annotated[int, Field(ge=1, le=100)] = MOST_REPLAYS
    """Of one record, over its life."""
    limit: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = MOST_AT_ONCE


class RedriveAnswer(BaseModel):
    """What became of the letters that match."""

    run: str
    dry_run: bool
    matched: int
    redriven: int
    """Sent again (dry run: would be)."""
    refused: dict[str, int]
    """By reason: `redriven_before`, `most_replays`, `no_row`, `cut_off`, `compacted`, `unknown_topic`, `unknown_partition`."""
    left: int
    """Beyond the limit: call again."""


@router.get("/dead-letters", operation_id="listDeadLetters")
async def dead_letters(
    gateway: TheGateway,
    caller: Reader,
    tenant: Tenant = None,
    reason: str | None = None,
    step: str | None = None,
    topic: str | None = None,
    since: Since = None,
    until: Until = None,
    before: Before = None,
    limit: Limit = 100,
) -> Page[KeptLetter]:
    """Rows set aside, with their reasons."""
    wanted = Filter(reason, step, some_tenant(caller, tenant), topic, since, until)
    found = await queries.list_dead_letters(gateway.store, wanted, before=cursor_of(before), limit=limit + 1)
    page = page_of(found, [(d.at, d.id) for d in found], limit)
    page.items = [d for d in page.items if not _forgotten(gateway, d)]
    return page


@router.get("/dead-letters/stats", operation_id="countDeadLetters")
async def count(
    gateway: TheGateway,
    caller: Reader,
    tenant: Tenant = None,
    reason: str | None = None,
    step: str | None = None,
    topic: str | None = None,
    since: Since = None,
    until: Until = None,
) -> list[LetterCount]:
    """How many rows were set aside, by step, reason and topic, most first."""
    wanted = Filter(reason, step, some_tenant(caller, tenant), topic, since, until)
    return await queries.count_dead_letters(gateway.store, wanted)


@router.get("/dead-letters/redrives", operation_id="listRedrives")
async def list_redrives(
    gateway: TheGateway, caller: Reader, tenant: Tenant = None, limit: Limit = 100
) -> list[Redrive]:
    """Who sent which letters again, newest first."""
    scope = some_tenant(caller, tenant)
    try:
        found = await newest_redrives(gateway.settings, scope, limit)
    except (KafkaError, NoKafka, MissingTopic) as error:
        raise _unavailable(error) from error
    return found[::-1]


@router.post(
    "/dead-letters/redrive",
    operation_id="redriveDeadLetters",
    responses=documented({409: "Another redrive is running, or began meanwhile."}),
)
async def redrive_letters(
    gateway: TheGateway, caller: Redriver, body: RedriveRequest, tenant: Tenant = None
) -> RedriveAnswer:
    """Send letters again: original key, bytes and headers, to the topic and partition they came from.

    Bounded by what is there now, throttled, each letter once, each record at most `most_replays` times. Repeating the call
    is safe. It counts only, unless `dry_run` is false.
    """
    wanted = Filter(body.reason, body.step, some_tenant(caller, tenant), body.topic, body.since, body.until)
    by = f"{caller.tenant}/{caller.name} ({caller.role})"
    sources = frozenset(sources_of(gateway.catalogue))
    most = min(body.limit, int(body.rate * PATIENCE_S / 2))
    order = Order(wanted, by, body.rate, body.most_replays, most, body.dry_run, sources)
    if gateway.redriving.locked():
        raise _conflict("a redrive is running in this process: wait for its end, then call again")
    async with gateway.redriving:
        try:
            async with asyncio.timeout(PATIENCE_S):
                made = await redrive(gateway.settings, order, gateway.clock)
        except Overtaken as error:
            raise _conflict(str(error)) from error
        except TimeoutError as error:
            raise Problem(
                503, "redrive-unfinished", "it took too long and was ended: call again, it goes on"
            ) from error
        except (KafkaError, NoKafka, MissingTopic) as error:
            raise _unavailable(error) from error
    return RedriveAnswer.model_validate(made.plain(order))


@router.get("/dead-letters/{id}", operation_id="getDeadLetter")
async def dead_letter(gateway: TheGateway, caller: Reader, id: str, tenant: Tenant = None) -> KeptLetter:
    """One row that was set aside, by the `id` of the list."""
    found = await queries.dead_letter(gateway.store, id, tenant=some_tenant(caller, tenant))
    if found is None or _forgotten(gateway, found):
        raise not_found("dead letter", id, "GET /api/v1/dead-letters lists them")
    return found


def _forgotten(gateway: Gateway, letter: KeptLetter) -> bool:
    """Whether it is about a subject to be forgotten: the read model loses those a moment later than this process hears of it."""
    key, value = (None if text is None else text.encode() for text in (letter.key, letter.value))
    return Forgetting(gateway.catalogue).concerns(key, value)


def _conflict(detail: str) -> Problem:
    return Problem(409, "redrive-conflict", detail, headers={"retry-after": "5"})


def _unavailable(error: Exception) -> Problem:
    return Problem(
        503,
        "kafka-unavailable",
        f"Kafka does not answer ({type(error).__name__}): call again, what was sent is not sent twice",
        headers={"retry-after": "2"},
    )

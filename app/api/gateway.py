"""What the endpoints share: an open gateway, the caller of a request, and the tenant it speaks of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.access import Caller, Keys, Permission
from app.api.members import Members
from app.api.problems import Problem
from app.api.progress import Watch
from app.api.quotas import Quotas
from app.api.spool import Outgoing, Spool, SpoolFull
from app.clients.reach import Reach
from app.definitions import publish, retire
from app.kafka import MissingTopic, NoKafka, settle
from app.settings import Settings
from app.store import Store
from app.telemetry import Telemetry
from core.definitions import Catalogue
from schemas.definitions import ALL_TENANTS, Definition, head_key

T = TypeVar("T")
CATCH_UP_S = 10.0
"""How long a written definition may take to come back to this process."""


def wall_clock() -> int:
    """Now, milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Gateway:
    """An open gateway; lives on `app.state`."""

    settings: Settings
    store: Store
    catalogue: Catalogue
    producer: AIOKafkaProducer
    telemetry: Telemetry
    keys: Keys
    quotas: Quotas
    members: Members
    watch: Watch
    reach: Reach
    clock: Callable[[], int] = wall_clock
    following: Callable[[], BaseException | None] = lambda: None
    """Why following the definitions ended, if it did."""
    spool: Spool | None = None
    """Where events wait while Kafka is away; None: they are refused."""
    redriving: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while dead letters are sent again: one redrive at a time."""
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while state is recovered to say why: one question at a time."""
    _publishing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def write(self, records: Iterable[Outgoing]) -> None:
        """Write records and wait until Kafka has acknowledged every one (idempotent, all in-sync replicas).

        Raises `Problem` 503 where it has not: some may be there, and sending them again is harmless (same ids).
        """
        try:
            async with asyncio.timeout(self.settings.api_kafka_timeout_s):
                await self._send(records)
        except (KafkaError, TimeoutError) as error:
            raise Problem(
                503,
                "not-acknowledged",
                f"Kafka has not acknowledged everything ({type(error).__name__}): send the same request again, with "
                "the same ids; rows that did arrive count once",
                headers={"retry-after": "2"},
            ) from error

    async def take_in(self, events: Sequence[Outgoing]) -> bool:
        """Write events; where Kafka is away, or others wait for it in the spool, keep them there. Whether they were kept.

        Raises `Problem` 503 where neither can be done.
        """
        if self.spool is None:
            await self.write(events)
            return False
        if not self.spool.events:
            try:
                await self.write(events)
                return False
            except Problem as problem:
                if problem.name != "not-acknowledged":
                    raise
        try:
            await self.spool.put(events)
        except SpoolFull as full:
            self.telemetry.count("uptake_spooled_total", len(events), ("refused",))
            raise Problem(
                503, "spool-full", f"{full}: send the same request again later", headers={"retry-after": "10"}
            ) from full
        return True

    async def _send(self, records: Iterable[Outgoing]) -> None:
        waiting = [
            await self.producer.send(self.settings.topic(r.topic), r.value, key=r.key, headers=list(r.headers))
            for r in records
        ]
        await asyncio.gather(*waiting)

    async def publish(self, definitions: Sequence[Definition], by: str = "") -> list[Definition]:
        """Write new versions where something differs; back when this process has read them. Returns what was written."""
        async with self._publishing:
            changed = await self._kafka(publish(self.settings, definitions, by))
            wanted = {head_key(d): d.version for d in changed}
            await self._caught_up(lambda: all(self._version(k) >= v for k, v in wanted.items()))
            return changed

    async def retire(self, definition: Definition) -> None:
        """Take a definition out of force; back when this process has read that."""
        async with self._publishing:
            await self._kafka(retire(self.settings, [definition]))
            await self._caught_up(lambda: self._version(head_key(definition)) == 0)

    async def changed(self, work: Awaitable[T]) -> T:
        """Do what writes definitions by itself, alone; raises `Problem` 503 where Kafka has not taken them."""
        async with self._publishing:
            return await self._kafka(work)

    async def reading(self, work: Awaitable[T]) -> T:
        """Do what reads topics; raises `Problem` 503 where Kafka does not answer."""
        try:
            return await work
        except (KafkaError, NoKafka, MissingTopic) as error:
            raise Problem(
                503,
                "kafka-unavailable",
                f"Kafka does not answer ({type(error).__name__}): try again",
                headers={"retry-after": "2"},
            ) from error

    async def _kafka(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except (KafkaError, NoKafka, MissingTopic) as error:
            raise Problem(
                503,
                "not-acknowledged",
                f"Kafka has not taken the definition ({type(error).__name__}): send it again",
                headers={"retry-after": "2"},
            ) from error

    async def _caught_up(self, check: Callable[[], bool]) -> None:
        if not await settle(check, within_s=CATCH_UP_S, every_s=0.01):
            raise Problem(
                503,
                "not-in-force-yet",
                f"it is written, but this process has not read it within {CATCH_UP_S:.0f} s: look again before you resend",
            )

    def _version(self, key: bytes) -> int:
        return next((d.version for d in self.catalogue.written() if head_key(d) == key), 0)


def gateway_of(request: Request) -> Gateway:
    """The gateway that answers this request."""
    found: Gateway = request.app.state.gateway
    return found


TheGateway = Annotated[Gateway, Depends(gateway_of)]
_bearer = HTTPBearer(auto_error=False, description="An API key: `uptake keys create`.", scheme_name="ApiKey")


async def caller_of(
    gateway: TheGateway,
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """The caller, within its rate. Raises `Problem` 401, 429."""
    key = bearer.credentials if bearer is not None else request.headers.get("x-api-key")
    caller = gateway.keys.find(key, gateway.clock()) if key else None
    if caller is None:
        why = "this API key is not known, was revoked or has expired" if key else "there is no API key"
        raise Problem(
            401,
            "unauthorized",
            f"{why}: send `Authorization: Bearer upt_…`; `uptake keys create` makes one",
            headers={"www-authenticate": "Bearer"},
        )
    gateway.quotas.requests(caller)
    return caller


def allowed(permission: Permission) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency: the caller, if its role has `permission`. Raises `Problem` 403."""

    async def check(caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
        demand(caller, permission)
        return caller

    return check


def demand(caller: Caller, permission: Permission) -> None:
    """Raises `Problem` 403 where the role lacks the permission."""
    if not caller.may(permission):
        raise Problem(
            403,
            "role-not-allowed",
            f"the role {caller.role} may not do this (it needs {permission}): use a key of another role",
        )


def one_tenant(caller: Caller, tenant: str | None) -> str:
    """The one tenant a request is about. Raises `Problem` 403 for a foreign one, 422 where it has to be said."""
    if tenant is None and caller.tenant != ALL_TENANTS:
        return caller.tenant
    if tenant is None:
        raise Problem(422, "which-tenant", "this key is for all tenants: say which one with ?tenant=…")
    if not caller.owns(tenant):
        raise Problem(403, "foreign-tenant", f"this key is for another tenant than {tenant!r}: use a key of its own")
    return tenant


def some_tenant(caller: Caller, tenant: str | None) -> str | None:
    """Like `one_tenant`, but a key for all tenants may ask for all of them at once (None)."""
    return None if tenant is None and caller.tenant == ALL_TENANTS else one_tenant(caller, tenant)

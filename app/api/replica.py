"""A read-only replica of METER's state, for questions about people: recovered partition by partition, asked, let go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiokafka.errors import KafkaError

from app.api.members import Segment
from app.api.problems import Problem
from app.kafka import bootstrap
from app.settings import Settings
from app.store import Store, queries
from core.definitions import Catalogue
from core.meter.task import MeterTask
from schemas.registers import ALL, WINDOWS
from schemas.tables import WindowName
from transport.options import Security
from transport.state import StateFormatError, read_state

DAY_MS: Final = 86_400_000
STATE: Final = "state.meter"


def segment_reader(settings: Settings, store: Store, catalogue: Catalogue) -> Callable[[Segment], Awaitable[list[str]]]:
    """A function that gives the users of a segment, sorted, as METER's last checkpoints have them.

    A segment is about the days of the product's stage window up to its newest judged end. Raises `Problem` 503 where
    the state cannot be read.
    """

    async def read(segment: Segment) -> list[str]:
        tenant, product, _, _ = segment
        window = (await queries.product_definition(store, tenant, product)).stage_window
        end = await _newest_end(store, tenant, product, window)
        if end is None:
            return []
        days = max(1, WINDOWS[window][0] // DAY_MS)
        found: list[str] = []
        try:
            for partition in range(settings.partitions):
                found += await _of_partition(settings, catalogue, partition, segment, end, days)
        except (KafkaError, StateFormatError) as error:
            raise Problem(
                503,
                "state-unreadable",
                f"METER's state cannot be read now ({error}): try again",
                headers={"retry-after": "5"},
            ) from error
        return sorted(found)

    return read


async def _newest_end(store: Store, tenant: str, product: str, window: WindowName) -> int | None:
    """The day's border at or after the newest judged end: members are kept by day."""
    rows = await queries.adoption(store, window=window, tenant=tenant, product=product)
    return -(-rows[0].window_end // DAY_MS) * DAY_MS if rows else None


async def _of_partition(
    settings: Settings, catalogue: Catalogue, partition: int, segment: Segment, end: int, days: int
) -> list[str]:
    records = [
        record
        async for record in read_state(
            bootstrap(settings), settings.topic(STATE), partition, security=security_of(settings)
        )
    ]
    # Rebuilding takes seconds for millions of users: not on the loop that answers requests.
    return await asyncio.to_thread(_members, settings, catalogue, partition, records, segment, end, days)


def _members(
    settings: Settings,
    catalogue: Catalogue,
    partition: int,
    records: list[tuple[bytes, bytes | None]],
    segment: Segment,
    end: int,
    days: int,
) -> list[str]:
    tenant, product, feature, which = segment
    task = MeterTask(partition, settings.partitions, catalogue)
    for key, value in records:
        task.load(key, value)
    task.loaded()
    if feature == ALL and which == "non_adopters":
        return []  # everybody who is active uses the product
    if which == "active_users" or feature == ALL:
        return task.members(tenant, product, None, end, days)
    if which == "adopters":
        return task.members(tenant, product, feature, end, days)
    return task.non_adopters(tenant, product, feature, end, days)


def security_of(settings: Settings) -> Security:
    """The settings' security, as transport takes it."""
    password = settings.kafka_password
    return Security(
        protocol=settings.kafka_security,
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=password.get_secret_value() if password is not None else None,
        ssl_context=settings.tls(),
    )

"""A read-only replica of METER's state, for questions about people: recovered partition by partition, asked, let go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from aiokafka.errors import KafkaError

from app.api.members import Segment
from app.api.problems import Problem
from app.kafka import bootstrap, security_of
from app.settings import Settings
from app.store import Store, queries
from core.definitions import Catalogue
from core.meter.checkpoints import StateLost
from core.meter.keys import partition_of
from core.meter.profiles import Profile
from core.meter.task import MeterTask
from core.predict.population import Estimate, inactivity
from schemas.registers import ALL, WINDOWS
from schemas.tables import WindowName
from transport.state import StateFormatError, read_state

DAY_MS: Final = 86_400_000
STATE: Final = "state.meter"
Answer = TypeVar("Answer")


class Replica:
    """`People` as METER's last checkpoints have them. Its questions raise `Problem` 503 where the state cannot be read."""

    def __init__(self, settings: Settings, store: Store, catalogue: Catalogue) -> None:
        self._settings = settings
        self._store = store
        self._catalogue = catalogue

    async def segment(self, segment: Segment) -> list[str]:
        """The users of a segment, sorted, over the days of the product's stage window up to its newest judged end."""
        tenant, product, _, _ = segment
        window = (await queries.product_definition(self._store, tenant, product)).stage_window
        end = await _newest_end(self._store, tenant, product, window)
        if end is None:
            return []
        days = max(1, WINDOWS[window][0] // DAY_MS)
        found: list[str] = []
        for partition in range(self._settings.partitions):
            found += await self._ask(partition, lambda task: _members(task, segment, end, days))
        return sorted(found)

    async def profile(self, tenant: str, product: str, user: str) -> Profile | None:
        """One user's profile; None for one who was not seen. A user is in one partition, and only that one is read."""
        partition = partition_of(f"{tenant}|{user}".encode(), self._settings.partitions)
        return await self._ask(partition, lambda task: task.profile(tenant, product, user))

    async def inactivity(self, tenant: str, product: str, user: str, days: int) -> Estimate | None:
        """How likely one user does nothing for some days, by the users of the same partition."""
        partition = partition_of(f"{tenant}|{user}".encode(), self._settings.partitions)
        return await self._ask(partition, lambda task: _inactivity(task, tenant, product, user, days))

    async def _ask(self, partition: int, question: Callable[[MeterTask], Answer]) -> Answer:
        settings = self._settings
        try:
            records = [
                record
                async for record in read_state(
                    bootstrap(settings), settings.topic(STATE), partition, security=security_of(settings)
                )
            ]
            # Rebuilding takes seconds for millions of users: not on the loop that answers requests.
            return await asyncio.to_thread(self._answer, partition, records, question)
        except (KafkaError, StateFormatError, StateLost) as error:
            raise Problem(
                503,
                "state-unreadable",
                f"METER's state cannot be read now ({error}): try again",
                headers={"retry-after": "5"},
            ) from error

    def _answer(
        self, partition: int, records: list[tuple[bytes, bytes | None]], question: Callable[[MeterTask], Answer]
    ) -> Answer:
        task = MeterTask(partition, self._settings.partitions, self._catalogue)
        for key, value in records:
            task.load(key, value)
        task.loaded()
        return question(task)


async def _newest_end(store: Store, tenant: str, product: str, window: WindowName) -> int | None:
    """The day's border at or after the newest judged end: members are kept by day."""
    rows = await queries.adoption(store, window=window, tenant=tenant, product=product)
    return -(-rows[0].window_end // DAY_MS) * DAY_MS if rows else None


def _inactivity(task: MeterTask, tenant: str, product: str, user: str, days: int) -> Estimate | None:
    known = task.profile(tenant, product, user) is not None  # not so for those who are to be forgotten
    return inactivity(task.usage, tenant, product, user, days) if known else None


def _members(task: MeterTask, segment: Segment, end: int, days: int) -> list[str]:
    tenant, product, feature, which = segment
    if feature == ALL and which == "non_adopters":
        return []  # everybody who is active uses the product
    if which == "active_users" or feature == ALL:
        return task.members(tenant, product, None, end, days)
    if which == "adopters":
        return task.members(tenant, product, feature, end, days)
    return task.non_adopters(tenant, product, feature, end, days)

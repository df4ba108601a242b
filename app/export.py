"""Everything that is held about a subject: in METER's state, the read model, the definitions, waiting deliveries, and the log."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import msgspec
import orjson
from sqlalchemy import select

from app.api.members import UserProfile
from app.api.replica import Replica
from app.definitions import load
from app.kafka import bootstrap, read, security_of
from app.people import profiles_of
from app.settings import Settings
from app.store import Store, open_store, queries
from app.store.tables import METADATA
from core.decide.packing import read_key
from core.definitions import Catalogue
from core.delivery.rows import Row
from core.forgetting import named
from schemas.definitions import Segment, Silence
from schemas.topics import TOPICS
from transport.state import read_state

LOGS: Final = tuple(t.name for t in TOPICS if t.cleanup == "delete" and t.name != "meter.registers")
"""Topics with rows about subjects. (`meter.registers` and `tables.*` hold figures of products only.)"""


class Subject:
    """A tenant's subject, and whether a record is about it."""

    def __init__(self, tenant: str, subject: str) -> None:
        self.tenant = tenant
        self.subject = subject
        self.kind, _, self.name = subject.partition(":")
        self._keys = {f"{tenant}|{self.name}".encode(), f"{tenant}|{subject}".encode()}
        self._name = self.name.encode()

    def concerned(self, key: bytes | None, value: bytes | None) -> bool:
        """By its key, or by whom its JSON names."""
        if key in self._keys:
            return True
        if value is None or (self._name not in value and b"\\u" not in value):
            return False  # most rows: not worth reading
        tenant, subjects = named(value)
        return tenant == self.tenant and self.subject in subjects


async def export(settings: Settings, tenant: str, subject: str, now: int) -> dict[str, Any]:
    """All of it, as JSON. It reads the whole log, which takes as long as the log is.

    Raises `NoKafka`, `MissingTopic`, `StoreError`.
    """
    who = Subject(tenant, subject)
    catalogue = await load(settings)
    store = await open_store(settings.store_url)
    try:
        held: dict[str, Any] = {
            "tenant": tenant,
            "subject": subject,
            "read_at": now,
            "profiles": await _profiles(settings, store, catalogue, who, now),
            "people": await profiles_of(settings, tenant, subject),
            "definitions": _definitions(catalogue, who),
            "read_model": await _read_model(store, who),
        }
    finally:
        await store.close()
    held["waiting"] = [row async for row in _waiting(settings, who)]
    held["remembered"] = [row async for row in _remembered(settings, who)]
    held["log"] = await _log(settings, who)
    return held


async def _profiles(
    settings: Settings, store: Store, catalogue: Catalogue, who: Subject, now: int
) -> list[dict[str, Any]]:
    found = []
    replica = Replica(settings, store, catalogue)
    for seen in await queries.products(store, tenant=who.tenant) if who.kind == "user" else ():
        profile = await replica.profile(who.tenant, seen.product, who.name)
        if profile is not None:
            given = {"tenant": who.tenant, "product": seen.product, "user": who.name, "read_at": now}
            found.append(UserProfile(**given, **profile._asdict()).model_dump())
    return found


def _definitions(catalogue: Catalogue, who: Subject) -> list[str]:
    segments = [s.name for s in catalogue.of(Segment, who.tenant) if who.kind == "user" and who.name in s.users]
    silences = [s.name for s in catalogue.of(Silence, who.tenant) if who.subject in s.subjects]
    return sorted([*(f"segment {name}" for name in segments), *(f"silence {name}" for name in silences)])


async def _read_model(store: Store, who: Subject) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    async with store.reader.begin() as connection:
        for name in ("commands", "receipts", "deliveries", "detections", "activity"):
            table = METADATA.tables[name]
            wanted = select(table.c.body).where(table.c.tenant == who.tenant, table.c.subject == who.subject)
            found[name] = [orjson.loads(body) for (body,) in await connection.execute(wanted)]
        sink = METADATA.tables["sink"]
        bodies = await connection.execute(select(sink.c.body).where(sink.c.tenant == who.tenant))
        found["sink"] = [orjson.loads(body) for (body,) in bodies if who.concerned(None, body.encode())]
        letters = METADATA.tables["dead_letters"]
        wanted = select(letters.c.id, letters.c.key, letters.c.value).where(letters.c.tenant == who.tenant)
        found["dead_letters"] = [
            {"id": id_, "key": key, "value": value}
            for id_, key, value in await connection.execute(wanted)
            if who.concerned((key or "").encode(), (value or "").encode())
        ]
    return found


async def _waiting(settings: Settings, who: Subject) -> AsyncIterator[Any]:
    """Deliveries that wait for an attempt."""
    async for key, value in _state(settings, "state.deliver"):
        if key.startswith(b"row|") and value is not None:
            row = msgspec.msgpack.decode(value, type=Row)
            if who.concerned(None, row.value):
                yield orjson.loads(row.value)


async def _remembered(settings: Settings, who: Subject) -> AsyncIterator[Any]:
    """Cool-downs of rules, when one last gave a command about the subject; comparisons that it is in (until they count it), and in
    which arm.
    """
    for topic in ("state.decide.signals", "state.decide.registers"):
        async for key, value in _state(settings, topic):
            parts = read_key(key)
            if parts[0] == "last" and parts[2] == who.tenant and parts[-1] == who.subject and value is not None:
                yield {"rule": parts[1], "product": parts[3], "at": sorted(msgspec.msgpack.decode(value).values())}
            if parts[0] == "exposed" and parts[1] == who.tenant and parts[-1] == who.subject and value is not None:
                _, _, held, at, *_ = msgspec.msgpack.decode(value)
                yield {"rule": parts[3], "product": parts[2], "at": [at], "held_out": held}


async def _state(settings: Settings, topic: str) -> AsyncIterator[tuple[bytes, bytes | None]]:
    """The live rows of a state topic."""
    for partition in range(settings.partitions):
        live: dict[bytes, bytes | None] = {}
        full = settings.topic(topic)
        async for key, value in read_state(bootstrap(settings), full, partition, security=security_of(settings)):
            live[key] = value
        for key, value in live.items():
            yield key, value


async def _log(settings: Settings, who: Subject) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    async with aclosing(read(settings, LOGS)) as records:
        async for record in records:
            if who.concerned(record.key, record.value):
                row = {"partition": record.partition, "offset": record.offset, "at": record.timestamp}
                found.setdefault(record.topic, []).append({**row, "value": _shown(record.value)})
    return found


def _shown(value: bytes | None) -> Any:
    """JSON as it is, text as text, other bytes in base64."""
    if value is None:
        return None
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}

"""Profiles and live segments as DECIDE's last checkpoints have them, read without taking part in anything."""

from __future__ import annotations

from typing import Any, Final

from app.kafka import bootstrap, security_of
from app.settings import Settings
from core.decide.packing import decode, read_key
from core.meter.keys import partition_of
from core.people.facts import facts_of
from core.people.people import members
from core.people.profile import Profile
from transport.state import read_state

STATE: Final = "state.decide.signals"


async def in_segment(settings: Settings, tenant: str, product: str, segment: str) -> list[str]:
    """The names of those who are in a live segment, sorted. Reads the whole state: raises `KafkaError`, `StateFormatError`."""
    found: list[str] = []
    for partition in range(settings.partitions):
        found += members(await _rows(settings, partition), tenant, product, segment)
    return sorted(found)


async def profiles_of(settings: Settings, tenant: str, subject: str) -> dict[str, dict[str, Any]]:
    """What is kept of a subject, by product. Raises as `in_segment`."""
    partition = partition_of(f"{tenant}|{subject}".encode(), settings.partitions)
    found: dict[str, dict[str, Any]] = {}
    for raw, value in (await _rows(settings, partition)).items():
        row, *rest = read_key(raw)
        if row == "person" and rest[0] == tenant and rest[2] == subject:
            profile = Profile.of(decode(value))
            found[rest[1]] = facts_of(subject, profile, profile.segments, {})
    return found


async def _rows(settings: Settings, partition: int) -> dict[bytes, bytes]:
    rows: dict[bytes, bytes] = {}
    async for key, value in read_state(
        bootstrap(settings), settings.topic(STATE), partition, security=security_of(settings)
    ):
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value
    return rows

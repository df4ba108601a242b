"""The read model's tables. Keys and versions stand in `core.project`; here are types and indexes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, Table, Text
from sqlalchemy.types import TypeEngine

from core.project import KEYS

METADATA = MetaData()
SCHEMA_VERSION = 2
"""Grows when a table changes; a read model of another version is made again from the log."""

_INTEGERS = frozenset(
    "slot window_start window_end users events target_users version at issued_at expires_at recorded_at attempt "
    "partition offset replays bytes next_offset began seq".split()
)
_FLOATS = frozenset({"adoption_rate", "organic_share", "score"})
_BOOLEANS = frozenset({"viral", "act", "sandboxed", "final", "paused"})


def _type(column: str) -> TypeEngine[Any]:
    if column in _INTEGERS:
        return BigInteger() if column not in ("attempt", "partition", "replays") else Integer()
    if column in _FLOATS:
        return Double()
    return Boolean() if column in _BOOLEANS else Text()


def _table(name: str, required: str, optional: str = "", *indexes: tuple[str, ...]) -> Table:
    keys = KEYS.get(name) or _OWN_KEYS[name]
    columns = [
        *(Column(c, _type(c), primary_key=True, autoincrement=False) for c in keys),
        *(Column(c, _type(c), nullable=False) for c in required.split() if c not in keys),
        *(Column(c, _type(c), nullable=True) for c in optional.split()),
    ]
    table = Table(name, METADATA, *columns)
    for of in indexes:
        Index(f"ix_{name}_{'_'.join(of)}", *(table.c[c] for c in of))
    return table


_OWN_KEYS = {"positions": ("role", "topic", "partition"), "meta": ("name",)}

adoption = _table(
    "adoption",
    "window_start window_end users events target_users stage viral version",
    "adoption_rate organic_share",
    ("window", "window_end"),
)
features = _table("features", "")
products = _table("products", "")
health = _table("health", "band version body", "score")
outcomes = _table("outcomes", "verdict at version body")
detections = _table(
    "detections", "tenant product subject kind at act recorded_at body", "", ("tenant", "at"), ("subject",)
)
commands = _table(
    "commands",
    "tenant product type domain subject rule cause priority issued_at expires_at recorded_at title body",
    "detection",
    ("tenant", "issued_at"),
    ("rule", "issued_at"),
    ("detection",),
    ("cause",),
)
_RECEIPT = "command command_type tenant product subject rule sandboxed attempt status final at body"
receipts = _table(
    "receipts", _RECEIPT, "delivery connection integration reason", ("tenant", "at"), ("command",), ("delivery",)
)
deliveries = _table(
    "deliveries", _RECEIPT + " version", "connection integration reason", ("tenant", "at"), ("command",)
)
runs = _table(
    "runs",
    "tenant product subject workflow version began at status outcome seq paused places nodes recorded_at",
    "",
    ("tenant", "began"),
    ("workflow", "status"),
    ("tenant", "subject"),
)
run_records = _table("run_records", "tenant subject recorded_at body", "", ("tenant", "subject"), ("recorded_at",))
activity = _table(
    "activity",
    "tenant rule subject at what recorded_at body",
    "product reason",
    ("tenant", "at"),
    ("rule", "subject", "at"),
    ("subject", "at"),
    ("recorded_at",),
)
sink = _table(
    "sink",
    "tenant product connection integration sandboxed command recorded_at body",
    "",
    ("tenant", "recorded_at"),
    ("command",),
)
dead_letters = _table(
    "dead_letters",
    "topic partition offset step replays reason detail group at",
    "tenant event key bytes value",
    ("at",),
    ("tenant", "at"),
    ("event",),
)
definitions = _table("definitions", "version body")
positions = _table("positions", "next_offset")
meta = _table("meta", "value")

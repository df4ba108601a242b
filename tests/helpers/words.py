"""Builders of words with defaults: say only what the test is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.batch import Batch, Headers
from schemas.commands import Command, Why, command_id
from schemas.delivery import Receipt, SinkRecord
from schemas.detections import StageEntered
from schemas.envelope import Word, derived_id
from schemas.outcomes import Arm, OutcomeRow
from schemas.registers import WINDOWS
from schemas.tables import AdoptionRow, HealthComponent, HealthRow

NOON = 1_700_049_600_000
"""2023-11-15T12:00Z."""


class Keys:
    """`core.batch.Rows` over a list."""

    def __init__(self, keys: Sequence[bytes | None]) -> None:
        self._keys = keys

    def key(self, row: int) -> bytes | None:
        return self._keys[row]


def a_batch(
    topic: str,
    values: Sequence[bytes | Word | None],
    *,
    partition: int = 0,
    first: int = 0,
    keys: Sequence[bytes | None] | None = None,
    headed: dict[int, Headers] | None = None,
    at: int = NOON,
) -> Batch:
    raw = [v.model_dump_json().encode() if isinstance(v, Word) else v for v in values]
    n = len(raw)
    return Batch(
        topic=topic,
        partition=partition,
        values=raw,
        offsets=np.arange(first, first + n, dtype=np.int64),
        timestamps=np.full(n, at, dtype=np.int64),
        next_offset=first + n,
        rows=Keys(keys if keys is not None else [None] * n),
        headed=headed or {},
    )


def an_adoption_row(window: Any = "1h", end: int = NOON, **changed: Any) -> AdoptionRow:
    values: dict[str, Any] = {
        "tenant": "acme",
        "product": "shop",
        "feature": "search",
        "window": window,
        "window_start": end - WINDOWS[window][0],
        "window_end": end,
        "users": 10,
        "events": 25,
        "target_users": 40,
        "adoption_rate": 0.25,
        "organic_share": 0.5,
        "stage": "growth",
        "viral": False,
        "version": 0,
    }
    return AdoptionRow(**{**values, **changed})


def a_health_row(at: int = NOON, **changed: Any) -> HealthRow:
    values: dict[str, Any] = {
        "tenant": "acme",
        "product": "shop",
        "at": at,
        "score": 71.5,
        "band": "stable",
        "components": {"reliability": HealthComponent(score=71.5, weight=1.0, inputs={"requests": 100.0})},
        "missing": ["satisfaction"],
        "version": 0,
    }
    return HealthRow(**{**values, **changed})


def an_outcome_row(**changed: Any) -> OutcomeRow:
    values: dict[str, Any] = {
        "tenant": "acme",
        "product": "shop",
        "rule": "J7",
        "rule_version": 1,
        "command_type": "marketing.email.send",
        "trigger": "event",
        "measure": "conversion",
        "metric": "conversion",
        "direction": "up",
        "within_s": 3_600,
        "holdout": 0.1,
        "at": NOON,
        "since": NOON - 86_400_000,
        "treated": Arm(subjects=900, converted=270, rate=0.3, value=0.0),
        "held": Arm(subjects=100, converted=10, rate=0.1, value=0.0),
        "pairs": 0,
        "uplift": 0.2,
        "low": 0.06,
        "high": 0.29,
        "alpha": 0.05,
        "verdict": "working",
        "verdict_at": NOON,
        "version": 3,
    }
    return OutcomeRow(**{**values, **changed})


def a_detection(end: int = NOON, **changed: Any) -> StageEntered:
    values: dict[str, Any] = {
        "id": derived_id("detection", str(end), str(changed)),
        "tenant": "acme",
        "product": "shop",
        "subject": "feature:search",
        "at": end,
        "feature": "search",
        "stage": "growth",
        "previous": "low",
        "rate": 0.25,
        "users": 10,
        "target_users": 40,
        "organic_share": 0.5,
        "window": "7d",
        "window_start": end - WINDOWS["7d"][0],
        "window_end": end,
    }
    return StageEntered(**{**values, **changed})


def a_command(**changed: Any) -> Command:
    values: dict[str, Any] = {
        "tenant": "acme",
        "product": "shop",
        "type": "product.tutorial.deploy",
        "subject": "feature:search",
        "rule": "A1.2",
        "rule_version": 1,
        "cause": "cause-1",
        "priority": "normal",
        "issued_at": NOON,
        "expires_at": NOON + 86_400_000,
        "title": "Deploy a tutorial",
        "text": "Few use search.",
        "payload": {},
        "why": Why(
            rule="A1.2",
            rule_version=1,
            reason="10 of 40 use it.",
            detection=changed.pop("detection", None),
            numbers={"rate": 0.25},
            thresholds={"low": 0.2},
            links={},
        ),
    }
    values |= changed
    values.setdefault("id", command_id(values["tenant"], values["rule"], values["subject"], values["cause"]))
    return Command(**values)


def a_receipt(command: Command, **changed: Any) -> Receipt:
    values: dict[str, Any] = {
        "delivery": derived_id("delivery", command.id, "hook"),
        "command": command.id,
        "command_type": command.type,
        "tenant": command.tenant,
        "product": command.product,
        "subject": command.subject,
        "rule": command.rule,
        "connection": "hook",
        "integration": "webhook",
        "sandboxed": True,
        "attempt": 1,
        "status": "delivered",
        "final": True,
        "at": NOON,
    }
    values |= changed
    values.setdefault("id", derived_id("receipt", command.id, str(values["attempt"]), values["status"]))
    return Receipt(**values)


def a_sink_record(command: Command, **changed: Any) -> SinkRecord:
    values: dict[str, Any] = {
        "delivery": derived_id("delivery", command.id, "hook"),
        "connection": "hook",
        "integration": "webhook",
        "sandboxed": True,
        "command": command,
    }
    return SinkRecord(**{**values, **changed})

"""The doors that need no server. Each takes a source of chance and a place to leave its input, and says what became of it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from tests.fuzz.language import conditions, templates
from tests.fuzz.rows import ROWS, events, meter, webhooks
from tests.fuzz.samples import Outcome
from tests.fuzz.stored import fetching, framing
from tests.fuzz.written import definitions, texts

DOORS: dict[str, tuple[Callable[[Random, list[Any]], Outcome], int, int]] = {
    "framing": (framing, 1, 180_000),
    "fetching": (fetching, 1, 100_000),
    "cloudevents": (events, 1, 240_000),
    "meter": (meter, ROWS, 260_000),
    "webhooks": (webhooks, 1, 100_000),
    "definitions": (definitions, 1, 40_000),
    "yaml": (texts, 1, 25_000),
    "conditions": (conditions, 1, 120_000),
    "templates": (templates, 1, 60_000),
}
"""Name → (door, inputs a call, inputs of a whole run)."""

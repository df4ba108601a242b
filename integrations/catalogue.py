"""The list: an integration exists if it stands here. Adding one is one file and one line."""

from __future__ import annotations

from importlib import import_module

from integrations.base import Integration

NAMES: tuple[str, ...] = (
    "webhook",
    "slack",
    "email",
    "kafka",
)
"""Modules of this room. That each is an `Integration` is checked by mypy in the contract suite, drawn from this list."""


def _load(name: str) -> Integration:
    module: Integration = import_module(f"integrations.{name}")
    return module


ALL: tuple[Integration, ...] = tuple(_load(name) for name in NAMES)
"""Every integration. Its topics are `deliveries.<NAME>` and `deliveries.<NAME>.urgent`, or else those of `other`."""

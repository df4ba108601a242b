"""Segments: named sets of people."""

from __future__ import annotations

from typing import Literal

from schemas.described import Described


class Segment(Described):
    """A named set of users, by list."""

    kind: Literal["segment"] = "segment"
    product: str
    users: list[str]

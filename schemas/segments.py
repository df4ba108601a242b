"""Segments: named sets of people, by list or by what is known of them. Campaigns: what people are led through."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.conditions import Bounded
from schemas.described import Count, Described, Name
from schemas.envelope import Word


class Segment(Described):
    """A named set of people of a product: those listed, and those whose profiles meet `where`."""

    kind: Literal["segment"] = "segment"
    product: str
    users: list[str] = Field(default_factory=list)
    of: Literal["user", "contact", "account"] = "user"
    """Whose profiles `where` looks at."""
    where: Bounded = None
    """Over `contact.…` (users and contacts) or `account.…`, and `campaign.…`; looked at again with every event about the subject."""

    @model_validator(mode="after")
    def _somebody(self) -> Segment:
        if not self.users and self.where is None and "users" not in self.model_fields_set:
            raise ValueError("give `users`, `where`, or both")
        return self


class Variant(Word):
    """One of a campaign's variants."""

    name: Name
    weight: Count = 1


class Campaign(Described):
    """Steps that contacts are led through, in variants. Events say who joins, moves and leaves (`campaign.joined` …)."""

    kind: Literal["campaign"] = "campaign"
    product: str
    steps: Annotated[list[Name], Field(max_length=1_000)] = Field(default_factory=list)
    """By position, from 0."""
    variants: Annotated[list[Variant], Field(max_length=32)] = Field(default_factory=list)
    """A member without a variant of its own gets one by its name, always the same."""

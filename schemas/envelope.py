"""What every word on the wire shares: strictness, tenant and subject names, times."""

from __future__ import annotations

import hashlib
import uuid
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

TENANT_PATTERN = r"^[a-z0-9-]{1,64}$"

Tenant = Annotated[str, StringConstraints(pattern=TENANT_PATTERN)]
"""A tenant's id. What follows the first `|` of a Kafka key is verbatim, so no tenant may hold one."""

MAX_MILLIS = (1 << 53) - 1
"""The last time that every reader of JSON can count to (the year 287396)."""
Millis = Annotated[int, Field(ge=0, le=MAX_MILLIS, description="Milliseconds since 1970-01-01T00:00Z.")]

SubjectKind = Literal["user", "account", "product", "feature", "service", "contact"]


NAMESPACE = uuid.UUID("6a1d3c52-64a4-5b0e-9a3e-5f6b7f4f2b11")
"""Namespace of every derived id (uuid5)."""
_UUID5 = (5 << 76) | (2 << 62)
"""The bits that say version 5 and variant 2."""
_FREE = (1 << 128) - 1 & ~(0xF << 76) & ~(3 << 62)


class Word(BaseModel):
    """A closed, immutable model: an unknown field is an error that names the field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OpenWord(BaseModel):
    """An immutable model that keeps fields it does not know, for words that others produce."""

    model_config = ConfigDict(frozen=True, extra="allow")


@lru_cache(maxsize=1_024)
def derived_id(*parts: str) -> str:
    """An id made of its inputs alone: the same parts give the same id on every replay.

    Parts are joined with the unit separator, so `("a", "b|c")` and `("a|b", "c")` differ.
    """
    # uuid5, without the object: every command, run and receipt asks for some, and for the same one several times in a row.
    hashed = hashlib.sha1(NAMESPACE.bytes + "\x1f".join(parts).encode(), usedforsecurity=False).digest()[:16]
    text = (int.from_bytes(hashed) & _FREE | _UUID5).to_bytes(16).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def subject(kind: SubjectKind, name: str) -> str:
    """`kind:name`, the form in which subjects travel."""
    return f"{kind}:{name}"


def key(tenant: str, rest: str) -> bytes:
    """The Kafka key `tenant|rest`."""
    return f"{tenant}|{rest}".encode()

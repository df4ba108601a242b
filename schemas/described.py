"""What every definition has: whose it is, its name, its version, from when on it applies."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.envelope import Millis, Tenant, Word
from schemas.limits import MAX_COUNT, MAX_NAME_CHARS, MAX_SECONDS, MAX_TEMPLATE_CHARS

FORMAT = 1
"""Of definitions as they are written; grows when a version before would misread one. Readers refuse a higher one."""
ALL_TENANTS = "all"
"""Scope of a definition that applies to every tenant."""

NAME_PATTERN = r"^[A-Za-z0-9._:-]{1,128}$"
DefinitionName = Annotated[str, Field(pattern=NAME_PATTERN)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(ge=0, le=100)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Seconds = Annotated[int, Field(ge=0, le=MAX_SECONDS)]
SomeSeconds = Annotated[int, Field(ge=1, le=MAX_SECONDS)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]


class Described(Word):
    """The base of every kind of definition."""

    tenant: Tenant = ALL_TENANTS
    name: DefinitionName
    version: Annotated[int, Field(ge=1)] = 1
    effective_from: Millis = 0
    """Applies to rows that occurred at or after this time; 0: from the beginning."""
    description: Annotated[str, Field(max_length=MAX_TEMPLATE_CHARS)] = ""

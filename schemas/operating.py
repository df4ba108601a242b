"""What operators define: connections, pauses, silences, API keys, people who are to be forgotten."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from schemas.commands import Priority
from schemas.described import NAME_PATTERN, Described, SomeSeconds
from schemas.envelope import Millis
from schemas.limits import MAX_TEMPLATE_CHARS


class Connection(Described):
    """A configured integration. New ones are sandboxed: delivered to the built-in sink until enabled."""

    kind: Literal["connection"] = "connection"
    integration: str
    config: dict[str, JsonValue]
    """The integration's own config. Secrets are references: `{"env": "NAME"}` or `{"file": "path"}`."""
    enabled: bool = False
    domains: list[str] = Field(default_factory=list)
    """Commands of these domains; empty: all."""
    types: list[str] = Field(default_factory=list)
    """Command types, with a trailing `*` as prefix; empty: all."""
    min_priority: Priority = "low"
    rate_per_s: Annotated[float, Field(gt=0, le=1e6)] | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    deadline_s: Annotated[float, Field(gt=0, le=120)] | None = None
    """Longest that one attempt may take; absent: the integration's own timeout."""
    max_attempts: Annotated[int, Field(ge=1, le=1_000)] = 8
    max_age_s: SomeSeconds = 86_400


class Pause(Described):
    """Stops acting, at once, until retired: everything of a tenant, one rule, or one connection. Its name is `scope:name`."""

    kind: Literal["pause"] = "pause"
    scope: Literal["tenant", "rule", "connection"]
    of: str
    by: str = ""


def pause_name(scope: str, of: str) -> str:
    """The name of the pause of this: `scope:of`, or a hash where what is paused has an id that is no definition's name.

    >>> pause_name("rule", "A2.1")
    'rule:A2.1'
    >>> pause_name("rule", "when a cart is left")
    'rule:6348bd6dce75235fd6dae215b60ea9ab'
    """
    name = f"{scope}:{of}"
    return name if re.fullmatch(NAME_PATTERN, name) else f"{scope}:{hashlib.sha256(of.encode()).hexdigest()[:32]}"


class Policy(Described):
    """What a tenant asks of its own definitions. Its name is `approvals`."""

    kind: Literal["policy"] = "policy"
    approval: list[Literal["rule", "workflow", "connection"]] = Field(default_factory=list)
    """Kinds that act on customers: what a role that may not approve publishes of them waits until one that may approves it."""


class Proposal(Described):
    """A definition that waits for approval, or what was decided of one. Its name is `kind:name`; nobody acts on it."""

    kind: Literal["proposal"] = "proposal"
    body: dict[str, JsonValue]
    """The definition, without version."""
    status: Literal["pending", "approved", "rejected"] = "pending"
    by: str
    """Who proposed it."""
    at: Millis
    decided_by: str = ""
    decided_at: Millis | None = None
    reason: Annotated[str, Field(max_length=MAX_TEMPLATE_CHARS)] = ""


class Silence(Described):
    """Commands that match are not acted on between two broker times, because a person asked so. Empty lists match all."""

    kind: Literal["silence"] = "silence"
    types: list[str] = Field(default_factory=list)
    """Command types, with a trailing `*` as prefix."""
    rules: list[str] = Field(default_factory=list)
    subjects: list[str] = Field(default_factory=list)
    """`kind:id`, with a trailing `*` as prefix."""
    starts_at: Millis = 0
    ends_at: Millis
    by: str = ""


class Forgotten(Described):
    """A person who is to be forgotten, for good. Its name is a hash of the subject keyed by `salt`, so it keeps no name; it is the
    record of who asked, and when, too.
    """

    kind: Literal["forgotten"] = "forgotten"
    of: Literal["user", "contact"]
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """256 random bits, the same for all of a tenant's records."""
    asked_at: Millis
    by: str = ""


class ApiKey(Described):
    """An API key, hashed. The key itself is shown once, when made."""

    kind: Literal["api_key"] = "api_key"
    hash: str
    """Hex SHA-256 of the key (keys are 256 random bits, so a slow hash adds nothing)."""
    role: Literal["product_director", "product_manager", "operations", "development", "quality", "read_only"]
    created_at: Millis
    expires_at: Millis | None = None
    """Refused from this time on; absent: until it is revoked."""

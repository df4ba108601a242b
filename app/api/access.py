"""Who may do what: API keys, the tenant each is scoped to, and the permissions of its role (S1 of the catalogue)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from core.definitions import Catalogue
from schemas.definitions import ALL_TENANTS, ApiKey

Permission = Literal[
    "tables:read",
    "records:read",
    "members:read",
    "dead_letters:read",
    "dead_letters:redrive",
    "definitions:read",
    "status:read",
    "events:write",
    "product:write",
    "segment:write",
    "source:write",
    "hook:write",
    "rule:write",
    "threshold:write",
    "connection:write",
    "pause:write",
    "silence:write",
    "triggers:write",
    "runs:write",
    "approvals:write",
    "keys:write",
    "subjects:forget",
]
PERMISSIONS: Final[tuple[Permission, ...]] = get_args(Permission)
Role = Literal["product_director", "product_manager", "operations", "development", "quality", "read_only"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

_READ: Final[frozenset[Permission]] = frozenset({"tables:read", "records:read", "definitions:read", "status:read"})
_PRODUCT: Final[frozenset[Permission]] = frozenset(
    {
        "members:read",
        "product:write",
        "segment:write",
        "rule:write",
        "threshold:write",
        "pause:write",
        "triggers:write",
        "runs:write",
    }
)
MATRIX: Final[Mapping[Role, frozenset[Permission]]] = {
    "read_only": _READ,
    "quality": _READ | {"dead_letters:read", "threshold:write", "triggers:write"},
    "development": _READ
    | {"dead_letters:read", "dead_letters:redrive", "events:write", "source:write", "hook:write", "threshold:write"},
    "product_manager": _READ | _PRODUCT,
    "product_director": _READ
    | _PRODUCT
    | {"connection:write", "hook:write", "silence:write", "approvals:write", "keys:write", "subjects:forget"},
    "operations": _READ
    | {
        "members:read",
        "dead_letters:read",
        "dead_letters:redrive",
        "events:write",
        "source:write",
        "hook:write",
        "threshold:write",
        "connection:write",
        "pause:write",
        "silence:write",
        "triggers:write",
        "runs:write",
        "approvals:write",
        "keys:write",
        "subjects:forget",
    },
}
"""Role → what its keys may do. People's data (segment members) and raw rows (dead letters) are apart from figures."""

KEY_PREFIX = "upt_"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever holds the key of a request."""

    name: str
    tenant: str
    """`all`: every tenant."""
    role: Role
    expires_at: int | None = None
    """Milliseconds; None: until it is revoked."""

    def may(self, permission: Permission) -> bool:
        """Whether the role allows it."""
        return permission in MATRIX[self.role]

    def owns(self, tenant: str) -> bool:
        """Whether the key's scope covers the tenant."""
        return self.tenant in (tenant, ALL_TENANTS)


def new_key() -> str:
    """A key: 256 random bits. It is shown once and kept by its holder only."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hashed(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


class Keys:
    """Finds the caller of a key among the definitions, which may change at any time."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._generation = -1
        self._callers: dict[str, Caller] = {}

    def find(self, key: str, now: int) -> Caller | None:
        """The caller, or None where nobody issued such a key, it was revoked, or it has expired by `now` (ms)."""
        if self._generation != self._catalogue.generation:
            self._generation = self._catalogue.generation
            self._callers = {k.hash: Caller(k.name, k.tenant, k.role, k.expires_at) for k in self._catalogue.of(ApiKey)}
        found = self._callers.get(hashed(key))
        return None if found is None or (found.expires_at is not None and found.expires_at <= now) else found


MOST_BUCKETS = 10_000
"""Buckets kept; beyond this, those that are full again are forgotten, which changes nothing for their owners."""


class Limits:
    """Token buckets, one a name: `rate` a second (times the name's factor, where it has one), bursts of `burst`.

    Of this process only. Memory is bounded by the names used within the last `burst / rate` seconds.
    """

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float], factors: Mapping[str, float] | None = None
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._factors = factors or {}
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str, cost: float = 1.0) -> float:
        """Take `cost` tokens; 0 where they were there, else the seconds until they are, with nothing taken.

        A cost above the burst is let through by a full bucket and paid back before anything else goes.
        """
        now = self._clock()
        tokens, rate = self._filled(key, now)
        needed = min(cost, self._burst * self._factor(key))
        if len(self._buckets) > MOST_BUCKETS:
            self._forget(now)
        if tokens < needed:
            self._buckets[key] = (tokens, now)
            return (needed - tokens) / rate
        self._buckets[key] = (tokens - cost, now)
        return 0.0

    def _filled(self, key: str, now: float) -> tuple[float, float]:
        factor = self._factor(key)
        tokens, at = self._buckets.get(key, (self._burst * factor, now))
        return min(self._burst * factor, tokens + (now - at) * self._rate * factor), self._rate * factor

    def _factor(self, key: str) -> float:
        return self._factors.get(key, 1.0)

    def _forget(self, now: float) -> None:
        for key in list(self._buckets):
            if self._filled(key, now)[0] >= self._burst * self._factor(key):
                del self._buckets[key]

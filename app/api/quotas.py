"""Quotas: how much a key and a tenant may ask for. Each process counts for itself; behind n gateways a tenant has n times it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from app.api.access import Caller, Limits
from app.api.problems import Problem
from app.settings import Settings
from app.telemetry import Telemetry
from schemas.definitions import ALL_TENANTS

NAMED_TENANTS: Final = 100
"""Tenants that have series of their own in the metrics; a label that clients choose must not grow without end."""
OTHERS: Final = "other tenants"


class Quotas:
    """Token buckets of keys and of tenants, and the number of definitions a tenant may have."""

    def __init__(self, settings: Settings, telemetry: Telemetry, clock: Callable[[], float]) -> None:
        def limits(rate: float, tenants: bool) -> Limits:
            return Limits(rate, 2 * rate, clock, settings.tenant_factors if tenants else None)

        self._key_requests = limits(settings.api_requests_per_s, False)
        self._key_events = limits(settings.api_events_per_s, False)
        self._tenant_requests = limits(settings.tenant_requests_per_s, True)
        self._tenant_events = limits(settings.tenant_events_per_s, True)
        self._definitions = settings.tenant_definitions
        self._factors = settings.tenant_factors
        self._telemetry = telemetry
        self._named: set[str] = set()

    def requests(self, caller: Caller) -> None:
        """One request of a key. Raises `Problem` 429."""
        self._take(self._key_requests, _name(caller), 1, caller.tenant, "key_requests")
        self._take(self._tenant_requests, caller.tenant, 1, caller.tenant, "tenant_requests")

    def events(self, caller: Caller, tenant: str, n: int) -> None:
        """`n` events for a tenant. Raises `Problem` 429, before anything is written."""
        try:
            self._take(self._key_events, _name(caller), n, tenant, "key_events")
            self._take(self._tenant_events, tenant, n, tenant, "tenant_events")
        except Problem:
            self._telemetry.count("uptake_gateway_events_total", n, (self._label(tenant), "refused"))
            raise

    def count(self, tenant: str, accepted: int, rejected: int) -> None:
        """What became of the events of a request."""
        for outcome, n in (("accepted", accepted), ("rejected", rejected)):
            if n:
                self._telemetry.count("uptake_gateway_events_total", n, (self._label(tenant), outcome))

    def definitions(self, caller: Caller, tenant: str, there: int) -> None:
        """One definition more for a tenant that has `there`. Raises `Problem` 409; keys for all tenants are not held to it."""
        most = max(1, round(self._definitions * self._factors.get(tenant, 1.0)))
        if caller.tenant != ALL_TENANTS and there >= most:
            raise Problem(
                409,
                "quota-reached",
                f"tenant {tenant} has {there} definitions in force, {most} are allowed: delete some, or ask the operator",
            )

    def _take(self, limits: Limits, name: str, cost: float, tenant: str, bound: str) -> None:
        wait = limits.take(name, cost)
        if wait > 0:
            self._telemetry.count("uptake_gateway_refused_total", 1, (self._label(tenant), bound))
            raise _too_many(wait, bound)

    def _label(self, tenant: str) -> str:
        if tenant in self._named:
            return tenant
        if len(self._named) >= NAMED_TENANTS:
            return OTHERS
        self._named.add(tenant)
        return tenant


def _name(caller: Caller) -> str:
    return f"{caller.tenant}|{caller.name}"


def _too_many(wait_s: float, bound: str) -> Problem:
    """Over a rate."""
    seconds = max(1, round(wait_s + 0.5))
    whose, what = bound.split("_")
    return Problem(
        429,
        "too-many",
        f"too many {what} for this {whose}: go on in {seconds} s, or ask the operator for a higher rate",
        headers={"retry-after": str(seconds)},
    )

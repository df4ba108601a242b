"""What a simulation consists of: tenants' products with their users, features, services, incidents and releases."""

from __future__ import annotations

from dataclasses import dataclass, field

DAY_MS = 86_400_000
START_MS = 1_740_960_000_000
"""2025-03-03T00:00Z, a Monday: runs of the same seed give the same bytes on every day."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature and its adoption: which share of the product's users would use it, over the run."""

    name: str
    before: float
    """Share of users who would use it at the start."""
    after: float
    """… and at the end; between them a logistic curve."""
    release_ms: int = 0
    """Middle of the curve, from the start of the run; its uses begin to turn from `before` to `after` here."""
    ramp_ms: int = DAY_MS // 8
    weight: float = 1.0
    """How often it is tried, beside the product's other features."""
    campaigns: float = 0.2
    """Share of its adopters whom a campaign brought."""
    wave_ms: int = 0
    """With a period, the share goes up and down between `before` and `after` in it instead."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service: its usual latency and errors."""

    name: str
    latency_ms: float = 90.0
    error_rate: float = 0.0004
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Incident:
    """From `begin_ms` to `end_ms` (from the start of the run) a product's requests fail and slow down."""

    begin_ms: int
    end_ms: int
    error_rate: float
    latency_factor: float
    service: int | None = None
    """Index of the service that suffers; None: all of them."""
    every_ms: int = 0
    """With a period, it comes again and again."""


@dataclass(frozen=True, slots=True)
class Product:
    """One product of one tenant."""

    tenant: str
    name: str
    users: int
    features: tuple[Feature, ...]
    services: tuple[Service, ...]
    incidents: tuple[Incident, ...] = ()
    weight: float = 1.0
    """Its share of all rows, beside the others."""
    zipf: float = 0.9
    """How unevenly its users are active; 0: evenly."""


@dataclass(frozen=True, slots=True)
class Dirt:
    """Shares of rows that are not as they should be. All between 0 and 1."""

    duplicates: float = 0.05
    malformed: float = 0.01
    disordered: float = 0.10
    """Later than the declared disorder, within grace."""
    rfc3339: float = 0.5
    """Times as RFC 3339; the others as milliseconds."""
    cloudevents: float = 0.10
    """Half of them structured, half binary."""
    huge: int = 3
    """Rows above 1 MiB in the whole run (they are part of `malformed`)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run. The same plan gives the same rows."""

    name: str
    seed: int
    products: tuple[Product, ...]
    events: int
    days: float = 3.0
    start_ms: int = START_MS
    requests: float = 0.3
    """Share of performance rows."""
    dirt: Dirt = field(default_factory=Dirt)
    disorder_ms: int = 2_000
    grace_ms: int = 600_000

    @property
    def span_ms(self) -> int:
        """Length of the run in event time."""
        return int(self.days * DAY_MS)

    @property
    def end_ms(self) -> int:
        """No row occurs at or after this, save the spoilt ones."""
        return self.start_ms + self.span_ms


def standard(
    *,
    seed: int = 1,
    events: int = 5_000_000,
    users: int = 50_000,
    features: int = 40,
    days: float = 3.0,
    start_ms: int = START_MS,
    tenants: tuple[str, ...] = ("acme", "globex"),
    products: tuple[str, ...] = ("studio", "portal"),
    dirt: Dirt | None = None,
) -> Plan:
    """Two tenants with two products each: adoption from nearly none to nearly all, releases, incidents.

    `users` is the number over all tenants. Raises `ValueError` where a number leaves nothing to simulate.
    """
    if min(users // len(tenants), features, events) < 1 or days <= 0:
        raise ValueError("a simulation needs at least one event, one feature, one user a tenant, and some time")
    span = int(days * DAY_MS)
    made = []
    for i, (tenant, name) in enumerate((t, p) for t in tenants for p in products):
        made.append(
            Product(
                tenant=tenant,
                name=name,
                users=users // len(tenants),
                features=_features(features, span, i),
                services=(
                    Service("checkout", 120.0, 0.0003, 2.0),
                    Service("search", 60.0, 0.0001, 3.0),
                    Service("login", 80.0, 0.0002, 1.0),
                ),
                incidents=_incidents(span, i),
                weight=1.0 / (1 + i),
            )
        )
    return Plan(f"s{seed}", seed, tuple(made), events, days, start_ms, dirt=dirt or Dirt())


_NAMES = ("export", "search", "board", "share", "alerts", "billing", "insight", "import", "chat", "übersicht")


def _features(count: int, span: int, product: int) -> tuple[Feature, ...]:
    """Every fifth is released in the middle of the run; every seventh comes nearly without campaigns."""
    out = []
    for k in range(count):
        base = (0.05, 0.15, 0.30, 0.45, 0.70, 0.95)[(k + product) % 6]
        released = k % 5 == 4
        out.append(
            Feature(
                name=_NAMES[k] if k < len(_NAMES) else f"{_NAMES[k % len(_NAMES)]}-{k // len(_NAMES)}",
                before=0.02 if released else base,
                after=base,
                release_ms=int(span * (0.3 + 0.05 * (k % 7))),
                ramp_ms=max(1, span // 24),
                weight=1.0 / (1 + k),
                campaigns=0.1 if k % 7 == 0 else 0.2 + 0.1 * (k % 4),
            )
        )
    return tuple(out)


def _incidents(span: int, product: int) -> tuple[Incident, ...]:
    """The first product stays well; each further one fails earlier, longer and harder."""
    if product == 0:
        return ()
    begin = int(span * (0.75 - 0.15 * product))
    return (
        Incident(begin, begin + int(span * 0.1 * product), 0.02 * product, 1.0 + 2.0 * product, None),
        Incident(int(span * 0.2), int(span * 0.22), 0.2, 6.0, 0),
    )

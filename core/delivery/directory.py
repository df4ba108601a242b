"""The directory: connections, pauses and silences of the catalogue, indexed; rebuilt when a definition changes."""

from __future__ import annotations

from core.definitions import Catalogue
from schemas.definitions import ALL_TENANTS, Connection, Pause, Silence


class Directory:
    """Answers in constant time what would be a scan of the catalogue. A tenant's own definition hides everybody's."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._seen = -1
        self._connections: dict[str, Connection] = {}
        self._tenants: dict[str, tuple[Connection, ...]] = {}
        self._pauses: frozenset[tuple[str, str, str]] = frozenset()
        self._silences: list[Silence] = []

    @property
    def generation(self) -> int:
        """Grows with every change of the definitions."""
        return self._catalogue.generation

    def connection(self, lane: str) -> Connection | None:
        """The connection of a lane (`owner|name`); None where it was retired."""
        self._refresh()
        return self._connections.get(lane)

    def connections(self, tenant: str) -> tuple[Connection, ...]:
        """Those that a tenant's commands may go to, by name."""
        self._refresh()
        found = self._tenants.get(tenant)
        if found is None:
            by_name = {c.name: c for c in self._connections.values() if c.tenant == ALL_TENANTS}
            by_name |= {c.name: c for c in self._connections.values() if c.tenant == tenant}
            found = self._tenants[tenant] = tuple(by_name[name] for name in sorted(by_name))
        return found

    def paused(self, tenant: str, *, rule: str | None = None, connection: str | None = None) -> bool:
        """Whether the tenant, the rule or the connection is paused, by itself or for everybody."""
        self._refresh()
        if not self._pauses:
            return False
        return any(
            (owner, scope, of) in self._pauses
            for owner in (tenant, ALL_TENANTS)
            for scope, of in (
                ("tenant", tenant),
                ("tenant", ALL_TENANTS),
                ("rule", rule or ""),
                ("connection", connection or ""),
            )
        )

    def silences(self, tenant: str) -> list[Silence]:
        """Silences that apply to a tenant, whatever the time."""
        self._refresh()
        return [s for s in self._silences if s.tenant in (tenant, ALL_TENANTS)]

    def _refresh(self) -> None:
        if self._seen == self._catalogue.generation:
            return
        self._seen = self._catalogue.generation
        self._connections = {lane_of(c): c for c in self._catalogue.of(Connection)}
        self._tenants = {}
        self._pauses = frozenset((p.tenant, p.scope, p.of) for p in self._catalogue.of(Pause))
        self._silences = self._catalogue.of(Silence)


def lane_of(connection: Connection) -> str:
    """`owner|name`: the key of a connection's deliveries, so that one worker holds them all and its limits are exact."""
    return f"{connection.tenant}|{connection.name}"

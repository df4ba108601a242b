"""What `uptake coverage` observed: a row for each automation, and what the receiver saw."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from app import catalogue


@dataclass(frozen=True, slots=True)
class Row:
    """What was observed of one automation."""

    id: str
    command_type: str | None
    fired: bool
    """Commands were issued for the product with the cause."""
    arrived: bool
    """Every one of its commands came to the receiver, rightly signed and unchanged."""
    negative_silent: bool
    """None was issued for the twin without the cause."""
    numbers_equal: bool
    """Its commands are exactly the oracle's, with the oracle's numbers."""
    commands: int

    @property
    def good(self) -> bool:
        """All of it."""
        return self.fired and self.arrived and self.negative_silent and self.numbers_equal

    def line(self) -> str:
        """For people."""
        said = [n for n in ("fired", "arrived", "negative_silent", "numbers_equal") if not getattr(self, n)]
        return f"{self.id} {self.command_type or '(no command)'}: " + (
            f"NOT {', '.join(said)}" if said else f"{self.commands} commands"
        )


@dataclass(slots=True)
class Report:
    """All rows, and what the receiver saw."""

    rows: list[Row] = field(default_factory=list)
    received: int = 0
    repeated: int = 0
    refused: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every automation that is shipped did everything."""
        return bool(self.rows) and all(row.good for row in self.rows) and not self.refused

    @property
    def not_yet_there(self) -> list[str]:
        """Ids of the catalogue that nothing shipped is about."""
        return [ident for ident in catalogue.ids() if not any(catalogue.covers(row.id, ident) for row in self.rows)]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "covered": sum(row.good for row in self.rows),
            "of": len(self.rows),
            "not_yet_there": self.not_yet_there,
            "received": self.received,
            "repeated": self.repeated,
            "refused_signatures": self.refused,
            "differences": self.differences,
        }

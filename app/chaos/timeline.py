"""What happened when, for the terminal, the report and its picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from app.chaos.checkpoints import Loss


@dataclass(slots=True)
class Happened:
    """One fault as it was."""

    kind: str
    began_s: float
    """From the beginning of the run, as all times here."""
    what: str = ""
    ended_s: float | None = None
    skipped: bool = False
    """It found nothing to be done to; `what` says why."""

    def line(self) -> str:
        """For people."""
        return f"{self.began_s:6.1f} s  {self.kind}: {'left out, ' if self.skipped else ''}{self.what}"


@dataclass(slots=True)
class Sample:
    """A moment."""

    at_s: float
    rows: int
    """Written so far."""
    lag: dict[str, int]
    """Rows that wait, by role, as far as its processes say."""
    checkpoints: int
    """So far."""


@dataclass(slots=True)
class Timeline:
    """The whole run."""

    faults: list[Happened] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    recoveries: list[dict[str, Any]] = field(default_factory=list)
    """Who lost its partitions, when, and after how many seconds all of them had an owner, were recovered, were checkpointed again."""

    def note(self, losses: list[Loss], began: float) -> None:
        """Take over how long partitions went without an owner. `began`: wall time of the run's beginning."""
        self.recoveries = [
            {
                "who": loss.who,
                "at_s": loss.at - began,
                "recovered_s": loss.recovered_s,
                "checkpointed": loss.checkpointed,
                "taken_s": max(loss.taken.values(), default=None),
                "worked_s": max(loss.worked.values(), default=None),
                "last": loss.last,
                "left": sorted(loss.waiting),
            }
            for loss in losses
        ]

    def of(self, killed: bool) -> list[float]:
        """Recovery times of what was killed, or of what had fallen asleep, seconds."""
        return sorted(
            r["recovered_s"]
            for r in self.recoveries
            if r["recovered_s"] is not None and ("asleep" in r["who"]) != killed
        )

    @property
    def unrecovered(self) -> list[str]:
        """Who never got its partitions back."""
        return [f"{r['who']} at {r['at_s']:.0f} s: {', '.join(r['left'])}" for r in self.recoveries if r["left"]]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

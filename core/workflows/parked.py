"""Parked runs: a million of them, packed, found by id, by subject, and by when they are to be woken.

A run costs its packed bytes and some 350 more: no objects but its id, one key for its subject, and its place among the timers.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from core.workflows.run import Run, unpack
from core.workflows.timers import Timers

_AND: Final = "\x1f"
"""No tenant holds it."""
_SLACK: Final = 10_000
"""Timers of runs that have gone, or moved, before all are put anew."""


class Pins(NamedTuple):
    """What a run is pinned to: versions, by name ("": of its own workflow)."""

    tenant: str
    workflow: str
    versions: tuple[tuple[str, int], ...]
    shared: tuple[str, ...]
    """Those of the names whose definition is everybody's."""


def pins_of(run: Run) -> Pins:
    """What the run is pinned to."""
    return Pins(run.tenant, run.workflow, tuple(run.pins.items()), tuple(run.shared))


class Parked:
    """The runs of a desk that go on."""

    def __init__(self) -> None:
        self._runs: dict[str, bytes] = {}
        self._of: dict[str, str | list[str]] = {}
        """Whose → the run, or the runs, oldest first."""
        self._timers = Timers()
        self._renamed: set[str] = set()
        """Runs that were about other names before."""

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, run: str) -> bool:
        return run in self._runs

    def packed(self, run: str) -> bytes | None:
        """The run's row; None where it is not here."""
        return self._runs.get(run)

    def of(self, tenant: str, subject: str) -> list[str]:
        """The subject's runs, oldest first."""
        found = self._of.get(_whose(tenant, subject), [])
        return [found] if isinstance(found, str) else list(found)

    def named(self, workflow: str) -> list[str]:
        """Runs of workflows of that name, whosever; each is looked at."""
        return [run for run, value in self._runs.items() if unpack(value).workflow == workflow]

    def renamed(self) -> list[str]:
        """Runs that were about other names before."""
        return sorted(self._renamed)

    def subjects(self) -> list[tuple[str, str]]:
        """(tenant, subject) of all that have runs."""
        return [(tenant, subject) for tenant, _, subject in (whose.partition(_AND) for whose in self._of)]

    def keep(self, run: Run, packed: bytes, before: int | None = None) -> None:
        """Have it, or have it as it is now. `before`: when it was to be woken. Whose it is never changes while it is here."""
        if run.id not in self._runs:
            self._add(run.id, run.tenant, run.subject)
            if run.names:
                self._renamed.add(run.id)
        self._runs[run.id] = packed
        due = run.due
        if due is not None and due != before:
            self._timers.put(due, run.id)
            if len(self._timers) > 2 * len(self._runs) + _SLACK:
                self._wind()

    def drop(self, run: Run) -> None:
        """Have it no more. Its timer wakes nothing."""
        if self._runs.pop(run.id, None) is None:
            return
        self._renamed.discard(run.id)
        whose = _whose(run.tenant, run.subject)
        found = self._of[whose]
        if isinstance(found, str):
            del self._of[whose]
        else:
            found.remove(run.id)
            if len(found) == 1:
                self._of[whose] = found[0]

    # --- timers -----------------------------------------------------------------------------------------------------

    @property
    def due(self) -> int | None:
        """When the next one is to be woken at the earliest: it may have moved."""
        while (first := self._timers.first()) is not None and first[1] not in self._runs:
            self._timers.pop()
        return None if first is None else first[0]

    def wake(self, until: int) -> tuple[int, str] | None:
        """(when, run) of the earliest that is to be woken by then, once. One that has moved takes no such timer."""
        due = self.due
        first = self._timers.first()
        if due is None or due > until or first is None:
            return None
        self._timers.pop()
        return first

    # --- recovery ---------------------------------------------------------------------------------------------------

    def load(self, run: str, packed: bytes | None) -> None:
        """Take one row back (None: it is deleted after all); nothing else is right until `loaded`."""
        if packed is None:
            self._runs.pop(run, None)
        else:
            self._runs[run] = packed

    def loaded(self) -> Counter[Pins]:
        """Every row is there: find them by subject and time. What they are pinned to, and how many are.

        Raises `msgspec.MsgspecError` for a row that is no run.
        """
        pinned: Counter[Pins] = Counter()
        self._of.clear()
        self._renamed.clear()
        self._timers = Timers()
        for run, value in self._runs.items():
            found = unpack(value)
            self._add(run, found.tenant, found.subject)
            if found.names:
                self._renamed.add(run)
            if (due := found.due) is not None:
                self._timers.put(due, run)
            pinned[pins_of(found)] += 1
        return pinned

    # --- inside -----------------------------------------------------------------------------------------------------

    def _wind(self) -> None:
        """Put all timers anew, without those of runs that have gone or moved."""
        self._timers = Timers()
        for run, value in self._runs.items():
            if (due := unpack(value).due) is not None:
                self._timers.put(due, run)

    def _add(self, run: str, tenant: str, subject: str) -> None:
        whose = _whose(tenant, subject)
        found = self._of.setdefault(whose, run)
        if isinstance(found, list):
            found.append(run)
        elif found is not run:
            self._of[whose] = [found, run]


def _whose(tenant: str, subject: str) -> str:
    return f"{tenant}{_AND}{subject}"

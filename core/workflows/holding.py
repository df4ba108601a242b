"""What a desk holds: runs, packed, and what stands beside them, as rows of its state.

`changed` names the rows that a checkpoint has to write: `run` (a run), `workflow` (a version that runs are pinned to), `entry` (when a
subject last entered, where the policy asks), `recent` (named events of a subject, as long as some wait looks back), `publish` (a new
version that runs are still to move to), `gone`, `held`, `taken`, `early` (names that are another's), and the rows of `core.people`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from core.decide.packing import decode, read_key
from core.people.people import People
from core.workflows.aliases import ROWS as ALIASES
from core.workflows.aliases import Aliases
from core.workflows.entries import Entries
from core.workflows.graph import Library
from core.workflows.held import Held
from core.workflows.parked import Parked, pins_of
from core.workflows.publishing import Publishes
from core.workflows.recent import Recent
from core.workflows.run import Run, unpack
from core.workflows.shelf import Shelf

Row = tuple[str, ...]
_PEOPLE_ROWS: Final = frozenset(("person", "told", "heard"))


class Holding:
    """Holds runs. `shelf`: the workflows in force."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.library: Library = shelf.library
        self._parked = Parked()
        self._publishes = Publishes()
        self.people = People(shelf.catalogue)
        self.let_go: Counter[str] = Counter()
        """Reason → rows that profiles could not take, since the caller looked last."""
        self._generation = -1
        self.clock = 0
        """Event time up to which timers have been fired."""
        self.changed: set[Row] = set()
        self.recent = Recent(self.changed)
        self.entries = Entries(self.changed)
        self.aliases = Aliases(self.changed)
        publishes = self._publishes
        self.held = Held(self.library, self.changed, lambda p: shelf.in_force(*p) or publishes.holds(p))
        self.refused: Counter[str] = Counter()
        """Reason → triggers that began nothing, since the caller looked last."""

    def __len__(self) -> int:
        return len(self._parked)

    def going_on(self) -> dict[str, int]:
        """Workflow → its runs that go on."""
        return self.held.going_on()

    def run(self, id_: str) -> Run | None:
        """The run, as it stands; None where it is not here."""
        value = self._parked.packed(id_)
        return None if value is None else unpack(value)

    def let_go_of(self, run: Run) -> None:
        """The run is no longer here."""
        self._drop(run)

    def reentry(self, run: Run) -> str:
        """What the run's workflow says of a subject that has several runs: as it is in force, else as the run has it."""
        graph = self._shelf.named(run.tenant, run.workflow)
        graph = graph or self.library.get(run.tenant, run.workflow, run.pins[""], "" in run.shared)
        return "skip" if graph is None else graph.workflow.reentry

    def forget(self, holds: Callable[[str, str], bool]) -> int:
        """Drop everything about the subjects of which `holds(tenant, subject)`; how many rows went."""
        gone = 0
        for who in [w for w in self._parked.subjects() if holds(*w)]:
            for run in self.runs(*who):
                self._drop(run)
                gone += 1
        for run in [r for r in map(self.run, self._parked.renamed()) if r is not None]:
            if any(holds(run.tenant, name) for name in run.names):
                self._drop(run)
                gone += 1
        gone += self.entries.forget(holds) + self.aliases.forget(holds)
        return gone + self.recent.forget(holds) + self.people.forget(holds)

    def runs(self, tenant: str, subject: str) -> list[Run]:
        """The subject's runs that go on, oldest first."""
        found = (self._parked.packed(run) for run in self._parked.of(tenant, subject))
        return [unpack(value) for value in found if value is not None]

    def _drop(self, run: Run) -> None:
        """The run is over: nothing of it stays, nor of versions that only it needed."""
        self._parked.drop(run)
        self.changed.add(("run", run.id))
        self.held.unpin(pins_of(run))

    # --- rows -------------------------------------------------------------------------------------------------------

    def rows(self) -> Iterator[tuple[Row, bytes | None]]:
        """The rows that changed since the last call; None: the row is gone."""
        for row in sorted(self.changed):
            yield row, self._row(row)
        self.changed.clear()
        yield from ((tuple(read_key(name)), value) for name, value in self.people.drain())

    def _row(self, row: Row) -> bytes | None:
        match row:
            case ("run", run):
                return self._parked.packed(run)
            case ("workflow", tenant, name, version):
                return self.held.row((tenant, name, int(version)))
            case ("entry", tenant, workflow, subject, key):
                return self.entries.row(tenant, workflow, subject, key)
            case ("recent", tenant, subject):
                return self.recent.row((tenant, subject))
            case ("publish", *_):
                return self._publishes.packed(row)
            case (name, *_) if name in ALIASES:
                return self.aliases.row(row)
            case _:
                return None

    def load(self, row: Row, value: bytes) -> None:
        """Take one row back; every one of them before anything happens."""
        match row:
            case ("run", run):
                self._parked.load(run, value)
            case ("workflow", tenant, name, version):
                self.held.load((tenant, name, int(version)), value)
            case ("entry", tenant, workflow, subject, key):
                self.entries.load(tenant, workflow, subject, key, value)
            case ("recent", tenant, subject):
                self.recent.load((tenant, subject), value)
            case ("publish", *_):
                self.library.put(self._publishes.load(value).workflow)
            case (name, *_) if name in ALIASES:
                self.aliases.load(row, value)
            case (kind, *rest) if kind in _PEOPLE_ROWS:
                self.people.load(kind, rest, decode(value))
            case _:
                raise ValueError(f"no row of runs: {row}")

    def unload(self, row: Row) -> None:
        """A row that was loaded is deleted after all."""
        match row:
            case ("run", run):
                self._parked.load(run, None)
            case ("workflow", tenant, name, version):
                self.held.load((tenant, name, int(version)), None)
            case ("entry", tenant, workflow, subject, key):
                self.entries.load(tenant, workflow, subject, key, None)
            case ("recent", tenant, subject):
                self.recent.load((tenant, subject), None)
            case ("publish", *_):
                self._publishes.drop(row)
            case (name, *_) if name in ALIASES:
                self.aliases.load(row, None)
            case _:
                return

    def loaded(self) -> None:
        """Every row is there: count who is pinned to what. Raises `msgspec.MsgspecError` for a row that is no run."""
        self.held.loaded(self._parked.loaded())

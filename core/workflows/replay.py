"""Replaying a run from its history: the same jobs through today's code must give the same notes and commands."""

from __future__ import annotations

from collections.abc import Sequence

from core.workflows.graph import Library, Pinned
from core.workflows.jobs import Note, Order, Record, Start
from core.workflows.run import Run
from core.workflows.step import begin, take


def replay(library: Library, history: Sequence[Record]) -> list[str]:
    """What differs, one line each; nothing: today's code decides as it did then. `history`: of one run, in order.

    Raises `LookupError` where a version that the run is pinned to is not in the library.
    """
    if (
        not history
        or not isinstance(history[0].job, Start)
        or [r.seq for r in history] != [*range(1, len(history) + 1)]
    ):
        return ["the history is not whole: it begins with a start and has a record for each job"]
    first = history[0]
    graph = library.get(first.tenant, first.workflow, first.versions[""], "" in first.shared)
    if graph is None:
        raise LookupError(f"workflow {first.workflow} version {first.versions['']} is not at hand")
    run: Run | None = None
    for record in history:
        if run is None:
            assert isinstance(record.job, Start)
            pinned = Pinned(first.versions, first.shared)
            run, effects = begin(library, graph, record.tenant, record.job, record.now, pinned)
        else:
            effects = take(library, run, record.job, record.now)
        notes = [e for e in effects if isinstance(e, Note)]
        commands = [e.command.id for e in effects if isinstance(e, Order)]
        if found := _differs(record, notes, commands, run):
            return [f"job {record.seq} ({type(record.job).__name__.lower()}): {line}" for line in found]
    return []


def folded(library: Library, history: Sequence[Record]) -> Run:
    """The run after its history, by today's code. Raises `LookupError` where the history or a version is not whole."""
    first = history[0] if history else None
    if first is None or not isinstance(first.job, Start):
        raise LookupError("the history does not begin with a start")
    graph = library.get(first.tenant, first.workflow, first.versions[""], "" in first.shared)
    if graph is None:
        raise LookupError(f"workflow {first.workflow} version {first.versions['']} is not at hand")
    run, _ = begin(library, graph, first.tenant, first.job, first.now, Pinned(first.versions, first.shared))
    for record in history[1:]:
        take(library, run, record.job, record.now)
    return run


def _differs(record: Record, notes: list[Note], commands: list[str], run: Run) -> list[str]:
    found: list[str] = []
    for i in range(max(len(notes), len(record.notes))):
        then, today = (x[i] if i < len(x) else None for x in (record.notes, notes))
        if then != today:
            found.append(f"note {i + 1}: then {_shown(then)}, today {_shown(today)}")
            break
    if commands != record.commands:
        found.append(f"commands: then {record.commands}, today {commands}")
    if (run.status, run.outcome) != (record.status, record.outcome):
        found.append(f"status: then {record.status} {record.outcome}, today {run.status} {run.outcome}")
    return found


def _shown(note: Note | None) -> str:
    return "nothing" if note is None else f"{note.step or '(run)'} {note.what} {note.detail or ''}".strip()

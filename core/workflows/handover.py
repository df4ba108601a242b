"""What a desk hands over of a name that is another's, and how the other name's desk takes it in: rows of a desk, one after the other.

Rows: `run` (with the versions that it is pinned to), `entry`, `recent`, `waits` (something that is to count when event time has passed
it), `person` (what is known of the former name, so that runs do not lose sight of it before DECIDE tells it too). `end` comes last.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from core.people.people import Told
from core.workflows.desk import Desk
from core.workflows.happened import Came, Occurrence
from core.workflows.held import definition_of
from core.workflows.jobs import Cancel, Event, Renamed
from core.workflows.parked import pins_of
from core.workflows.run import Run, pack, unpack
from schemas.definitions import DEFINITION, Workflow

Row = tuple[list[str], bytes]
END: Final[Row] = (["end"], b"")
MERGED: Final = "merged"
"""Why a run ended: another one of the same workflow and key was about the same person."""
_encode = msgspec.msgpack.Encoder().encode
_events = msgspec.msgpack.Decoder(list[Event]).decode
_occurrence = msgspec.msgpack.Decoder(Occurrence).decode
_entered = msgspec.msgpack.Decoder(int).decode
_run_row = msgspec.msgpack.Decoder(tuple[bytes, list[bytes]]).decode
_person = msgspec.msgpack.Decoder().decode


def leave(desk: Desk, tenant: str, subject: str, at: int, now: int) -> tuple[list[Came], list[Row]]:
    """Let go of everything about a subject that was aliased at `at`: what its runs came to until then, and the rows to hand over."""
    came = [one for run in desk.runs(tenant, subject) for one in desk.caught_up(run.id, at, now)]
    runs = desk.runs(tenant, subject)
    rows: list[Row] = []
    for product in sorted({run.product for run in runs if desk.held.persons(pins_of(run))}):
        rows.append((["person", product], _encode(desk.people.known(tenant, product, subject))))
    for run in runs:
        needed = [DEFINITION.dump_json(workflow) for workflow in desk.held.workflows(pins_of(run))]
        rows.append((["run", run.id], _encode([pack(run), needed])))
        desk.let_go_of(run)
    rows += [(["entry", name, key], _encode(last)) for name, key, last in desk.entries.take_away(tenant, subject)]
    recent = desk.recent.take_away((tenant, subject))
    if recent is not None:
        rows.append((["recent"], recent))
    for product, told in desk.people.take_away(tenant, subject):
        rows.append((["waits", product, told.cause], told.signal))
    return came, [*rows, END]


def arrive(
    desk: Desk, tenant: str, subject: str, former: str, row: list[str], value: bytes, at: int, cause: str, now: int
) -> list[Came]:
    """Take in one row that was another name's until `at`. Raises `msgspec.MsgspecError` or `ValueError` for what is none."""
    match row:
        case ["person", product]:
            return desk.merged(tenant, product, subject, _person(value), at, cause, now)
        case ["run", _]:
            packed, needed = _run_row(value)
            for found in map(definition_of, needed):
                if isinstance(found, Workflow):
                    desk.library.put(found)
            return _run(desk, unpack(packed), subject, at, now)
        case ["entry", workflow, key]:
            desk.entries.enter(tenant, workflow, subject, key, _entered(value))
            return []
        case ["recent"]:
            for event in _events(value):
                desk.recent.add((tenant, subject), event)
            return []
        case ["waits", product, key]:
            what = _occurrence(value)
            what = replace(what, subject=subject, data={**what.data, "subject": subject})
            told = Told(what.at, f"{key}@{former}", None, ["runs"], _encode(what), now)
            return desk.came(desk.people.take((tenant, product, subject), told), now)
        case _:
            return []


def _run(desk: Desk, run: Run, subject: str, at: int, now: int) -> list[Came]:
    """The run goes on under this name: it hears what happened under it since the alias and was told before."""
    if desk.run(run.id) is not None:
        return []
    came = desk.adopt(run, Renamed(at, subject), now)
    asks = desk.held.persons(pins_of(run))
    for event in [] if asks else desk.recent.between((run.tenant, subject), at, _EVER):
        came += desk.take(run.id, event, now)
    return came + _one_of(desk, run, subject, at, now)


def _one_of(desk: Desk, run: Run, subject: str, at: int, now: int) -> list[Came]:
    """Where the workflow lets a subject have one run at a time, the one that began first goes on (with `restart`: the one that began
    last), and the others end.
    """
    came: list[Came] = []
    same = [r for r in desk.runs(run.tenant, subject) if (r.workflow, r.key) == (run.workflow, run.key)]
    policy = desk.reentry(run)
    if policy == "parallel" or len(same) < 2:
        return came
    for one in same:
        came += desk.caught_up(one.id, at, now)
    same = [r for r in desk.runs(run.tenant, subject) if (r.workflow, r.key) == (run.workflow, run.key)]
    same.sort(key=lambda r: (r.began, r.id), reverse=policy == "restart")
    for other in same[1:]:
        came += desk.take(other.id, Cancel(at, MERGED), now)
    return came


_EVER: Final = 1 << 62

"""Workflows of tests, in few words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from core.definitions import Catalogue
from core.workflows.desk import Came, Desk, Occurrence
from core.workflows.shelf import Shelf
from schemas.definitions import Workflow

T0 = 1_767_603_600_000  # Monday, 5 January 2026, 09:00 UTC
S, H = 1_000, 3_600_000
TYPED: dict[str, Any] = {"kind": "compare", "field": "type", "op": "=="}
COMMAND = {"type": "sales.task.create", "title": "t", "text": "t"}


def act(id_: str, next_: str | None = None, **more: Any) -> dict[str, Any]:
    return {"kind": "act", "id": id_, "command": COMMAND, "next": next_, **more}


def workflow(*nodes: dict[str, Any], **more: Any) -> Workflow:
    body: dict[str, Any] = {
        "name": "w",
        "id": "w",
        "trigger": {"kind": "event", "topic": "events.usage", "where": {**TYPED, "value": "go"}},
        "start": nodes[0]["id"],
        "nodes": list(nodes),
        "events": {n: {"where": {**TYPED, "value": n}} for n in ("opened", "bought")},
        **more,
    }
    return Workflow.model_validate(body)


class Stage:
    """One subject and a desk."""

    def __init__(self, *workflows: Workflow) -> None:
        self.catalogue = Catalogue()
        for one in workflows:
            self.catalogue.put(one)
        self.desk = Desk(Shelf(self.catalogue))
        self.came: list[Came] = []
        self.number = 0
        self.rows: dict[tuple[str, ...], bytes] = {}

    def crash(self, older: Callable[[Any], Any] = lambda row: row) -> None:
        """A new desk, from the rows that this one would have written. `older`: rows of runs as an older version wrote them."""
        for row, value in self.desk.rows():
            if value is None:
                self.rows.pop(row, None)
            else:
                self.rows[row] = value
        self.desk = Desk(Shelf(self.catalogue))
        for row, value in self.rows.items():
            if row[0] == "run":
                value = msgspec.msgpack.encode(older(msgspec.msgpack.decode(value)))
            self.desk.load(row, value)
        self.desk.loaded()

    def event(self, at: int, type_: str = "go", told: int | None = None, **data: Any) -> None:
        """`told`: when, if not at once."""
        self.number += 1
        told = at if told is None else told
        body = {"type": type_, **data}
        past = told - at > 24 * H
        what = Occurrence("acme", "shop", "user:u", f"e{self.number}", at, "events.usage", body, past=past)
        self.came += self.desk.happened(what, told)

    def advance(self, at: int) -> None:
        self.came += self.desk.advance(at, at)

    @property
    def steps(self) -> list[tuple[str, int]]:
        """(step, event time since T0 in seconds) of every command."""
        return [(c.step, (c.issued_at - T0) // S) for came in self.came for c in came.commands]

    @property
    def status(self) -> str:
        return self.came[-1].record.status

"""One DELIVER task with its connections, its state topic and a clock that tests set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.definitions import Catalogue
from core.delivery.deliver import Attempt, DeliverTask
from core.delivery.dispatch import bind
from core.effects import DeadLetter, Effect, Emit
from schemas.commands import Command
from schemas.definitions import Connection
from schemas.delivery import Delivered, Outcome, Receipt
from tests.helpers.words import NOON, a_batch

OK = Delivered()
DAY = 86_400_000


class Rig:
    """One DELIVER task, its definitions, and a clock."""

    def __init__(self, *connections: Connection, max_waiting: int = 100_000, max_all: int = 400_000) -> None:
        self.catalogue = Catalogue()
        self.connections = {c.name: c for c in connections}
        for connection in connections:
            self.catalogue.put(connection)
        self.task = DeliverTask(0, self.catalogue, max_waiting=max_waiting, max_all=max_all)
        self.now = NOON
        self.effects: list[Effect] = []
        self.state: dict[bytes, bytes] = {}
        self.offset = 0

    def take(self, command: Command, connection: str = "hook") -> None:
        emit = bind(command, self.connections[connection])
        batch = a_batch(emit.topic, [emit.value], keys=[emit.key], first=self.offset, at=self.now)
        self.offset += 1
        self.effects += self.task.step(batch)

    def due(self, free: int = 1_000) -> list[Attempt]:
        return self.task.due(self.now, free)

    def finish(self, attempt: Attempt, outcome: Outcome, also: Sequence[Effect] = ()) -> list[Effect]:
        effects = self.task.finished(attempt, outcome, self.now, took_ms=5.0, also=also)
        self.effects += effects
        return effects

    def tick(self) -> list[Effect]:
        effects = list(self.task.tick(self.now, ()))
        self.effects += effects
        return effects

    def checkpoint(self) -> None:
        for key, value in self.task.drain():
            if value is None:
                del self.state[key]
            else:
                self.state[key] = value

    def crash(self) -> None:
        """Everything since the last checkpoint is lost."""
        self.task = DeliverTask(0, self.catalogue)
        for key, value in self.state.items():
            self.task.load(key, value)
        self.task.loaded()

    def receipts(self) -> list[Receipt]:
        return [
            Receipt.model_validate_json(e.value or b"")
            for e in self.effects
            if isinstance(e, Emit) and e.topic == "receipts"
        ]

    def dead(self) -> list[DeadLetter]:
        return [e for e in self.effects if isinstance(e, DeadLetter)]

    def difference(self) -> int:
        return self.task.accounts.difference(self.task.waiting)


def hook(name: str = "hook", **changed: Any) -> Connection:
    values: dict[str, Any] = {"tenant": "acme", "name": name, "integration": "webhook", "config": {}, "enabled": True}
    return Connection(**{**values, **changed})

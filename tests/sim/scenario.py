"""A task under test: its spec, the rows it is fed, and what a log of them implies."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Protocol

from agents.pump import Pump
from agents.rooms import Wires
from core.task import TaskSpec
from tests.sim.broker import Broker
from tests.sim.log import Row
from tests.sim.net import Net
from transport.state import POSITIONS


class Scenario(Protocol):
    """Its task reads `topics` (without prefix), keeps its state in `state.sim` and writes `outputs`."""

    group: str
    topics: tuple[str, str]
    outputs: tuple[str, ...]

    def specs(self, partitions: int) -> list[TaskSpec]:
        """Its own spec, and those of the tasks that read what it writes."""

    def pump(self, wires: Wires, net: Net) -> Pump | None:
        """What works beside the agents of a worker, where something does."""

    def beside(self, topic: str) -> bytes | None:
        """A row that every source partition gets after each write."""

    def first(self, topic: str) -> bytes | None:
        """A row that every source partition begins with."""

    def row(self, topic: str, partition: int, key: bytes, sequence: int, at: int, random: Random) -> bytes:
        """The n-th committed row of a key in a source partition, at broker time `at`."""

    def never(self) -> bytes:
        """A row that nobody must see."""

    def differences(self, broker: Broker, partition: int) -> list[str]:
        """State and outputs of a partition against the fold of its log, in words."""


def live(broker: Broker, partition: int) -> dict[bytes, bytes]:
    """The committed state of a partition, key by key."""
    found: dict[bytes | None, bytes | None] = {row.key: row.value for row in state_rows(broker, partition)}
    return {key: value for key, value in found.items() if key is not None and value is not None}


def state_rows(broker: Broker, partition: int) -> Iterator[Row]:
    """The committed rows of a state partition, without positions."""
    rows = broker.topics["p.state.sim"][partition].committed()
    return (row for row in rows if row.key is not None and not row.key.startswith(POSITIONS))

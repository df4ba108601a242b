"""DISPATCH and DELIVER on the simulated Kafka, with the pump that sends: commands in, deliveries between, arrivals and receipts out.

Both tasks, the pump, the attempts and the webhook integration are the real ones. What comes of them is judged by `delivered`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from random import Random

from agents.pump import Pump
from agents.rooms import Rooms, Wires
from core.definitions import Catalogue
from core.delivery.deliver import deliver_spec
from core.delivery.dispatch import dispatch_spec
from core.task import TaskSpec
from schemas.commands import Command, Why, command_id
from schemas.definitions import Connection
from tests.sim import delivered
from tests.sim.broker import Broker
from tests.sim.destination import Destination
from tests.sim.net import Net

TOPICS = ("commands.success", "commands.product")
DELIVERIES = ("deliveries.webhook.urgent", "deliveries.webhook")
HOUR_MS = 3_600_000


class Delivering:
    """Commands of two domains for three connections of a tenant, one of them sandboxed."""

    group = "commands"
    topics = TOPICS
    outputs = (*DELIVERIES, "receipts", "sink")

    def __init__(self) -> None:
        self.destination = Destination()
        self.catalogue = Catalogue()
        for connection in (
            _connection("hook", min_priority="normal", max_concurrency=2),
            _connection("desk", domains=["success"], max_concurrency=1, rate_per_s=8.0),
            _connection("box", domains=["product"], min_priority="normal", enabled=False),
        ):
            self.catalogue.put(connection)
        self._rows = 0
        self._written: defaultdict[tuple[str, int], list[bytes]] = defaultdict(list)

    def specs(self, partitions: int) -> list[TaskSpec]:
        """Both groups of the role, as it registers them; only of the topics that are used."""
        return [
            replace(dispatch_spec(self.catalogue), topics=TOPICS, state_topic="state.sim"),
            replace(deliver_spec(self.catalogue), topics=DELIVERIES),
        ]

    def pump(self, wires: Wires, net: Net) -> Pump:
        """As the role's own; the specs differ by their topics only."""
        self.destination.net = net
        rooms = Rooms(wires, self.catalogue, outside=self.destination, now=lambda: int(net.loop.wall() * 1000))
        return Pump(rooms, deliver_spec(self.catalogue))

    def beside(self, topic: str) -> bytes | None:
        return None

    def first(self, topic: str) -> bytes | None:
        return None

    def row(self, topic: str, partition: int, key: bytes, sequence: int, at: int, random: Random) -> bytes:
        """One command in eight comes twice, one in eight is too late, and one in eight nobody will take."""
        draw, before = random.random(), self._written[topic, partition]
        if before and draw < 0.125:
            return before[int(random.random() * len(before))]
        self._rows += 1
        cause, rule = f"row {self._rows}", "A1.2"
        priority = ("urgent", "normal", "low")[int(random.random() * 3)]
        command = Command(
            id=command_id("acme", rule, f"user:{key.decode()}", cause),
            tenant="acme",
            product="app",
            type=f"{topic.removeprefix('commands.')}.user.help",
            subject=f"user:{key.decode()}",
            rule=rule,
            rule_version=1,
            cause=cause,
            priority=priority,  # type: ignore[arg-type]
            issued_at=at,
            expires_at=at - 1 if draw > 0.875 else at + HOUR_MS,
            title="Help",
            text="Help them.",
            payload={"refused": 0.75 < draw <= 0.875},
            why=Why(rule=rule, rule_version=1, reason="Planted.", numbers={}, thresholds={}, links={}),
        )
        before.append(command.model_dump_json().encode())
        return before[-1]

    def never(self) -> bytes:
        return b'{"never": true}'

    def differences(self, broker: Broker, partition: int) -> list[str]:
        return delivered.dispatch(broker, partition) + (
            delivered.all_of(broker, self.destination) if partition == 0 else []
        )


def _connection(name: str, **more: object) -> Connection:
    config = {"url": f"https://example.com/{name}", "secret": {"env": "SECRET"}, "timeout_s": 0.5}
    values = {"enabled": True, "max_attempts": 1_000, **more}
    return Connection(tenant="acme", name=name, integration="webhook", config=config, **values)  # type: ignore[arg-type]

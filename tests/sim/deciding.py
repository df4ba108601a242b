"""METER feeding the real DECIDE on the simulated Kafka: rows in, registers and signals between, commands out.

Every write moves the clocks of all source partitions, so that ends are judged all the way while workers die. METER is judged
as in `metering`, DECIDE's commands by `orders`.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from core.decide.signals import signals_spec
from core.decide.task import registers_spec
from core.definitions import Catalogue
from core.meter.task import PERFORMANCE, MeterTask
from core.task import TaskSpec
from schemas.definitions import CommandTemplate, Compare, OnBand, OnEvent, OnStage, Product, Rule
from tests.core.meter.logs import marker
from tests.sim import orders
from tests.sim.broker import Broker
from tests.sim.metering import BEGIN, MAX_IDS, Metering

PACE_MS = 15_000
STAGES, BANDS = ["low", "growth", "market"], ["critical", "declining", "stable", "optimal"]


def rules() -> list[Rule]:
    """With and without cool-down, with ceilings low enough to be met; on detections and on single rows."""

    def rule(name: str, trigger: Any, **more: Any) -> Rule:
        command = CommandTemplate(type="success.user.help", title=name, text="{{ subject }}")
        return Rule(name=name, id=name, trigger=trigger, command=command, **more)

    slow = Compare(field="latency_ms", op=">", value=3)
    fond = Compare(field="feature", op="==", value="x")
    return [
        rule("stage", OnStage(stages=STAGES), cooldown_s=90, ceiling_per_hour=9),  # type: ignore[arg-type]
        rule("growth", OnStage(stages=["growth", "market"]), ceiling_per_hour=4),
        rule("band", OnBand(bands=BANDS), cooldown_s=60),  # type: ignore[arg-type]
        rule("fond", OnEvent(topic="events.usage", where=fond), cooldown_s=120, ceiling_per_hour=12),
        rule("any", OnEvent(topic="events.usage"), ceiling_per_hour=20),
        rule("slow", OnEvent(topic="events.performance", where=slow, subject="service"), cooldown_s=60),
    ]


class Clocked(Metering):
    """METER under definitions, whose clocks move with every write: for those who judge or fire by them."""

    catalogue: Catalogue

    def _task(self, partition: int, partitions: int) -> MeterTask:
        return MeterTask(partition, partitions, self.catalogue, max_ids=MAX_IDS)

    def first(self, topic: str) -> bytes | None:
        return marker("begun", BEGIN, BEGIN, products=["app"]).value

    def beside(self, topic: str) -> bytes | None:
        return marker("progressed", BEGIN + self._rows * PACE_MS, BEGIN).value


class Deciding(Clocked):
    """Usage and requests of one product whose stages and bands change every few rows."""

    outputs = (
        *Metering.outputs, "detections", "commands.success", "receipts", "tables.adoption", "tables.health",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.rules = rules()
        self.catalogue = Catalogue()
        self.catalogue.put(
            Product(tenant="acme", name="app", stage_window="5m", health_window="5m", min_target_users=1, disorder_ms=0)
        )
        for rule in self.rules:
            self.catalogue.put(rule)

    def specs(self, partitions: int) -> list[TaskSpec]:
        """METER's and DECIDE's groups, as their roles register them."""
        return [
            self.spec(partitions),
            registers_spec(self.catalogue, partitions),
            signals_spec(self.catalogue, partitions),
        ]

    def row(self, topic: str, partition: int, key: bytes, sequence: int, at: int, random: Random) -> bytes:
        self._rows += 1
        body: dict[str, Any] = {
            "id": f"e{self._rows - (random.random() < 0.125)}",  # one row in eight comes twice
            "tenant": "acme",
            "product": "app",
            "occurred_at": BEGIN + self._rows * PACE_MS,
        }
        if topic == PERFORMANCE:
            body |= {"type": "request.completed", "service": "api", "latency_ms": 1 + self._rows % 7}
            body["error"] = random.random() < 0.3
        else:
            body |= {"type": "feature.used", "feature": key.decode(), "user": f"u{int(random.random() * 5)}"}
        return json.dumps(body).encode()

    def differences(self, broker: Broker, partition: int) -> list[str]:
        plain = [rule.model_dump(mode="json") for rule in self.rules]
        found = super().differences(broker, partition) + orders.of_registers(broker, partition, self.catalogue, plain)
        return found + (orders.commands(broker, self.catalogue, plain) if partition == 0 else [])

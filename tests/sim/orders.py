"""What DECIDE must have ordered, by an oracle that knows nothing of workers, checkpoints or transactions.

Detections: one uninterrupted fold of the committed registers of a partition. Commands of detections: `app.oracle.commands`, which
shares no code with DECIDE either. Commands of signals: the few plain lines below. Compared with the ids that stand
committed, each with how often it is there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from app.oracle.commands import ordered
from app.oracle.judged import Found, identity
from core.batch import Batch
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Emit
from tests.core.meter.logs import Record, batch
from tests.sim.broker import Broker
from tests.sim.log import Row
from tests.sim.summing import compare

HOUR_MS = 3_600_000
Rules = list[dict[str, Any]]


def committed(broker: Broker, topic: str, partition: int | None = None) -> list[Row]:
    """Committed rows of a topic, of one partition or of all."""
    logs = broker.topics[f"p.{topic}"]
    return [row for log in (logs if partition is None else [logs[partition]]) for row in log.committed()]


def of_registers(broker: Broker, partition: int, catalogue: Catalogue, rules: Rules) -> list[str]:
    """Detections against one uninterrupted fold; commands, by id, against what the detections imply."""
    count = len(broker.topics["p.meter.registers"])
    once = RegistersTask(partition, count, catalogue)
    told = [e for e in once.step(_batch(broker, "meter.registers", partition)) if isinstance(e, Emit)]
    found = [json.loads(e.value or b"") for e in told if e.topic == "detections"]
    plain = [Found(f["id"], f["kind"], f["tenant"], f["product"], f["subject"], f["at"], f) for f in found]
    right = Counter(order.id for order in ordered(plain, rules)[0])
    ours = Counter(_ids(e.value for e in told if e.topic == "commands.success"))
    return compare(f"commands of the fold of registers {partition}", right, ours)


def commands(broker: Broker, catalogue: Catalogue, rules: Rules) -> list[str]:
    """Committed command ids, each with how often it is there, against detections and signals."""
    right: Counter[str] = Counter()
    for partition in range(len(broker.topics["p.meter.registers"])):
        task = RegistersTask(partition, len(broker.topics["p.meter.registers"]), catalogue)
        told = [e for e in task.step(_batch(broker, "meter.registers", partition)) if isinstance(e, Emit)]
        found = [json.loads(e.value or b"") for e in told if e.topic == "detections"]
        plain = [Found(f["id"], f["kind"], f["tenant"], f["product"], f["subject"], f["at"], f) for f in found]
        right.update(order.id for order in ordered(plain, rules)[0])
        right.update(_of_signals(broker, partition, {r["name"]: r for r in rules}))
    return compare("commands", right, Counter(_ids(row.value for row in committed(broker, "commands.success"))))


def _of_signals(broker: Broker, partition: int, rules: Mapping[str, dict[str, Any]]) -> Iterable[str]:
    count = len(broker.topics["p.signals"])
    hours: Counter[tuple[str, int]] = Counter()
    cooled: set[tuple[str, str, int]] = set()
    for row in committed(broker, "signals", partition):
        signal = json.loads(row.value or b"")
        for rule in sorted((rules[name] for name in signal["rules"]), key=lambda r: r["id"]):
            at, width = signal["at"], rule["cooldown_s"] * 1000
            bucket = at // width * width if width else None
            hour = rule["name"], at // HOUR_MS
            once = None if bucket is None else (rule["name"], signal["subject"], bucket)
            if once in cooled or hours[hour] >= -(-rule["ceiling_per_hour"] // count):
                continue
            hours[hour] += 1
            if once is not None:
                cooled.add(once)
            cause = signal["cause"] if bucket is None else str(bucket)
            yield identity("command", signal["tenant"], rule["id"], signal["subject"], cause, "1")


def _ids(values: Iterable[bytes | None]) -> Iterable[str]:
    return (json.loads(value or b"")["id"] for value in values)


def _batch(broker: Broker, topic: str, partition: int) -> Batch:
    log = broker.topics[f"p.{topic}"][partition]
    rows, times = log.committed(), log.times()
    return batch([Record(row.value, times[row.offset], row.key or b"") for row in rows], topic, 0, partition)

"""What DISPATCH and DELIVER must have done, by an oracle that reads the committed log and knows nothing of tasks or workers.

Every command that is neither late nor a repeat goes to each connection that wants it: once as a delivery, under one id in all
attempts, with the attempts' receipts numbered from 1 without a gap and one of them final, and it has arrived.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.oracle.judged import identity
from tests.sim.broker import Broker
from tests.sim.destination import Destination
from tests.sim.orders import committed
from tests.sim.summing import compare
from transport.state import POSITIONS

TOPICS = ("commands.success", "commands.product")


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that there must be."""

    id: str
    connection: str
    command: str
    refused: bool


@dataclass(slots=True)
class Dispatched:
    """What the commands of some partitions come to."""

    commands: int
    taken: set[str]
    """Ids of those that are remembered."""
    due: list[Due]
    suppressed: Counter[tuple[str, str]]
    """(command, reason)"""


def _expected(broker: Broker, partition: int) -> Dispatched:
    found = Dispatched(0, set(), [], Counter())
    for topic in TOPICS:
        times = broker.topics[f"p.{topic}"][partition].times()
        for row in committed(broker, topic, partition):
            command = json.loads(row.value or b"")
            id_ = command["id"]
            found.commands += 1
            if times[row.offset] >= command["expires_at"]:
                found.suppressed[id_, "expired"] += 1
            elif id_ in found.taken:
                found.suppressed[id_, "duplicate"] += 1
            else:
                found.taken.add(id_)
                names = list(_wanting(command))
                if not names:
                    found.suppressed[id_, "no_connection"] += 1
                found.due += [
                    Due(identity("delivery", "acme", id_, f"acme|{n}"), n, id_, command["payload"]["refused"])
                    for n in names
                ]
    return found


def _wanting(command: dict[str, Any]) -> Iterator[str]:
    success = command["type"].startswith("success.")
    if command["priority"] != "low":
        yield "hook"
        if not success:
            yield "box"
    if success:
        yield "desk"


def dispatch(broker: Broker, partition: int) -> list[str]:
    """A partition's ledger and accounts against its log."""
    wanted, kept = _expected(broker, partition), _state(broker, "state.sim", partition)
    ledger = Counter(key.decode() for key in kept if key.startswith(b"ledger|"))
    found = compare(f"ledger of partition {partition}", Counter(f"ledger|acme|{i}" for i in wanted.taken), ledger)
    counted = Counter(json.loads(kept.get(b"counters", b"{}")))
    silent = Counter(reason for _, reason in wanted.suppressed.elements())
    right = Counter(
        commands=wanted.commands,
        suppressed=silent["expired"] + silent["duplicate"],
        left=silent["no_connection"],
        routed=len({due.command for due in wanted.due}),
        deliveries=len(wanted.due),
    )
    return found + compare(f"accounts of DISPATCH, partition {partition}", right, counted)


def all_of(broker: Broker, destination: Destination) -> list[str]:
    """Deliveries, receipts, arrivals, the sink, dead letters and the rows that wait, of all partitions."""
    parts = [_expected(broker, n) for n in range(len(broker.topics[f"p.{TOPICS[0]}"]))]
    due = {d.id: d for part in parts for d in part.due}
    bodies = [
        json.loads(row.value or b"")
        for topic in ("deliveries.webhook", "deliveries.webhook.urgent")
        for row in committed(broker, topic)
    ]
    found = compare("deliveries", Counter(due.keys()), Counter(body["id"] for body in bodies))
    found += _receipts(broker, due, sum((part.suppressed for part in parts), Counter()))
    found += _arrivals(destination, due)
    boxed = Counter(d.id for d in due.values() if d.connection == "box")
    found += compare(
        "sink", boxed, Counter(json.loads(row.value or b"")["delivery"] for row in committed(broker, "sink"))
    )
    letters = [json.loads(row.value or b"") for row in committed(broker, "dead-letters") if _of_delivery(row.headers)]
    refused = Counter(d.id for d in due.values() if d.refused and d.connection != "box")
    found += compare("dead letters of deliveries", refused, Counter(letter["id"] for letter in letters))
    return found + _waiting(broker, len(due), sum(refused.values()))


def _receipts(broker: Broker, due: dict[str, Due], suppressed: Counter[tuple[str, str]]) -> list[str]:
    tried: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    silent: Counter[tuple[str, str]] = Counter()
    for row in committed(broker, "receipts"):
        receipt = json.loads(row.value or b"")
        if receipt["delivery"] is None:
            silent[receipt["command"], receipt["reason"]] += 1
        else:
            tried[receipt["delivery"]].append((receipt["attempt"], receipt["status"]))
    found = compare("receipts of what was suppressed", suppressed, silent)
    for id_, wanted in due.items():
        attempts = sorted(tried.pop(id_, []))
        end = "rejected" if wanted.refused and wanted.connection != "box" else "delivered"
        right = [(n, "retrying") for n in range(1, len(attempts))] + [(max(1, len(attempts)), end)]
        if attempts != right:
            found.append(f"receipts of {wanted.connection} for {wanted.command}: {attempts}, not ending in {end}")
    return found + [f"receipts of a delivery that nobody ordered: {id_}" for id_ in tried]


def _arrivals(destination: Destination, due: dict[str, Due]) -> list[str]:
    sent = {(d.connection, d.command, d.id): 422 if d.refused else 200 for d in due.values() if d.connection != "box"}
    answers: defaultdict[tuple[str, str, str], set[int]] = defaultdict(set)
    for arrival in destination.arrivals:
        answers[arrival.connection, arrival.command, arrival.id].add(arrival.status)
    found = [f"arrived under an id that is not its own: {place}" for place in answers if place not in sent]
    return found + [f"never arrived: {place}" for place, last in sent.items() if last not in answers[place]]


def _waiting(broker: Broker, due: int, refused: int) -> list[str]:
    counted: Counter[str] = Counter()
    found: list[str] = []
    for partition in range(len(broker.topics["p.state.deliver"])):
        kept = _state(broker, "state.deliver", partition)
        found += [f"still waits in partition {partition}: {key!r}" for key in kept if key.startswith(b"row|")]
        counted.update(json.loads(kept.get(b"counters", b"{}")))
    right = Counter(received=due, delivered=due - refused, rejected=refused)
    return found + compare("accounts of DELIVER", right, counted)


def _state(broker: Broker, topic: str, partition: int) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for row in committed(broker, topic, partition):
        if row.key is None or row.key.startswith(POSITIONS):
            continue
        if row.value is None:
            found.pop(row.key, None)
        else:
            found[row.key] = row.value
    return found


def _of_delivery(headers: Any) -> bool:
    return bool(dict(headers)["uptake-step"] == b"deliver")

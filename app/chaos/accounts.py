"""The accounts of the whole system, from its state and its topics: every sum twice, by two roads, and the difference is zero.

matched = commanded + suppressed + failed · commanded = commands on the topics = taken by DISPATCH = suppressed + left + routed ·
deliveries made = deliveries on the topics = received = delivered + suppressed + rejected + waiting · each end has its receipt
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

from app.compare import Difference
from app.kafka import bootstrap, read
from app.settings import Settings
from core.decide.packing import decode, key
from core.delivery.accounts import Dispatched, Ended
from core.rules.acting import Books
from schemas.commands import DOMAINS
from schemas.topics import INTEGRATIONS_WITH_TOPICS
from transport.state import read_state

COUNTERS, ROW, BOOKS = b"counters", b"row|", key("books")
COMMANDS = tuple(f"commands.{d}" for d in DOMAINS)
DELIVERIES = tuple(f"deliveries.{i}{u}" for i in INTEGRATIONS_WITH_TOPICS for u in ("", ".urgent"))


@dataclass(slots=True)
class Accounts:
    """Sums over all partitions."""

    books: Books = field(default_factory=Books)
    dispatched: Dispatched = field(default_factory=Dispatched)
    ended: Ended = field(default_factory=Ended)
    waiting: int = 0
    commands: Counter[str] = field(default_factory=Counter)
    """Command id → records."""
    deliveries: int = 0
    """Records."""
    receipts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(what it is about, status) of final receipts: a `command` that came to nothing, or a `delivery`."""
    delivered: set[str] = field(default_factory=set)
    """Ids of deliveries with a receipt that says so."""

    @property
    def still(self) -> bool:
        """Whether nothing is on its way any more."""
        return (
            not self.waiting
            and self.dispatched.commands == self.commands.total()
            and self.ended.received == self.deliveries
        )

    def compare(self) -> Difference:
        """Both sides of every sum."""
        out = Difference("sums of the accounts")
        books, sent, ended, receipts = self.books, self.dispatched, self.ended, self.receipts
        out.check("matched = commanded + suppressed + failed", books.matched,
                  books.commanded + books.suppressed + books.failed)  # fmt: skip
        out.check("commanded = commands on the topics", books.commanded, self.commands.total())
        out.check("commands on the topics = different ids", self.commands.total(), len(self.commands))
        out.check("commands on the topics = taken by DISPATCH", self.commands.total(), sent.commands)
        out.check("taken = suppressed + left + routed", sent.commands, sent.suppressed + sent.left + sent.routed)
        out.check("suppressed (as matches, as commands) + left = receipts that say so", books.suppressed + sent.suppressed + sent.left,
                  receipts["command", "suppressed"])  # fmt: skip
        out.check("failed = receipts that say so", books.failed, receipts["command", "failed"])
        out.check("deliveries made = deliveries on the topics", sent.deliveries, self.deliveries)
        out.check("deliveries on the topics = received by DELIVER", self.deliveries, ended.received)
        out.check("received = delivered + suppressed + rejected + waiting", ended.received,
                  ended.delivered + ended.suppressed + ended.rejected + self.waiting)  # fmt: skip
        for status in ("delivered", "rejected"):
            out.check(f"{status} = receipts that say so", getattr(ended, status), receipts["delivery", status])
        return out

    def line(self) -> str:
        """For people."""
        b, d, e = self.books, self.dispatched, self.ended
        return (
            f"matched {b.matched:,} = commanded {b.commanded:,} + suppressed {b.suppressed:,} + failed {b.failed:,}; "
            f"commands {d.commands:,} = suppressed {d.suppressed:,} + left {d.left:,} + routed {d.routed:,}; "
            f"deliveries {e.received:,} = delivered {e.delivered:,} + suppressed {e.suppressed:,} + rejected {e.rejected:,} "
            f"+ waiting {self.waiting:,}"
        )


async def gather(settings: Settings, partitions: int) -> Accounts:
    """Reads state and topics as they stand. Raises `NoKafka`, `MissingTopic`."""
    made, servers = Accounts(), bootstrap(settings)
    for name in ("decide.registers", "decide.signals", "decide.outcomes", "dispatch", "deliver"):
        for partition in range(partitions):
            rows: dict[bytes, bytes | None] = {}
            async for at, value in read_state(servers, settings.topic(f"state.{name}"), partition):
                rows[at] = value
            _add(made, name, {at: value for at, value in rows.items() if value is not None})
    async for record in read(settings, (*COMMANDS, *DELIVERIES, "receipts")):
        if record.value is None:
            continue
        if record.topic in COMMANDS:
            made.commands[orjson.loads(record.value)["id"]] += 1
        elif record.topic == "receipts":
            _receipt(made, orjson.loads(record.value))
        else:
            made.deliveries += 1
    return made


def _add(made: Accounts, name: str, rows: dict[bytes, bytes]) -> None:
    if name.startswith("decide"):
        if BOOKS in rows:
            _sum(made.books, Books(*decode(rows[BOOKS])), Books.__slots__)
        return
    into, kind = (made.dispatched, Dispatched) if name == "dispatch" else (made.ended, Ended)
    if COUNTERS in rows:
        _sum(into, msgspec.json.decode(rows[COUNTERS], type=kind), kind.__struct_fields__)
    made.waiting += sum(at.startswith(ROW) for at in rows)


def _sum(into: Any, more: Any, names: Any) -> None:
    for name in names:
        setattr(into, name, getattr(into, name) + getattr(more, name))


def _receipt(made: Accounts, receipt: dict[str, Any]) -> None:
    if not receipt["final"]:
        return
    about = "command" if receipt["delivery"] is None else "delivery"
    made.receipts[about, receipt["status"]] += 1
    if about == "delivery" and receipt["status"] == "delivered":
        made.delivered.add(receipt["delivery"])

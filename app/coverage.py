"""`uptake coverage`: which rules of A and B fire from raw events, and whether their commands arrive, as observed.

One simulation (`app.simulate.coverage`) goes through the real system with a webhook receiver at its end. A row is about one
automation of the catalogue: it fired where its cause was planted, its commands came in with valid signatures, the twin
without the cause stayed silent, and the numbers the commands give are those of the oracle.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from app import compare
from app.oracle.commands import ordered
from app.receiver import Receiver
from app.settings import Role, Settings
from app.simulate import coverage as scenario
from app.simulate.encode import Encoder
from app.trial import trial
from app.verify import judged, rules
from schemas.definitions import Connection, Definition

IDS = tuple(f"{state}.{k}" for state in (f"{family}{n}" for family in "AB" for n in range(1, 5)) for k in range(1, 5))
"""Every automation of A and B in the catalogue."""
SECRET_VARIABLE = "UPTAKE_SECRET_COVERAGE"  # noqa: S105 - the name of a variable
ARRIVE_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """What was observed of one automation."""

    id: str
    command_type: str | None
    fired: bool
    """Commands were issued for the product with the cause."""
    arrived: bool
    """Every one of its commands came to the receiver, rightly signed and unchanged."""
    negative_silent: bool
    """None was issued for the twin without the cause."""
    numbers_equal: bool
    """Its commands are exactly the oracle's, with the oracle's numbers."""
    commands: int

    @property
    def good(self) -> bool:
        """All of it."""
        return self.fired and self.arrived and self.negative_silent and self.numbers_equal

    def line(self) -> str:
        """For people."""
        said = [n for n in ("fired", "arrived", "negative_silent", "numbers_equal") if not getattr(self, n)]
        return f"{self.id} {self.command_type or '(no command)'}: " + (
            f"NOT {', '.join(said)}" if said else f"{self.commands} commands"
        )


@dataclass(slots=True)
class Report:
    """All rows, and what the receiver saw."""

    rows: list[Row] = field(default_factory=list)
    received: int = 0
    repeated: int = 0
    refused: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every automation did everything."""
        return len(self.rows) == len(IDS) and all(row.good for row in self.rows) and not self.refused

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "covered": sum(row.good for row in self.rows),
            "of": len(IDS),
            "received": self.received,
            "repeated": self.repeated,
            "refused_signatures": self.refused,
            "differences": self.differences,
        }


async def cover(
    settings: Settings,
    definitions: Iterable[Definition],
    *,
    seed: int = 1,
    within_s: float = 600.0,
    told: Callable[[str], None] = lambda text: None,
) -> Report:
    """Run the simulation through the system. Raises `TrialFailed` where the system does not get to its end."""
    plan = scenario.plan(seed)
    secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
    os.environ[SECRET_VARIABLE] = secret
    allowed = settings.model_copy(update={"allowed_hosts": [*settings.allowed_hosts, "127.0.0.1"]})
    with Receiver(secret) as receiver:
        connection = Connection(
            name="coverage",
            integration="webhook",
            config={"url": receiver.url, "secret": {"env": SECRET_VARIABLE}},
            enabled=True,
        )
        roles: dict[Role, int] = {"meter": 1, "decide": 1, "deliver": 1}
        async with trial(allowed, plan, roles=roles, definitions=[*definitions, connection]) as made:
            encoder = Encoder(plan)
            rows = (encoder.encode(columns) for columns in scenario.chunks(plan))
            await made.write(rows, lambda w, at: told(f"{w.rows:,} rows written"))
            made.start()
            await made.settled(within_s, told)
            commands = await made.commands()
            await _arrivals(receiver, len(commands), told)
            await made.supervisor.stop()
            told("the oracle reads the log")
            judge, _ = await judged(made.settings)
            orders, _ = ordered(judge.found, await rules(made.settings))
    report = Report(received=len(receiver.received), repeated=receiver.repeated, refused=receiver.refused)
    arrived = {body["data"]["id"]: body["data"] for body in receiver.received.values()}
    by_rule, wanted = defaultdict(list), defaultdict(list)
    for command in commands:
        by_rule[command["rule"]].append(command)
    for order in orders:
        wanted[order.rule].append(order)
    for ident in IDS:
        case = next(c for c in scenario.CASES if c.state == ident.partition(".")[0])
        ours = by_rule[ident]
        issued = {(c["tenant"], c["product"]) for c in ours}
        difference = compare.commands(ours, wanted[ident])
        report.differences += difference.shown
        report.rows.append(
            Row(
                id=ident,
                command_type=ours[0]["type"] if ours else None,
                fired=(case.tenant, case.product) in issued,
                arrived=bool(ours) and all(arrived.get(c["id"]) == c for c in ours),
                negative_silent=(case.tenant, case.twin) not in issued,
                numbers_equal=bool(ours) and not difference.differing,
                commands=len(ours),
            )
        )
    return report


async def _arrivals(receiver: Receiver, wanted: int, told: Callable[[str], None]) -> None:
    """Wait until so many commands have come in, or none has come for a while."""
    loop = asyncio.get_running_loop()
    seen, since = 0, loop.time()
    while len(receiver.received) < wanted and loop.time() - since < ARRIVE_WITHIN_S:
        if len(receiver.received) != seen:
            seen, since = len(receiver.received), loop.time()
        told(f"{seen} of {wanted} commands have arrived")
        await asyncio.sleep(0.2)

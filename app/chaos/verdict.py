"""The verdict: what was published beside the oracle, accounts, deliveries, the read model, and what did not move."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import select

from app import compare
from app.chaos.accounts import Accounts
from app.chaos.compacted import Compacted
from app.chaos.destination import Destination
from app.compare import Difference
from app.kafka import read
from app.oracle.commands import ordered
from app.oracle.judged import Rules
from app.settings import Settings
from app.store import open_store
from app.store.tables import METADATA
from app.trial import Trial
from app.verify import ends_of, judged, rules
from core.project import KEYS
from core.public import READERS, Row
from schemas.tables import WindowName

Told = Callable[[str], None]
STAGE_WINDOW: WindowName = "1d"
"""Of the run's products: it moves every hour, so that detections and commands come all along."""
METER_STEPS = ("meter", "transport")


@dataclass(slots=True)
class Verdict:
    """What everything came to."""

    outcomes: dict[str, int] = field(default_factory=dict)
    """What the oracle says became of the rows."""
    detections: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    accounts: Accounts = field(default_factory=Accounts)

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return bool(self.differences) and not any(d.differing for d in self.differences)


async def judge(made: Trial, accounts: Accounts, destination: Destination, compacted: Compacted, told: Told) -> Verdict:
    """Of a trial that has come to rest. Its workers may have been stopped."""
    verdict = Verdict(accounts=accounts)
    told("the oracle reads the log")
    rules_of = {(p.tenant, p.name): Rules(stage_window=STAGE_WINDOW) for p in made.plan.products}
    oracle, verdict.outcomes = await judged(made.settings, products=rules_of)
    verdict.detections = dict(Counter(f.kind for f in oracle.found))
    orders, _ = ordered(oracle.found, await rules(made.settings))
    told("comparing")
    adoption, commands = await made.table("adoption"), await made.commands()
    ends = ends_of(oracle, made.plan, 100)
    letters = await _letters(made.settings)
    verdict.differences = [
        await asyncio.to_thread(compare.adoption, adoption.values(), oracle, ends),
        compare.health((await made.table("health")).values(), oracle),
        compare.commands(commands, orders),
        compare.dead_letters(letters, verdict.outcomes),
        accounts.compare(),
        deliveries(accounts, destination),
    ]
    if compacted.given:
        verdict.differences.append(await compacted.compare())
    if any(child.name.startswith("project-") for child in made.supervisor.children):
        verdict.differences.append(await read_model(made.settings))
    return verdict


def deliveries(accounts: Accounts, destination: Destination) -> Difference:
    """Every command was tried under one id, and what a receipt says was delivered is what the destination took."""
    out = Difference("deliveries")
    for command, ids in destination.ids.items():
        out.check(f"ids under which command {command} was tried", len(ids), 1)
        out.check(f"command {command}", command in accounts.commands, True)
    for delivery in accounts.delivered | destination.accepted.keys():
        said = (delivery in accounts.delivered, delivery in destination.accepted)
        out.check(f"delivery {delivery} (receipt, taken)", said, (True, True))
    out.check("requests with a wrong signature", destination.refused, 0)
    return out


async def _letters(settings: Settings) -> dict[str, list[tuple[str, ...]]]:
    """Dead letters of METER by reason, and where each came from."""
    found: dict[str, list[tuple[str, ...]]] = {}
    async for record in read(settings, ["dead-letters"]):
        said = {name.removeprefix("uptake-"): text.decode(errors="replace") for name, text in record.headers}
        if said["step"] in METER_STEPS:
            place = (said["topic"], said["partition"], said["offset"])
            found.setdefault(said["reason"], []).append(place)
    return found


async def read_model(settings: Settings) -> Difference:
    """Tables of the read model beside the topics that they mirror."""
    out = Difference("rows of the read model")
    store = await open_store(settings.store_url)
    try:
        for table, topics in TABLES.items():
            wanted: dict[tuple[object, ...], Row] = {}
            async for record in read(settings, topics):
                if record.value is None:
                    continue
                take = READERS["commands" if record.topic.startswith("commands.") else record.topic]
                for name, row in take(record.value, record.timestamp, record.key, tuple(record.headers)):
                    if name == table:
                        wanted[tuple(row[c] for c in KEYS[table])] = row
            columns = METADATA.tables[table].c
            shown = [*KEYS[table], "version"] if "version" in columns else list(KEYS[table])
            async with store.reader.begin() as connection:
                rows = (await connection.execute(select(*(columns[c] for c in shown)))).all()
            ours = {tuple(row)[: len(KEYS[table])]: tuple(row)[len(KEYS[table]) :] for row in rows}
            for key in wanted.keys() | ours.keys():
                right = None if key not in wanted else tuple(wanted[key][c] for c in shown[len(KEYS[table]) :])
                out.check(f"{table} {key}", ours.get(key), right)
    finally:
        await store.close()
    return out


TABLES = {
    "adoption": ("tables.adoption",),
    "health": ("tables.health",),
    "detections": ("detections",),
    "commands": tuple(
        f"commands.{d}" for d in ("product", "engineering", "marketing", "sales", "success", "executive")
    ),
    "receipts": ("receipts",),
}
"""Table of the read model → the topics it mirrors."""

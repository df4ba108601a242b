"""Four new versions, one a policy, published on Kafka while 240 runs wait and ORCHESTRATE is killed: commands as a desk gives them."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from app import definitions, topics
from app.kafka import producer
from app.runs import all_runs, library_of, replayed
from app.settings import Settings
from core.definitions import Catalogue
from core.workflows.desk import Desk, Occurrence
from core.workflows.publishing import announcement, read_announcement, with_earlier
from core.workflows.shelf import Shelf
from schemas.definitions import Workflow
from tests.agents.test_orchestrate_flow import PARTITIONS, TYPED, an_act, rows, start, until

pytestmark = pytest.mark.kafka
POLICIES = ("pin", "follow", "drain", "migrate")
USERS = 60
"""Of each policy, before the new versions; as many come after them, and as many again when all those have ended."""
FIRST, SECOND, THIRD = range(USERS), range(USERS, 2 * USERS), range(2 * USERS, 3 * USERS)


def first(policy: str) -> Workflow:
    """A command, a wait for an event, another command."""
    return _workflow(policy, an_act("a", "w"), _listen("w", "b"), an_act("b"))


def second(policy: str) -> Workflow:
    """Another command behind the wait; where runs migrate, the wait has another name, too."""
    if policy == "migrate":
        more: dict[str, Any] = {"publish": policy, "migrate": {"w": "v"}}
        return _workflow(policy, an_act("a", "v"), _listen("v", "c"), an_act("c"), **more)
    return _workflow(policy, an_act("a", "w"), _listen("w", "c"), an_act("c"), publish=policy)


def _listen(name: str, to: str) -> dict[str, Any]:
    return {"kind": "await", "id": name, "events": {"opened": to}, "timeout": "1d", "timed_out": None}


def _workflow(policy: str, *nodes: dict[str, Any], **more: Any) -> Workflow:
    body = {
        **{"name": policy, "id": policy, "start": nodes[0]["id"], "nodes": list(nodes)},
        "trigger": {"kind": "event", "topic": "events.usage", "where": {**TYPED, "value": f"{policy}.begun"}},
        "events": {"opened": {"where": {**TYPED, "value": f"{policy}.opened"}}},
        **more,
    }
    return Workflow.model_validate(body)


async def send(settings: Settings, what: str, users: range) -> None:
    async with producer(settings) as made:
        for n in users:
            for policy in POLICIES:
                user, kind = f"{policy}-{n}", f"{policy}.{what}"
                event = {"id": f"{kind}-{n}", "tenant": "acme", "product": "shop", "type": kind, "user": user}
                event["occurred_at"] = time.time_ns() // 1_000_000  # type: ignore[assignment]
                await made.send(settings.topic("events.usage"), json.dumps(event).encode(), key=f"acme|{user}".encode())
        await made.flush()


def in_memory() -> Counter[str]:
    """The ids of the commands that a desk gives to the same, without Kafka."""
    catalogue, ids, clock = Catalogue(), Counter[str](), 0
    for policy in POLICIES:
        catalogue.put(first(policy))
    desk = Desk(Shelf(catalogue))

    def happened(what: str, users: range) -> None:
        nonlocal clock
        for n in users:
            for policy in POLICIES:
                clock += 1
                kind, subject = f"{policy}.{what}", f"user:{policy}-{n}"
                told = Occurrence("acme", "shop", subject, f"{kind}-{n}", clock, "events.usage", {"type": kind})
                for came in desk.happened(told, clock):
                    ids.update(c.id for c in came.commands)

    happened("begun", FIRST)
    for policy in POLICIES:
        new = with_earlier(first(policy), second(policy).model_copy(update={"version": 2}))
        told = announcement(first(policy), new, clock + 1, "test")
        if told is not None:
            desk.published(read_announcement(told))
        catalogue.put(new)
    happened("begun", SECOND)
    happened("opened", FIRST)
    happened("opened", SECOND)
    happened("begun", THIRD)
    happened("opened", THIRD)
    return ids


async def kill(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGKILL)
    await process.wait()


async def test_each_policy_while_runs_wait_and_orchestrate_is_killed(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = Settings(kafka=kafka, topic_prefix=prefix, data_dir=tmp_path, partitions=PARTITIONS, replication=1)
    await topics.create(settings)
    await definitions.publish(settings, [first(p) for p in POLICIES])
    meter, orchestrate = await start(settings, "meter"), await start(settings, "orchestrate")
    await send(settings, "begun", FIRST)
    await until(settings, "commands.sales", 4 * USERS)
    changed = await definitions.publish(settings, [second(p) for p in POLICIES], "test")
    assert [d.version for d in changed] == [2, 2, 2, 2]
    await kill(orchestrate)
    orchestrate = await start(settings, "orchestrate")
    await send(settings, "begun", SECOND)
    await until(settings, "commands.sales", 4 * USERS + 3 * USERS)  # where it drains, nobody enters
    await send(settings, "opened", FIRST)
    await until(settings, "commands.sales", 7 * USERS + USERS)
    await kill(orchestrate)
    orchestrate = await start(settings, "orchestrate")
    await send(settings, "opened", SECOND)
    await until(settings, "commands.sales", 11 * USERS + 3 * USERS)
    await send(settings, "begun", THIRD)
    await send(settings, "opened", THIRD)
    wanted = in_memory()
    assert wanted.total() == len(wanted) == (4 + 3 + 4 + 3 + 8) * USERS
    await until(settings, "commands.sales", len(wanted))
    for process in (meter, orchestrate):
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0

    assert Counter(json.loads(value)["id"] for value in await rows(settings, "commands.sales")) == wanted
    kept = await all_runs(settings)
    library = await library_of(settings)
    assert {run: lines for run, history in kept.items() if (lines := replayed(library, history))} == {}
    moves = Counter(
        (h[0].workflow, n.what) for h in kept.values() for r in h for n in r.notes if n.what in ("moved", "kept")
    )
    assert moves == {("follow", "moved"): USERS, ("migrate", "moved"): USERS}
    assert await rows(settings, "dead-letters") == []

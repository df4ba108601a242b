"""events → METER → ORCHESTRATE → commands on a real Kafka, with both killed while runs wait: each command once, none missing."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from app import definitions
from app.runs import all_runs, library_of, replayed, tell
from schemas.commands import command_id
from schemas.definitions import Workflow
from tests.agents.orchestrating import TYPED, an_act, kill, prepared, rows, send, start, stop, until

pytestmark = pytest.mark.kafka

S = 1_000


def a_workflow() -> Workflow:
    """At once a command; after a wait of 3 s another, unless something is bought; a third for the event that is waited for."""
    return Workflow.model_validate(
        {
            "name": "cart",
            "id": "cart",
            "trigger": {"kind": "event", "topic": "events.usage", "where": {**TYPED, "value": "cart.created"}},
            "events": {
                "bought": {"where": {**TYPED, "value": "cart.bought"}, "same": ["cart"]},
                "opened": {"where": {**TYPED, "value": "mail.opened"}},
            },
            "goals": ["bought"],
            "start": "first",
            "nodes": [
                an_act("first", "loop"),
                {"kind": "loop", "id": "loop", "max_turns": 2, "body": "pause", "next": "listen"},
                {"kind": "wait", "id": "pause", "until": {"kind": "span", "span": 2}, "next": "again"},
                an_act("again"),
                {
                    **{"kind": "await", "id": "listen", "events": {"opened": "thanks"}, "look_back": "1h"},
                    **{"timeout": 2, "timed_out": "silent"},
                },
                an_act("thanks"),
                an_act("silent"),
            ],
        }
    )


def expected(users: int, at: int) -> list[tuple[str, int]]:
    """(id, event time) of every command."""
    found: list[tuple[str, int]] = []
    for n in range(users):
        steps = {"first": 0}
        if n % 4:
            steps |= {"loop:1/again": 2, "loop:2/again": 4} | ({"thanks": 4} if n % 4 == 1 else {"silent": 6})
        found += [
            (command_id("acme", "cart", f"user:u{n}", f"cart.created-{n}", step), at + after * S)
            for step, after in steps.items()
        ]
    return sorted(found)


@pytest.mark.parametrize(
    ("users", "lead_s"),
    [(500, 8), pytest.param(10_000, 100, marks=[pytest.mark.long, pytest.mark.timeout(900)])],
    ids=["500", "10000"],
)
async def test_killed_and_yet_each_command_once(
    users: int, lead_s: int, kafka: str, prefix: str, tmp_path: Path
) -> None:
    """Killed while runs begin, while all of them wait, and while their timers fire. `lead_s`: from sending to event time, so that
    all have begun, and everything was sent, before the first timer."""
    settings = await prepared(kafka, prefix, tmp_path)
    await definitions.publish(settings, [a_workflow()])
    meter, orchestrate = await start(settings, "meter"), await start(settings, "orchestrate")
    at = time.time_ns() // 1_000_000 + lead_s * S
    await send(settings, "cart.created", range(users), at)
    await send(settings, "cart.bought", range(0, users, 4), at + S)
    await send(settings, "mail.opened", range(1, users, 4), at + S)
    wanted = expected(users, at)
    for given in (users // 2, users, users * 7 // 4):
        await until(settings, "commands.sales", given, 240)
        await kill(orchestrate, meter)
        meter, orchestrate = await start(settings, "meter"), await start(settings, "orchestrate")
    await until(settings, "commands.sales", len(wanted), 240)
    await stop(meter, orchestrate)

    given_out = [json.loads(value) for value in await rows(settings, "commands.sales")]
    assert Counter((c["id"], c["issued_at"]) for c in given_out) == Counter(wanted)
    assert {c["title"] for c in given_out} == {f"c{n}" for n in range(users)}
    kept = await all_runs(settings)
    assert Counter(h[-1].status for h in kept.values()) == {"completed": users * 3 // 4, "goal": users // 4}
    library = await library_of(settings)
    assert {run: lines for run, history in kept.items() if (lines := replayed(library, history))} == {}
    assert await rows(settings, "dead-letters") == []


async def test_people_answer_and_end_runs(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = await prepared(kafka, prefix, tmp_path)
    ask = {"kind": "approve", "id": "ask", "request": an_act("x")["command"], "assignee": "ann", "deadline": "1d"}
    asking = a_workflow().model_dump(mode="json") | {
        **{
            "goals": [],
            "start": "ask",
            "nodes": [{**ask, "approved": "yes", "rejected": "no"}, an_act("yes"), an_act("no")],
        },
    }
    await definitions.publish(settings, [Workflow.model_validate(asking)])
    processes = [await start(settings, "meter"), await start(settings, "orchestrate")]
    await send(settings, "cart.created", range(3))
    await until(settings, "runs", 3)
    by_subject = {h[0].subject: h[-1] for h in (await all_runs(settings)).values()}
    for subject, approved in (("user:u0", True), ("user:u1", False)):
        told = {"step": "ask", "approved": approved, "by": "ann"}
        await tell(settings, by_subject[subject], "approval", told, by_subject[subject].now + 1)
    await tell(
        settings, by_subject["user:u2"], "cancel", {"by": "ann", "compensate": True}, by_subject["user:u2"].now + 1
    )
    await until(settings, "runs", 6)
    await stop(*processes)
    steps = {(c["subject"], c["step"]) for c in (json.loads(v) for v in await rows(settings, "commands.sales"))}
    assert steps == {(s, "ask") for s in by_subject} | {("user:u0", "yes"), ("user:u1", "no")}
    ended = {h[0].subject: h[-1].status for h in (await all_runs(settings)).values()}
    assert ended == {"user:u0": "completed", "user:u1": "completed", "user:u2": "cancelled"}

"""A new version of a workflow while runs of the one before wait, on a real Kafka, and both workers killed in between: each run goes on
with the version that the policy says, and each command goes out once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from app import definitions
from app.runs import all_runs, library_of, replayed
from app.settings import Settings
from schemas.commands import command_id
from schemas.definitions import Workflow
from tests.agents.orchestrating import TYPED, an_act, kill, prepared, rows, send, start, stop, until

pytestmark = [pytest.mark.kafka, pytest.mark.long]

POLICIES = ("pin", "follow", "drain", "migrate")
OLD, NEW, LATE = range(4), range(4, 8), range(8, 12)
"""Users who come before the new version, while runs of the old one wait, and after those have ended."""


def a_workflow(policy: str, listens: str, then: str, **more: object) -> Workflow:
    """A command at once, a wait for a mail to be opened at the node `listens`, and the command `then`."""
    waits = {"kind": "await", "id": listens, "events": {"opened": then}, "timeout": "1d", "timed_out": None}
    return Workflow.model_validate(
        {
            "name": policy,
            "id": policy,
            "trigger": {"kind": "event", "topic": "events.usage", "where": {**TYPED, "value": "cart.created"}},
            "events": {"opened": {"where": {**TYPED, "value": "mail.opened"}}},
            "start": "first",
            "nodes": [plain_act("first", listens), waits, plain_act(then)],
            **more,
        }
    )


def plain_act(name: str, to: str | None = None) -> dict[str, object]:
    return {**an_act(name, to), "command": {"type": "sales.task.create", "title": name, "text": "t"}}


def before(policy: str) -> Workflow:
    return a_workflow(policy, "listen", "old")


def after(policy: str) -> Workflow:
    if policy == "migrate":
        return a_workflow(policy, "hear", "new", publish=policy, migrate={"listen": "hear"})
    return a_workflow(policy, "listen", "new", publish=policy)


def entered(policy: str) -> dict[int, int]:
    """User → the version in which its run begins; who is refused is not there."""
    refused = NEW if policy == "drain" else ()
    return {**dict.fromkeys(OLD, 1), **{n: 2 for n in (*NEW, *LATE) if n not in refused}}


def ended(policy: str) -> dict[int, int]:
    """User → the version in which its run gives its second command."""
    moved = policy in ("follow", "migrate")
    return {n: 2 if moved else version for n, version in entered(policy).items()}


Given = tuple[str, str, str, int, str]
"""Workflow, subject, step, version, id."""


def given(policy: str, n: int, step: str, version: int) -> Given:
    subject = f"user:u{n}"
    return policy, subject, step, version, command_id("acme", policy, subject, f"cart.created-{n}", step)


async def commands(settings: Settings) -> Counter[Given]:
    found = [json.loads(value) for value in await rows(settings, "commands.sales")]
    return Counter((c["rule"], c["subject"], c["step"], c["rule_version"], c["id"]) for c in found)


async def test_each_run_goes_on_as_the_new_version_says(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = await prepared(kafka, prefix, tmp_path)
    await definitions.publish(settings, map(before, POLICIES))
    workers = [await start(settings, role) for role in ("meter", "orchestrate")]
    firsts = [given(p, n, "first", v) for p in POLICIES for n, v in entered(p).items()]
    lasts = [given(p, n, "old" if v == 1 else "new", v) for p in POLICIES for n, v in ended(p).items()]

    await send(settings, "cart.created", OLD)
    await until(settings, "commands.sales", len(OLD) * len(POLICIES))
    published = await definitions.publish(settings, map(after, POLICIES), "ann")
    assert [d.version for d in published] == [2] * len(POLICIES)
    await kill(*workers)  # runs may be on their way to the new version
    workers = [await start(settings, role) for role in ("meter", "orchestrate")]
    await send(settings, "cart.created", NEW)
    await until(settings, "commands.sales", sum(n not in LATE for p in POLICIES for n in entered(p)))
    await send(settings, "mail.opened", (*OLD, *NEW))
    await until(settings, "commands.sales", 2 * sum(n not in LATE for p in POLICIES for n in entered(p)))
    await send(settings, "cart.created", LATE)
    await until(settings, "commands.sales", len(firsts) + len(lasts) - len(LATE) * len(POLICIES))
    await send(settings, "mail.opened", LATE)
    await until(settings, "commands.sales", len(firsts) + len(lasts))
    await stop(*workers)

    assert await commands(settings) == Counter([*firsts, *lasts])
    kept = await all_runs(settings)
    stands = {(h[-1].workflow, h[-1].subject): (h[-1].status, h[-1].versions[""]) for h in kept.values()}
    assert stands == {(p, f"user:u{n}"): ("completed", v) for p in POLICIES for n, v in ended(p).items()}
    moved = Counter(
        h[0].workflow for h in kept.values() for record in h for note in record.notes if note.what == "moved"
    )
    assert moved == {"follow": len(OLD), "migrate": len(OLD)}
    library = await library_of(settings)
    assert {run: lines for run, history in kept.items() if (lines := replayed(library, history))} == {}
    assert await rows(settings, "dead-letters") == []

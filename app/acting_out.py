"""Tests that stand beside rules and workflows, acted out: their events go through Kafka, and what comes of them is looked at.

Events of one subject in different topics have an order only by time. Live, time itself keeps them apart; here months pass in
seconds, so each step is read, and what is due by then done, before the next one that depends on the order is written.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from app.kafka import partitions_of, producer
from app.settings import Role
from app.simulate.beside import LATER_MS, Happened, Planted, Wanted
from app.trial import Trial, TrialFailed
from core.workflows.walk import lookup
from schemas.events import EVENTS, PRODUCTS_A_MARKER, ReplayMarker

HOUR_MS = 3_600_000
NAME = "beside"
POLL_S = 0.1


@dataclass(slots=True)
class Played:
    """What became of one test."""

    test: Planted
    commands: list[dict[str, Any]] = field(default_factory=list)
    """Those of its rule or workflow for its tenant, in order of time."""
    differences: list[str] = field(default_factory=list)


async def act_out(
    made: Trial,
    tests: Sequence[Planted],
    *,
    rests: Sequence[int] | None = None,
    waits: bool = True,
    first: Sequence[tuple[str, bytes, bytes]] = (),
    within_s: float,
    told: Callable[[str], None] = lambda text: None,
) -> None:
    """Write the events of these tests, step by step; the trial's workers run. Raises `TrialFailed`.

    `rests`: where steps end (event time): all that follows from a step is waited for there, what is found in its figures and what
    runs make of that; absent: wherever events of a tenant in different topics have an order, and then runs need only have read
    them. `waits` is false where no order between topics matters: event time goes on step by step, and nothing is waited for.
    `first`: records (topic, key, value) of what went before, which nobody can do again, such as receipts of deliveries of those weeks.
    """
    places = await partitions_of(made.settings, list(EVENTS))
    products = sorted({(t.tenant, str(e.body["product"])) for t in tests for e in t.events})
    events = sorted((e for t in tests for e in t.events), key=lambda e: e.at)
    pieces = list(steps(events) if rests is None else parted(events, rests))
    ends = [*(piece[0].at for piece in pieces[1:]), None]
    wait = _read if rests is None else _through
    async with producer(made.settings, linger_ms=5) as log:

        async def mark(kind: str, at: int, products: list[tuple[str, str]]) -> None:
            word = {"type": f"uptake.replay.{kind}", "id": f"{NAME}-{kind}-{at}", "replay": NAME, "at": at, "act": True}
            value = ReplayMarker.model_validate(word | {"products": products}).model_dump_json().encode()
            for place in places:
                await log.send(place.topic, value, partition=place.partition)

        for topic, key, value in first:
            await log.send(made.settings.topic(topic), value, key=key)
        for i in range(0, len(products), PRODUCTS_A_MARKER):
            await mark("begun", events[0].at, products[i : i + PRODUCTS_A_MARKER])
        if first:
            await log.flush()
            await wait(made, within_s)
        for number, (piece, end) in enumerate(zip(pieces, ends, strict=True)):
            for event in piece:
                await log.send(made.settings.topic(event.topic), event.value, key=event.key)
            if end is not None:
                await mark("progressed", end, [])
                if waits:
                    await log.flush()
                    await wait(made, within_s)
            told(f"step {number + 1} of {len(pieces)}: {len(piece)} events")
        await mark("progressed", max(t.until for t in tests) + (HOUR_MS if waits else 0), [])
        await log.flush()


def steps(events: Iterable[Happened]) -> Iterator[list[Happened]]:
    """Events in order of time, cut wherever one follows an event of its tenant in another topic, or after a while: what was due
    between the two is then done before the second is read.
    """
    step: list[Happened] = []
    last: dict[str, str] = {}
    for event in events:
        tenant = str(event.body["tenant"])
        again = tenant in last
        if step and again and (last[tenant] != event.topic or event.at - step[0].at >= LATER_MS):
            yield step
            step, last = [], {}
        last[tenant] = event.topic
        step.append(event)
    if step:
        yield step


def parted(events: Iterable[Happened], rests: Sequence[int]) -> Iterator[list[Happened]]:
    """Events in order of time, cut at these moments."""
    for _, piece in groupby(events, key=lambda e: bisect_right(rests, e.at)):
        yield list(piece)


async def _through(made: Trial, within_s: float) -> None:
    """Everything that follows from what was written is judged: figures, then what is found in them, then what runs make of it."""
    running = {c.name.partition("-")[0] for c in made.supervisor.children}
    async with asyncio.timeout(within_s):
        await _taken(made, "meter", *EVENTS)
        await _taken(made, "decide", "meter.registers", "signals")
        await _taken(made, "decide", "outcome.parts", "receipts", "signals")
        await _taken(made, "decide", "outcome.parts")
        if "orchestrate" in running:
            await _taken(made, "orchestrate", "detections", "meter.registers", "signals")


async def _read(made: Trial, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        await _taken(made, "meter", *EVENTS)
        await _taken(made, "orchestrate", "meter.registers", "signals")


async def _taken(made: Trial, role: Role, *topics: str) -> None:
    """The role has taken what stands in these topics now."""
    ends = await made.ends(*topics)
    while await made.unread(role, ends):
        if any(c.process is not None and c.process.returncode is not None for c in made.supervisor.children):
            raise TrialFailed("a worker ended by itself: see its log in " + str(made.settings.log_dir))
        await asyncio.sleep(POLL_S)


def played(tests: Iterable[Planted], commands: Iterable[dict[str, Any]]) -> list[Played]:
    """Each test beside the commands that came: their types, steps and numbers against what the test says."""
    of: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for command in commands:
        of[command["tenant"], command["rule"]].append(command)
    found = []
    for test in tests:
        # Event time goes on for the others; what comes after a test's end is nothing that it says anything about.
        mine = [c for c in of[test.tenant, test.of] if c["issued_at"] <= test.until]
        came = sorted(mine, key=lambda c: (c["issued_at"], c["step"]))
        found.append(Played(test, came, list(_differences(test, came))))
    return found


def _differences(test: Planted, came: list[dict[str, Any]]) -> Iterator[str]:
    where = f"{test.of} ({test.name})"
    if sorted(c["type"] for c in came) != sorted(w.type for w in test.wanted):
        yield (
            f"{where}: expected {', '.join(w.type for w in test.wanted) or 'silence'}; "
            f"came {', '.join(c['type'] for c in came) or 'nothing'}"
        )
        return
    left = list(came)
    for want in test.wanted:
        fits = [c for c in left if c["type"] == want.type and not list(_unlike(want, c))]
        if not fits:
            nearest = next(c for c in came if c["type"] == want.type)
            yield f"{where}: {want.type}: {'; '.join(_unlike(want, nearest)) or 'given once too few'}"
            return
        left.remove(fits[0])


def _unlike(want: Wanted, command: Mapping[str, Any]) -> Iterator[str]:
    if want.step is not None and want.step != command["step"]:
        yield f"step {command['step']}, expected {want.step}"
    for path, value in want.says.items():
        found = lookup(command, path)
        if found != value and not (
            isinstance(value, (int, float)) and isinstance(found, (int, float)) and abs(found - value) < 1e-9
        ):
            yield f"{path} is {found!r}, expected {value!r}"

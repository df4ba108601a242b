"""What must be true at the end of every run: state and outputs equal the fold of the log, each once, and nothing waits."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from schemas.delivery import DEAD_LETTER_HEADERS
from tests.sim.readmodel import refuses
from tests.sim.summing import compare
from transport.state import Positions, decode_positions, positions_key

if TYPE_CHECKING:
    from tests.sim.world import World


def _places(world: World, partition: int) -> list[Positions]:
    key = positions_key(world.scenario.group)
    rows = world.broker.topics["p.state.sim"][partition].committed()
    return [decode_positions(row.value) for row in rows if row.key == key and row.value is not None]


def settled(world: World) -> bool:
    """Whether there is nothing left to do: every row worked, checkpointed, visible, and every timer rung."""
    if world.upstream.busy or len(world.workers()) < len(world.slots):
        return False
    ends = {place: world.broker.partition(place).end for place in world.upstream.places}
    ends |= {place: world.broker.partition(place).end for place in world.derived}
    owned = {}
    for worker in world.workers():
        if worker.process.frozen or not hasattr(worker, "wires"):
            return False
        for runner in worker.runs.all():
            if runner.state != "ready" or runner._commit is not None:
                return False
            owned |= {(topic, runner.partition): offset for topic, offset in runner.next.items()}
            if getattr(runner.task, "timers", None) or getattr(runner.task, "waiting", 0):
                return False
    if owned != ends:
        return False
    topics = world.scenario.topics
    for partition in range(world.schedule.partitions):
        if sum(ends[f"p.{topic}", partition] for topic in topics):
            found = _places(world, partition)
            if not found or found[-1].next != {topic: ends[f"p.{topic}", partition] for topic in topics}:
                return False
    return True


def differences(world: World) -> list[str]:
    """Everything that is not as it must be, in words."""
    topics = world.scenario.topics
    found: list[str] = []
    for partition in range(world.schedule.partitions):
        found += world.scenario.differences(world.broker, partition)
        found += _monotone(world, partition)
    letters = Counter[tuple[str, int, int]]()
    for log in world.broker.topics["p.dead-letters"]:
        for row in log.committed():
            said = dict(row.headers)
            topic, place, offset = (said[DEAD_LETTER_HEADERS[n]].decode() for n in (3, 4, 5))
            letters[topic, int(place), int(offset)] += 1
    expected = Counter({place: n for place, n in world.upstream.spoiled.items() if place[0] in topics})
    found += compare("dead letters", expected, Counter({p: n for p, n in letters.items() if p[0] in topics}))
    refused = {
        ("in.c", partition, row.offset)
        for partition, log in enumerate(world.broker.topics["p.in.c"])
        for row in log.committed()
        if refuses(row.value)
    }
    aside = {place for place in world.upstream.spoiled if place[0] not in topics} | refused
    missing = sorted(aside - set(letters)) if world.schedule.outside else []
    found += [f"no dead letter of {place}" for place in missing]
    if world.schedule.outside:
        found += _outside(world)
    for (group, place), offsets in world.broker.offsets.items():
        if group != "outside" and offsets != sorted(offsets):
            found.append(f"offsets of {group} for {place} went back: {offsets}")
    return found


def _monotone(world: World, partition: int) -> list[str]:
    found = _places(world, partition)
    back = [
        (before.next, after.next)
        for before, after in pairwise(found)
        if any(after.next[topic] < offset for topic, offset in before.next.items())
    ]
    return [f"positions of partition {partition} went back: {back[0]}"] if back else []


def _outside(world: World) -> list[str]:
    expected = {
        (partition, row.offset): row.value
        for partition, log in enumerate(world.broker.topics["p.in.c"])
        for row in log.committed()
    }
    if world.model.rows != expected:
        return [f"read model: {len(world.model.rows)} rows instead of {len(expected)}"]
    return []

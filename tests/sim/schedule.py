"""What is done to a simulated cluster, and when: a plain list of actions, drawn from a seed, or by Hypothesis, which shrinks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from hypothesis import strategies as st

from tests.sim.points import POINTS

Kind = Literal[
    "rows", "commit", "abort", "hang", "holes", "spoiled",
    "kill", "stop", "freeze", "kill_at", "freeze_at",
    "rough", "refused", "stale", "out_of_range", "rebalance", "compact",
    "agent_fails", "agent_slow", "sender_dies", "clear",
]  # fmt: skip
ROWS: tuple[Kind, ...] = ("rows", "commit", "abort", "hang", "holes", "spoiled")
FAULTS: tuple[Kind, ...] = (
    "kill", "stop", "freeze", "freeze", "rough", "rough", "refused", "stale", "out_of_range", "rebalance", "compact",
    "agent_fails", "agent_slow", "sender_dies", "clear", "clear", "clear",
)  # fmt: skip
LENGTH_S = 5.0
LEADS_TO: Mapping[str, tuple[Kind, ...]] = {
    "Runs.release_all": ("stop",),
    "Runs.revoked": ("rebalance",),
    "Runs._release": ("rebalance",),
    "Runner.release": ("rebalance",),
    "Runner._last": ("agent_slow", "rebalance"),
    "Runner._settled": ("rough", "rebalance"),
    "Runner._discard": ("rough", "agent_fails", "clear"),
    "Runner._rest": ("agent_fails",),
    "Runner._live": ("agent_fails",),
    "Recovery._starting_points": ("stale",),
    "Committer.start": ("refused", "rebalance"),
    "Committer.close": ("rebalance",),
    "StateReader.__aenter__": ("refused", "rebalance"),
}
"""By function: what brings a worker to its crash points."""
OUTSIDE = frozenset({"Runner._outside", "Runs.produce", "Runs.commit_offsets", "Runs.release_all", "Recovery.run",
                     "Runs.produce.<locals>.<listcomp>"})  # fmt: skip
"""Functions that have work with a task group that keeps its state outside Kafka."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that happens at a time (virtual seconds). What `who`, `size` and `span` mean depends on the kind."""

    at: float
    kind: Kind
    who: int = 0
    """Rows and compaction: the source partition, of all topics. Else: the worker."""
    size: int = 1
    """Rows: how many. Rough weather: percent. At a crash point: its number; compaction: odd removes tombstones too."""
    span: float = 0.0
    """Seconds that it lasts."""
    times: int = 1
    """At a crash point: the first, second … time that somebody waits there."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One run. The same schedule gives the same run, to the last step."""

    seed: int
    """Of everything that is not in the list: delays, who goes on next, which requests go wrong."""
    actions: tuple[Action, ...]
    workers: int = 2
    partitions: int = 2
    outside: bool = False
    """With a second task group, which keeps its state outside Kafka."""


def of_seed(seed: int) -> Schedule:
    """The schedule of a seed. Crash points take turns, so that every one is tried many times in a long run."""
    random = Random(seed)
    outside = random.random() < 0.3 or POINTS[seed % len(POINTS)].function in OUTSIDE
    partitions = random.choice((1, 2, 2, 3))
    workers = random.choice((1, 2, 2, 3))
    sources = partitions * (3 if outside else 2)
    actions = [_rows(random, 0.0, random.randrange(sources)) for _ in range(random.randint(1, 4))]
    actions += [
        _rows(random, round(random.uniform(0, LENGTH_S), 3), random.randrange(sources))
        for _ in range(random.randint(3, 10))
    ]
    actions += [_fault(random, workers, sources) for _ in range(random.randint(1, 5))]
    if random.random() < 0.8:
        actions += _at_point(random, random.randrange(workers), seed % len(POINTS))
    return Schedule(seed, tuple(sorted(actions, key=lambda action: action.at)), workers, partitions, outside)


def _at_point(random: Random, who: int, number: int) -> list[Action]:
    """A crash at a point, and what makes it likely that somebody comes by there."""
    at = 0.0 if random.random() < 0.3 else round(random.uniform(0, LENGTH_S * 0.6), 3)
    times = 1 + int(random.expovariate(0.9))
    kind: Kind = "kill_at" if random.random() < 0.6 else "freeze_at"
    found = [Action(at, kind, who, number, round(random.uniform(0.2, 5.0), 3), times)]
    later = at + random.uniform(0.01, 1.5)
    for kind in LEADS_TO.get(POINTS[number].function, ()):
        span = round(random.uniform(1.0, 4.0), 3)
        found.append(Action(round(later, 3), kind, who, random.randint(50, 95), span))
        later += random.expovariate(20)
    return found


def _rows(random: Random, at: float, who: int) -> Action:
    kind = random.choices(ROWS, (6, 3, 2, 1, 3, 1))[0]
    return Action(at, kind, who, random.choice((1, 1, 1, 2, 3, 6)), round(random.uniform(0.05, 1.5), 3))


def _fault(random: Random, workers: int, sources: int) -> Action:
    kind = random.choice(FAULTS)
    who = random.randrange(sources if kind == "compact" else workers)
    long = kind in ("freeze", "kill", "stop") or (kind == "rough" and random.random() < 0.3)
    span = round(random.uniform(0.1, 5.0 if long else 1.5), 3)
    # A block lost at the very beginning is another case than one lost later.
    latest = 0.4 if kind == "clear" and random.random() < 0.4 else LENGTH_S
    return Action(round(random.uniform(0, latest), 3), kind, who, random.randint(5, 90), span)


def actions(workers: int, sources: int) -> st.SearchStrategy[Action]:
    """Any action; shrinks towards early plain rows of partition 0."""
    kinds: Sequence[Kind] = (*ROWS, *sorted(set(FAULTS)))
    times = st.integers(0, int(LENGTH_S * 100)).map(lambda n: n / 100)
    usual = st.builds(
        Action,
        times,
        st.sampled_from(kinds),
        st.integers(0, sources - 1),
        st.integers(1, 6),
        times.map(lambda n: n / 2),
    )
    at_point = st.builds(
        Action,
        times,
        st.sampled_from(("kill_at", "freeze_at")),
        st.integers(0, workers - 1),
        st.integers(0, len(POINTS) - 1),
        times,
        st.integers(1, 4),
    )
    return usual | at_point


def schedules() -> st.SearchStrategy[Schedule]:
    """Any schedule, for Hypothesis."""
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 2), st.booleans())

    def of(shape: tuple[int, int, bool]) -> st.SearchStrategy[Schedule]:
        workers, partitions, outside = shape
        listed = st.lists(actions(workers, partitions * (3 if outside else 2)), min_size=1, max_size=14)
        return st.builds(
            lambda seed, found: Schedule(
                seed, tuple(sorted(found, key=lambda action: action.at)), workers, partitions, outside
            ),
            st.integers(0, 1 << 16),
            listed,
        )

    return shapes.flatmap(of)

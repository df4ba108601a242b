"""The command: many seeds in several processes, or one of them again.

python -m tests.sim --seeds 10000 --processes 2
python -m tests.sim --seed 4711
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext

from tests.sim.faust_offsets import DEFECTS, Defect, offsets_as_faust
from tests.sim.points import POINTS, Point
from tests.sim.schedule import Schedule
from tests.sim.seeds import decides, delivers, orchestrates, plan_of, run_seed, scenario_of
from tests.sim.shrink import shrunk
from tests.sim.world import ROLES, Outcome, run

CHUNK = 50
TELL_S = 5.0
ByRole = dict[str, Counter[Point]]
Part = tuple[int, Counter[Point], ByRole, Counter[str], int, float, list[tuple[int, list[str]]]]


def work(seeds: range, defect: Defect | None) -> Part:
    """Some seeds: how many, points, those of each role, events, steps, virtual seconds, and those that went wrong."""
    points: Counter[Point] = Counter()
    by_role: ByRole = {role: Counter() for role in ROLES}
    events: Counter[str] = Counter()
    steps, virtual_s = 0, 0.0
    wrong: list[tuple[int, list[str]]] = []
    with offsets_as_faust(defect) if defect else nullcontext():
        for seed in seeds:
            outcome = run_seed(seed)
            points.update(outcome.points)
            for role, found in outcome.by_role.items():
                by_role[role].update(found)
            events["runs of METER and DECIDE"] += decides(seed)
            events["runs of METER and ORCHESTRATE"] += orchestrates(seed)
            events["runs of DISPATCH and DELIVER"] += delivers(seed)
            events.update(outcome.counts)
            steps += outcome.steps
            virtual_s += outcome.virtual_s
            if outcome.differences:
                wrong.append((seed, outcome.differences))
    gc.collect()
    return len(seeds), points, by_role, events, steps, virtual_s, wrong


def many(first: int, count: int, processes: int, defect: Defect | None) -> int:
    """Run them, tell how it goes, and what came of it. The number of seeds that went wrong, crash points missed included."""
    began = told = time.monotonic()
    done, steps, virtual_s = 0, 0, 0.0
    points: Counter[Point] = Counter()
    by_role: ByRole = {role: Counter() for role in ROLES}
    events: Counter[str] = Counter()
    wrong = 0
    chunks = [range(at, min(at + CHUNK, first + count)) for at in range(first, first + count, CHUNK)]
    with ProcessPoolExecutor(processes, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_DFL)) as pool:
        for future in as_completed([pool.submit(work, chunk, defect) for chunk in chunks]):
            part = future.result()
            done += part[0]
            points.update(part[1])
            for role, found in part[2].items():
                by_role[role].update(found)
            events.update(part[3])
            steps, virtual_s = steps + part[4], virtual_s + part[5]
            for seed, differences in part[6]:
                wrong += 1
                again = f"python -m tests.sim --seed {seed}" + (f" --defect {defect}" if defect else "")
                print(f"seed {seed}: {differences[0][:300]}\n  again, shrunk: {again}", flush=True)
            now = time.monotonic()
            if now - told > TELL_S or done == count:
                told = now
                print(
                    f"{done:,} of {count:,} seeds, {done / (now - began):.0f} a second, "
                    f"{len(points)} of {len(POINTS)} crash points, {wrong} with differences",
                    flush=True,
                )
    seconds = time.monotonic() - began
    missed = [point for point in POINTS if point not in points]
    print(f"{count:,} seeds in {seconds:.0f} s ({count / seconds:.0f} a second, {processes} processes)")
    print(f"{steps:,} steps, {virtual_s / 3600:.1f} hours of virtual time")
    print("what happened: " + ", ".join(f"{number:,} {name}" for name, number in sorted(events.items())))
    print(f"crash points: {len(points)} of {len(POINTS)} hit, {sum(points.values()):,} times")
    for role, found in by_role.items():
        print(f"in the role {role}'s own tasks: {len(found)}, {found.total():,} times")
    for point in POINTS:
        own = "".join(f" {found[point]:>5} in {role}," for role, found in by_role.items())
        print(f"  {points[point]:>6} ×,{own} {point}")
    print(*(f"never hit: {point}" for point in missed), sep="\n", end="\n" if missed else "")
    print(f"differences: {wrong}")
    return wrong + len(missed)


def one(seed: int, defect: Defect | None) -> int:
    """Run it, show it, and shrink it if it goes wrong."""

    def again(schedule: Schedule) -> Outcome:
        return run(schedule, scenario_of(seed))

    schedule = plan_of(seed)
    with offsets_as_faust(defect) if defect else nullcontext():
        outcome = again(schedule)
        print(*_described(outcome), sep="\n")
        if not outcome.differences:
            return 0
        least = again(shrunk(schedule, again))
    if least.schedule != schedule:
        print("shrunk by Hypothesis:", *_described(least), sep="\n")
    return 1


def _described(outcome: Outcome) -> Iterator[str]:
    plan = outcome.schedule
    yield f"seed {plan.seed}: {plan.workers} workers, {plan.partitions} partitions, outside={plan.outside}"
    for action in plan.actions:
        at_point = f"  # {POINTS[action.size % len(POINTS)]}" if action.kind.endswith("_at") else ""
        yield f"  {action}{at_point}"
    yield f"{outcome.steps:,} steps, {outcome.virtual_s:.3f} s of virtual time"
    yield from [f"difference: {difference}" for difference in outcome.differences] or ["no differences"]


def main(arguments: Sequence[str]) -> int:
    """Exit code 0: no differences (and, with 10,000 seeds or more, every crash point hit)."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone, again; shrunk if it goes wrong")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--defect", choices=DEFECTS, help="with one of Faust's offset defects put into our transport")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        return one(given.seed, given.defect)
    return 1 if many(given.first, given.seeds, given.processes, given.defect) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

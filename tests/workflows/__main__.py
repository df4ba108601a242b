"""`python -m tests.workflows --workflows 1000 --subjects 1000 --processes 2`: the oracle at length. Exit code 1 where it differs."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.workflows.world import World


def judged(subjects: int, size: int, seed: int) -> World:
    return World(seed, size).run(subjects)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workflows", type=int, default=1_000)
    parser.add_argument("--subjects", type=int, default=1_000, help="of each")
    parser.add_argument("--size", type=int, default=14, help="nodes drawn for a workflow, about")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    began, statuses, differences = time.monotonic(), Counter[str](), 0
    commands = crashes = jobs = runs = 0
    with ProcessPoolExecutor(given.processes) as pool:
        work = partial(judged, given.subjects, given.size)
        for world in pool.map(work, range(given.seed, given.seed + given.workflows)):
            commands, crashes = commands + world.commands, crashes + world.crashes
            jobs, runs = jobs + world.jobs, runs + world.replayed
            statuses.update(world.statuses)
            differences += len(world.differences)
            for line in world.differences[:3]:
                print(line, flush=True)
    print(
        f"{given.workflows} × {given.subjects}: {jobs:,} jobs, {runs:,} runs, {commands:,} commands, {crashes:,} crashes, "
        f"{differences} differences; {dict(statuses)}; {time.monotonic() - began:.0f} s"
    )
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())

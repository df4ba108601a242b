"""`python -m tests.workflows`: 1,000 generated workflows × 1,000 subjects through the engine and through the oracle, compared.

Everything follows from seeds: a difference names its seed and subject, and `--seed S --workflows 1 --subject N` lives that one again.
Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.workflows.world import World


@dataclass
class Judged:
    """What one workflow's subjects came to."""

    seed: int
    cpu_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


def judged(seed: int, size: int, first: int, subjects: int) -> Judged:
    began, world = time.process_time(), World(seed, size).run(subjects, first)
    counts = Counter(
        subjects=subjects,
        jobs=world.jobs,
        late=world.late,
        retired=world.retired,
        aliased=world.aliased,
        asking=world.asking,
        runs=world.replayed,
        commands=world.commands,
        crashes=world.crashes,
    )
    took = time.process_time() - began
    return Judged(seed, took, counts, Counter(world.statuses), world.differences)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make oracle", description=__doc__)
    parser.add_argument("--workflows", type=int, default=1_000)
    parser.add_argument("--subjects", type=int, default=1_000, help="of each")
    parser.add_argument("--subject", type=int, help="this one only")
    parser.add_argument("--size", type=int, default=14, help="nodes drawn for a workflow, about")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    first, subjects = (0, given.subjects) if given.subject is None else (given.subject, 1)
    began = said = time.monotonic()
    whole = Judged(given.seed)
    gc.collect()
    gc.freeze()  # what is there now stays; a process need not look through it again and again
    gc.set_threshold(50_000, 50, 100)
    with ProcessPoolExecutor(given.processes) as pool:
        seeds = range(given.seed, given.seed + given.workflows)
        work = [pool.submit(judged, seed, given.size, first, subjects) for seed in seeds]
        for number, future in enumerate(work, 1):
            one = future.result()
            whole.cpu_s += one.cpu_s
            whole.counts += one.counts
            whole.statuses += one.statuses
            whole.differences += one.differences
            for line in one.differences[:3]:
                print(line, flush=True)
            if time.monotonic() - said > 15:
                said = time.monotonic()
                print(f"{number} of {given.workflows} workflows, {said - began:.0f} s", flush=True)
    told = ", ".join(f"{count:,} {name}" for name, count in whole.counts.items())
    print(
        f"{given.workflows} workflows: {told}; {len(whole.differences)} differences; runs ended {dict(whole.statuses)}; "
        f"{time.monotonic() - began:.0f} s, {whole.cpu_s:.0f} s of CPU"
    )
    return 1 if whole.differences else 0


if __name__ == "__main__":
    sys.exit(main())

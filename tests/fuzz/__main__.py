"""`make fuzz`: every door in a process of its own with a limit on its memory; counts, findings and peak memory by door.

python -m tests.fuzz [--seed N] [--part 1.0] [--processes 2] [--write PAGE] [door …]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MOST_MEMORY_GB = 3
PARENT = "UPTAKE_FUZZ_DOOR"


def main() -> int:
    """Exit code 1 where there is a finding, a difference in the accounts, or a door that died."""
    parser = argparse.ArgumentParser(description="Damaged inputs at every door.")
    parser.add_argument("doors", nargs="*")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", type=float, default=1.0, help="of the full number of inputs")
    parser.add_argument("--processes", type=int, default=2, help="doors beside each other")
    parser.add_argument(
        "--write", type=Path, help="a page with a table between `fuzz:begin` and `fuzz:end`: put these doors there"
    )
    given = parser.parse_args()
    if os.environ.get(PARENT):
        return _one(given.doors[0], given.seed, given.part)
    from tests.fuzz.acting import ACTING
    from tests.fuzz.api import API_DOORS
    from tests.fuzz.doors import DOORS

    wanted = given.doors or [*DOORS, *ACTING, *API_DOORS]
    with ThreadPoolExecutor(given.processes) as doors:
        found = list(doors.map(lambda name: _apart(name, given.seed, given.part), wanted))
    print(f"\n{'door':12} {'inputs':>10} {'seconds':>8} {'peak MB':>8}  outcomes")
    for tally in found:
        outcomes = ", ".join(f"{k} {v:,}" for k, v in sorted(tally["outcomes"].items()))
        print(f"{tally['door']:12} {tally['inputs']:>10,} {tally['seconds']:>8.1f} {tally['peak_mb']:>8,}  {outcomes}")
    total = sum(t["inputs"] for t in found)
    findings = [f for t in found for f in t["findings"]]
    balanced = all(sum(t["outcomes"].values()) == t["inputs"] for t in found)
    print(f"{'all':12} {total:>10,} {sum(t['seconds'] for t in found):>8.1f} {max(t['peak_mb'] for t in found):>8,}")
    print(f"findings: {len(findings)}; every input accounted for: {'yes' if balanced else 'no'}; seed {given.seed}")
    for finding in findings[:40]:
        print(
            f"  {finding['door']} seed {finding['seed']} number {finding['number']}: {finding['error']}\n    {finding['shown'][:600]}"
        )
    if given.write is not None:
        _write(given.write, found, given.seed)
    return 0 if balanced and not findings else 1


BEGIN, END = "<!-- fuzz:begin -->", "<!-- fuzz:end -->"


def _write(page: Path, found: list[dict[str, Any]], seed: int) -> None:
    """The page's table with the rows of these doors made anew: a long run may be made door by door."""
    text = page.read_text()
    before, rest = text.split(BEGIN, 1)
    inside, after = rest.split(END, 1)
    rows = {line.split("|")[1].strip(): line for line in inside.splitlines() if line.startswith("| ")}
    for name in ("door", "all"):
        rows.pop(name, None)
    for t in found:
        outcomes = ", ".join(f"{k} {v:,}" for k, v in sorted(t["outcomes"].items()))
        rows[t["door"]] = (
            f"| {t['door']} | {t['inputs']:,} | {t['seconds']:.0f} | {t['peak_mb']:,} | {outcomes} | {len(t['findings'])} | {seed} |"
        )
    total = sum(int(row.split("|")[2].replace(",", "")) for row in rows.values())
    head = "| door | inputs | seconds | peak MB | outcomes | findings | seed |\n|---|---|---|---|---|---|---|"
    whole = f"| all | {total:,} | | | | | |"
    page.write_text(f"{before}{BEGIN}\n{head}\n" + "\n".join([*rows.values(), whole]) + f"\n{END}{after}")


def _apart(name: str, seed: int, part: float) -> dict[str, Any]:
    """One door in a process of its own, so that its peak memory is its own and its death is only its own."""
    print(f"{name} …", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, "--seed", str(seed), "--part", str(part)],
        env={**os.environ, PARENT: "1"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        finding = {
            "door": name,
            "seed": seed,
            "number": -1,
            "error": f"the process ended with {done.returncode}",
            "shown": "",
        }
        return {"door": name, "inputs": 0, "outcomes": {}, "findings": [finding], "seconds": 0.0, "peak_mb": 0}


def _one(name: str, seed: int, part: float) -> int:
    from tests.fuzz.acting import ACTING
    from tests.fuzz.api import API_DOORS
    from tests.fuzz.doors import DOORS
    from tests.fuzz.run import fire

    doors = DOORS | ACTING
    if name in doors:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_GB << 30, MOST_MEMORY_GB << 30))
        door, size, inputs = doors[name]
        tally = fire(name, door, size, seed, max(size, int(inputs * part)))
    else:
        tally = API_DOORS[name](seed, part)
    print(json.dumps(tally.plain()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make backtest`: how long a backtest of a month takes. The archive is written first (`bench.past`), and kept for the next time.

The rules are the guide's two workflows with what leads to them, and the examples of `rulebook/examples`; one of them is published in
the middle, once more. `ids` is a digest of all command ids: the same archive gives the same one, however it is cut.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import time
from pathlib import Path

from app.backtest import Result, Wanted, backtest
from app.simulate.plan import DAY_MS
from bench.past import month, write
from core.rulebook import load_rulebook
from schemas.definitions import Definition, Rule

ROOT = Path(__file__).resolve().parent.parent
PARTITIONS = 4
CHANGED = "example.searching"


def published(start_ms: int, days: float) -> list[tuple[int, Definition]]:
    """(when, definition): all before the first event, and a rule's second version, with half its cool-down, in the middle."""
    guide = (ROOT / "docs" / "guide.md").read_text()
    texts = {f"guide-{i}": text for i, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", guide, re.M | re.S))}
    texts |= {path.name: path.read_text() for path in sorted((ROOT / "rulebook" / "examples").glob("*.yaml"))}
    rules = load_rulebook(texts)
    old = next(r for r in rules if isinstance(r, Rule) and r.name == CHANGED)
    new = old.model_copy(update={"version": old.version + 1, "cooldown_s": old.cooldown_s // 2})
    return [*((start_ms - 1_000, rule) for rule in rules), (start_ms + int(days * DAY_MS / 2), new)]


def ids(found: Result) -> str:
    """A digest of the commands' ids."""
    return hashlib.sha256("\n".join(sorted(c.id for c in found.commands)).encode()).hexdigest()[:16]


def main() -> int:
    """0, or 1 where a command id came twice or the second reading gave others."""
    parser = argparse.ArgumentParser(prog="make backtest", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="once more, cut otherwise: the ids must be the same")
    parser.add_argument("--data", type=Path, default=Path(".uptake/bench"))
    given = parser.parse_args()
    plan = month(given.events, given.days, given.seed)
    folder = given.data / f"past-{given.events}-{given.days:g}-{given.seed}"
    if not (folder / "whole").exists():
        began = time.monotonic()
        rows = write(folder, plan, PARTITIONS, published(plan.start_ms, given.days))
        (folder / "whole").touch()
        print(f"{rows:,} events written to {folder} in {time.monotonic() - began:.0f} s", flush=True)
    found = _once(Wanted(str(folder), PARTITIONS))
    failed = len({c.id for c in found.commands}) != len(found.commands)
    if given.again:
        failed |= ids(_once(Wanted(str(folder), PARTITIONS, processes=1, rows_a_cut=30_000))) != ids(found)
    return int(failed)


def _once(wanted: Wanted) -> Result:
    began = time.process_time()
    found = backtest(wanted)
    print(
        f"{found.rows:,} events, {found.seconds:.1f} s ({time.process_time() - began:.1f} s of CPU here), "
        f"{len(found.commands):,} commands, ids {ids(found)}, "
        f"{sum(found.suppressed.values()):,} suppressed, {sum(found.failed.values()):,} failed",
        flush=True,
    )
    return found


if __name__ == "__main__":
    raise SystemExit(main())

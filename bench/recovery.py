"""Memory and recovery of METER's state, pure: `python -m bench.recovery --users 100000 --features 4000 --days 28`.

Folds synthetic uses of one partition, writes a base, drops the task and builds it again from the records. Prints bytes a pair and a
(user, feature, day), and seconds.
"""

from __future__ import annotations

import argparse
import json
import time

from bench.state import build, records
from core.definitions import Catalogue
from core.meter.task import MeterTask


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=4_000)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--a-day", type=int, default=5)
    given = parser.parse_args()
    began = time.process_time()
    meter, pair_days = build(given.users, given.features, given.days, given.a_day)
    folded = time.process_time() - began
    pairs, memory = len(meter.usage.pairs), meter.usage.pairs.nbytes()
    store = list(records(meter))
    again = MeterTask(0, 1, Catalogue())
    began = time.process_time()
    for key, value in store:
        again.load(key, value)
    again.loaded()
    took = time.process_time() - began
    if len(again.usage.pairs) != pairs:
        raise SystemExit(f"{len(again.usage.pairs)} of {pairs} pairs were recovered")
    figures = {
        "users": given.users,
        "pairs": pairs,
        "pair_days": pair_days,
        "state_mb": round(sum(len(value) for _, value in store) / 1e6, 1),
        "bytes_a_pair": round(memory / pairs, 1),
        "bytes_a_pair_beyond_8_a_pair_day": round((memory - 8 * pair_days) / pairs, 1),
        "folded_cpu_s": round(folded, 2),
        "recovered_cpu_s": round(took, 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

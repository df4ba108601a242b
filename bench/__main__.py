"""`python -m bench`: all questions, on one broker, in at most 30 minutes (`--quick`: 3). Results go to bench/results/."""

from __future__ import annotations

import argparse
import json
import logging
import math
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench import growth, latency, neighbours, restart, rules, runs, table, throughput
from bench.kafka import cluster
from bench.machine import keep
from bench.memory import Memory

QUESTIONS = ("hotpath", "latency", "neighbours", "batches", "restart", "growth", "throughput")
"""Latencies first: nobody holds memory beside them. Those whose rounds can be fewer come last."""
SHARE = 0.4
"""Of the time that is left, for growth."""
OTHERS = ("rules", "runs")
"""Asked by name (`make bench-rules`)."""


def hotpath(data: Path, quick: bool) -> dict[str, dict[str, float]]:
    """Batch size → stage → µs an event, by a process of its own: it wraps METER's functions."""
    out = data / "hotpath.json"
    sizes = ["1000"] if quick else ["250", "1000", "16000", "50000"]
    subprocess.run([sys.executable, "-m", "bench.hotpath", "--sizes", *sizes, "--json", str(out)], check=True)
    answer: dict[str, dict[str, float]] = json.loads(out.read_text())
    return answer


def main() -> int:
    """0 when every question was answered and every result equalled the oracle's."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and short: does it run, is it right; noisy figures")
    parser.add_argument("--kafka", help="host:port of a Kafka to use; default: one of our own for the time")
    parser.add_argument("--data", type=Path, default=Path(".uptake/bench"), help="events, jars, scratch space")
    parser.add_argument(
        "--runs", type=int, help="interleaved rounds; default: up to 5, as far as the time is enough (quick: 1)"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=29,
        help="all of it together; default 29, so that what makes the environment stays within 30",
    )
    parser.add_argument("--only", nargs="*", choices=(*QUESTIONS, *OTHERS), default=QUESTIONS, help="which questions")
    parser.add_argument(
        "--tools", nargs="*", default=[], help="of throughput: meter meter_wire meter_two faust bytewax kafka_streams"
    )
    given = parser.parse_args()
    rounds = given.runs or (1 if given.quick else 5)
    data = given.data.absolute()
    data.mkdir(parents=True, exist_ok=True)
    # aiokafka warns while a new topic gets its leader; and SIGTERM must end workers and broker too.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    failed: list[str] = []
    # Who says how many rounds there are gets them, however long they take.
    end = math.inf if given.runs else time.monotonic() + given.minutes * 60
    with ExitStack() as stack:
        kafka = stack.enter_context(cluster(given.kafka, data))
        if not given.quick:
            held = Memory()
            stack.callback(held.close)
            kafka = replace(kafka, memory=held)
        for question in given.only:
            print(f"{question} …", flush=True)
            began = time.monotonic()
            try:
                if question == "throughput":
                    result = throughput.measure(
                        kafka, data, quick=given.quick, runs=rounds, until=end, only=frozenset(given.tools)
                    )
                elif question == "latency":
                    result = {"rates": latency.measure(kafka, data, quick=given.quick)}
                    print(f"    {result}")
                elif question == "growth":
                    until = began + SHARE * (end - began)
                    result = growth.measure(kafka, data, quick=given.quick, runs=min(rounds, 3), until=until)
                elif question == "batches":
                    result = growth.batches(kafka, data, quick=given.quick)
                elif question == "neighbours":
                    result = neighbours.measure(kafka, data, quick=given.quick)
                elif question == "rules":
                    result = rules.measure(quick=given.quick, runs=rounds)
                elif question == "runs":
                    result = runs.measure(kafka, data, quick=given.quick)
                elif question == "restart":
                    result = restart.measure(kafka, data, quick=given.quick)
                else:
                    result = {"us_per_event": hotpath(data, given.quick)}
                print(f"  kept in {keep(question, result, given.quick)}", flush=True)
            except Exception as error:  # one question that fails must not cost the others' answers
                failed.append(question)
                print(f"  {question} FAILED: {error}", file=sys.stderr, flush=True)
            finally:
                print(f"  {question}: {time.monotonic() - began:.0f} s", flush=True)
    table.main([])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

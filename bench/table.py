"""Writes the figures of `bench/results/*.json` into `docs/performance.md`, between its markers; `--check` compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- figures: made by bench/table.py from bench/results; do not edit -->\n"
END = "<!-- end of figures -->\n"
TITLES = {
    "meter": "**METER**, one worker process, nothing switched off",
    "meter_wire": "METER, half of the times RFC 3339, 5 % duplicates",
    "meter_two": "METER, two worker processes",
}


def _load(question: str) -> dict[str, Any] | None:
    path = RESULTS / f"{question}.json"
    if not path.exists():
        return None
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def _machine(result: dict[str, Any]) -> str:
    on = result["machine"]
    packages = ", ".join(f"{n} {v}" for n, v in on["packages"].items())
    return (
        f"Measured on {on['cpu']}, {on['cores']} cores shared with the broker, {on['memory_gb']} GB; {on['system']}, "
        f"Python {on['python']}, Kafka {on['kafka']}, {packages}; commit `{on['commit']}`, {on['at']}, load before "
        f"{on['load_before']}.\n"
    )


def _rows(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(c) for c in line) + " |\n" for line in lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def throughput(result: dict[str, Any]) -> str:
    """METER and peers."""
    titles = TITLES | result["titles"]
    rows = [
        [
            titles[name],
            _number(figures["events_s"]),
            _number(figures["cpu_s_per_million"]),
            f"{figures['peak_mb']:.0f}",
            f"{result['cpu_ratio_to_meter'][name]:g} ×" if name in result["cpu_ratio_to_meter"] else "",
            f"{result['runs'][name][0]['rows']:,}",
            f"{max(run['keys_checked'] for run in result['runs'][name]):,}",
        ]
        for name, figures in result["median"].items()
    ]
    head = [
        "",
        "events/s",
        "CPU s per million",
        "peak MB",
        "CPU, METER = 1",
        "events a run",
        "keys equal to the oracle",
    ]
    runs = max(len(r) for r in result["runs"].values())
    return f"### Throughput, catching up\n\nMedians of {runs} interleaved runs.\n\n" + _rows(head, rows)


def latency(result: dict[str, Any]) -> str:
    """Event to command."""
    columns = ("p50_ms", "p90_ms", "p99_ms", "max_ms")
    rows = [
        [f"{r['rate']:,}", *(r[name] for name in ("partitions", "commands", *columns, "cores_used"))]
        for r in result["rates"]
    ]
    return "### Event to command\n\nMilliseconds from an event's intended sending to its command read.\n\n" + _rows(
        ["events/s", "partitions", "commands", "p50", "p90", "p99", "max", "cores used by METER and DECIDE"], rows
    )


def growth(result: dict[str, Any]) -> str:
    """Users and features."""
    new = result["cpu_s_per_million_new"]
    rows = [[name, f"{new[name]:.2f}", f"{cpu:.2f}"] for name, cpu in result["cpu_s_per_million"].items()]
    ratios = f"1 million users cost {result['users_ratio']} × of 10 thousand; 4,000 features {result['features_ratio']} × of 40.\n"
    heads = ["METER, CPU s per million", "first half of the events: users and features are new", "second half"]
    return "### Growth\n\n" + _rows(heads, rows) + "\n" + ratios


def batches(result: dict[str, Any]) -> str:
    """Stored batch sizes."""
    rows = [
        [f"{int(size):,}", _number(r["events_s"]), _number(r["cpu_s_per_million"])]
        for size, r in result["batch_bytes"].items()
    ]
    return "### Size of the stored batches\n\n" + _rows(["at most bytes", "events/s", "CPU s per million"], rows)


def restart(result: dict[str, Any]) -> str:
    """State: size and recovery."""
    rows = [[what, f"{value:,}", unit] for what, value, unit in result["figures"]]
    return "### State: memory and recovery after kill -9\n\n" + _rows(["", "", ""], rows)


def neighbours(result: dict[str, Any]) -> str:
    """A flood beside, and a queue before."""
    quota, times = result["quota"], result["times"]
    titles = {
        "alone": "alone",
        "beside_gateway": f"beside one that posts {times} × its quota to the gateway",
        "beside": "beside one that writes as much straight to Kafka, 1 match in 1,000 of its events",
        "beside_wild": f"the same, 1 match in 50: {quota * times // 50:,} commands a second of the other's",
    }
    rows = [
        [title, f"{r['commands']:,}", f"{r['loud_commands']:,}", r["p50_ms"], r["p99_ms"], r["max_ms"]]
        for name, title in titles.items()
        for r in [result[name]]
    ]
    head = [f"a tenant at its quota of {quota:,} events/s", "commands", "the other's", "p50 ms", "p99 ms", "max ms"]
    queue = result["urgent"]
    answers = result["beside_gateway"]["answers"]
    refused = answers.get("429", 0) / sum(answers.values())
    said = (
        f"\nThe gateway refused {100 * refused:.1f} % of the other's requests (429).\n\n"
        f"An urgent command behind {queue['digests']:,} digests for a connection that takes 100 a second, from being written to "
        f"being delivered: {queue['p50_ms']} ms (p50), {queue['p99_ms']} ms (p99) once they wait ({queue['waiting']:,} rows); "
        f"{queue['behind_in_the_log_ms']:,} ms where all of them still stand before it in the log and must be read first.\n"
    )
    return "### Neighbours\n\nEvent to command of one tenant, beside another.\n\n" + _rows(head, rows) + said


def rules(result: dict[str, Any]) -> str:
    """Ten rules and ten thousand."""
    table = [
        [r["rules"], *(f"{r['cpu_s_per_million'][n]:.2f}" for n in ("0", "10", "10000")), f"{r['ratio']:.2f} ×"]
        for r in result["meter"]
    ]
    decide = result["decide"]
    said = (
        f"\nA signal that meets one rule costs DECIDE {decide['few_us']} µs among 10 rules, {decide['many_us']} µs among 10,000 "
        f"({decide['ratio']:.2f} ×).\n"
    )
    head = ["rules, none of which the events meet", "without rules", "10 rules", "10,000 rules", "10,000 to 10"]
    return "### Rules\n\nMETER, CPU s per million events, without Kafka.\n\n" + _rows(head, table) + said


def runs(result: dict[str, Any]) -> str:
    """Workflows: steps, and parked runs."""
    steps, live, found = result["steps"], result["live"], result["parked"]
    count, due = found["count"], found["due"]
    table: list[list[Any]] = [
        ["the task alone, without Kafka, steps a second of CPU", f"{steps['steps_s']:,}", ""],
        ["ORCHESTRATE on Kafka, one process, catching up: runs begun a second", f"{live['steps_s']:,}", ""],
        [f"{count:,} parked runs: state rows", f"{found['bytes_a_row']:,}", "B each"],
        ["resident memory of the process that holds them", f"{found['parked_mb']:,}", "MB"],
        ["its peak, recoveries and timers included", f"{found['peak_mb']:,}", "MB"],
        ["from the start after `kill -9` to ready", found["restored_s"], "s"],
        [f"error of {due:,} timers due in one minute: p50", f"{found['late_p50_ms']:,}", "ms"],
        ["p99", f"{found['late_p99_ms']:,}", "ms"],
        ["largest", f"{found['late_max_ms']:,}", "ms"],
        ["declared disorder of the product, part of every error", found["disorder_ms"], "ms"],
    ]
    return "### Workflows\n\n" + _rows(["", "", ""], table)


def hotpath(result: dict[str, Any]) -> str:
    """Stages of the hot path."""
    sizes = list(result["us_per_event"])
    stages = dict.fromkeys(stage for row in result["us_per_event"].values() for stage in row)
    rows = [[stage, *(f"{result['us_per_event'][size].get(stage, 0):.2f}" for size in sizes)] for stage in stages]
    head = ["µs an event, at rows a batch", *(f"{int(size):,}" for size in sizes)]
    return "### The hot path by stage, without Kafka\n\n" + _rows(head, rows)


SECTIONS: tuple[tuple[str, Any], ...] = (
    ("throughput", throughput),
    ("latency", latency),
    ("growth", growth),
    ("batches", batches),
    ("restart", restart),
    ("neighbours", neighbours),
    ("rules", rules),
    ("runs", runs),
    ("hotpath", hotpath),
)


def text() -> str:
    """All sections that have a result."""
    parts = []
    for question, section in SECTIONS:
        result = _load(question)
        if result is not None:
            parts.append(section(result) + "\n" + _machine(result))
    return "\n".join(parts) or "No full run has been kept yet: `make bench`.\n"


def page(current: str) -> str:
    """The page with its figures as they should be."""
    before, _, rest = current.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text()}\n{END}{after}"


def main(arguments: list[str]) -> int:
    """0 where the page is right, or was written."""
    current = PAGE.read_text(encoding="utf-8")
    if BEGIN not in current or END not in current:
        sys.stderr.write(f"{PAGE.relative_to(ROOT)} has lost its markers\n")
        return 1
    wanted = page(current)
    if "--check" in arguments:
        if wanted != current:
            sys.stderr.write("docs/performance.md differs from bench/results; run make generate\n")
        return int(wanted != current)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

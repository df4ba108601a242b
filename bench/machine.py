"""What a figure was measured on, and where it is kept."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from app.broker.jars import KAFKA_VERSION

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("faust-streaming", "aiokafka", "msgspec", "numpy", "bytewax", "confluent-kafka", "cramjam")


def machine() -> dict[str, Any]:
    """Processor, cores, memory, versions, commit, load before the run."""
    root = Path(__file__).parent.parent
    git = ["git", "-C", str(root)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True).stdout.strip()
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
        "packages": {p: version(p) for p in PACKAGES},
        "commit": commit + ("+changes" if changed else ""),
        "load_before": round(os.getloadavg()[0], 2),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def keep(question: str, result: dict[str, Any], quick: bool) -> Path:
    """Writes a result with its machine; quick runs beside the full ones, never over them."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{question}{'.quick' if quick else ''}.json"
    path.write_text(json.dumps({"machine": machine(), "quick": quick, **result}, indent=1) + "\n")
    return path


def median(rows: Iterable[dict[str, float]], name: str) -> float:
    """Of one figure over the runs."""
    return statistics.median(row[name] for row in rows)

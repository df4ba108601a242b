"""Wall and CPU seconds of this process from its first row to its last, and the peers' result file."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def cpu_s() -> float:
    """CPU seconds of this process with all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Clock:
    """Started at the first row, stopped when the last one's result is durable by the tool's own means."""

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0

    def start(self) -> None:
        self._wall, self._cpu = time.perf_counter(), cpu_s()

    def stop(self) -> None:
        self.seconds, self.cpu = time.perf_counter() - self._wall, cpu_s() - self._cpu

    def write(self, out: Path, rows: int, groups: Sequence[Sequence[Any]], users: Sequence[Sequence[Any]]) -> None:
        """Writes the result where the bench looks for it; whole or not at all."""
        result = {"rows": rows, "seconds": self.seconds, "cpu_s": self.cpu, "groups": groups, "users": users}
        partial = out.with_suffix(".partial")
        partial.write_text(json.dumps(result))
        partial.rename(out)

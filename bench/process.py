"""A measured child process: its output in a file, its CPU time and peak memory from outside."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil


class Child:
    """A process, and all its descendants, watched twenty times a second. Use as a context manager: it ends them."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(environment or {})},
            )
        self._peak: dict[int, int] = {}
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    @property
    def pid(self) -> int:
        """Of the process itself."""
        return self._process.pid

    def returned(self) -> int | None:
        """Its exit code once it has ended."""
        return self._process.poll()

    def cpu_s(self) -> float:
        """CPU seconds used so far, its living descendants' included."""
        return sum(sum(p.cpu_times()[:2]) for p in self._family())

    def peak_mb(self) -> int:
        """Largest sum of resident memory seen, by process."""
        return sum(self._peak.values()) >> 20

    def wait(self, seconds: float) -> int:
        """Its exit code; raises with its last words when it takes longer."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done after {seconds:.0f} s: {self.last_words()}") from None

    def last_words(self) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-1500:]

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        family = self._family()
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        for left in family[1:]:
            if left.is_running():
                left.kill()
        self._over.set()
        self._watcher.join()

    def _family(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _watch(self) -> None:
        while not self._over.is_set():
            for process in self._family():
                try:
                    self._peak[process.pid] = max(self._peak.get(process.pid, 0), process.memory_info().rss)
                except psutil.Error:
                    continue
            self._over.wait(0.05)


def wait_for(what: str, holds: Callable[[], bool], child: Child, seconds: float, every: float = 0.02) -> None:
    """Returns once it holds; raises with the child's last words when the child ends or `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while not holds():
        if child.returned() is not None:
            raise RuntimeError(f"{what}: ended with {child.returned()}: {child.last_words()}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds:.0f} s: {child.last_words()}")
        time.sleep(every)

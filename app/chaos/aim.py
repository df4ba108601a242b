"""Stopping a process in the middle of something: looked at, stopped, looked at again, and let go where it was too late."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping

import psutil

from transport.phases import Phase, PhaseReader

LOOK_S = 0.0003
STOPPED_WITHIN_S = 2.0
Wanted = Callable[[dict[str, Phase]], bool]


def frozen_in(pid: int, reader: PhaseReader, wanted: Wanted, within_s: float) -> tuple[dict[str, Phase], bool]:
    """Stops the process (SIGSTOP) in a moment in which `wanted` holds of its partitions' phases, else whenever the time is up.

    Blocks: meant for a thread. What it returns is what the stopped process stands in, and whether that is what was wanted.
    Raises `ProcessLookupError` where the process is gone.
    """
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not wanted(reader.now()):
            time.sleep(LOOK_S)
            continue
        _stop(pid)
        if wanted(found := reader.now()):
            return found, True
        os.kill(pid, signal.SIGCONT)
        time.sleep(LOOK_S)
    _stop(pid)
    found = reader.now()
    return found, wanted(found)


def _stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    process = psutil.Process(pid)
    deadline = time.monotonic() + STOPPED_WITHIN_S
    # The signal reaches a thread that runs on another core a moment later.
    while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE) and time.monotonic() < deadline:
        time.sleep(0.0001)


def some(phases: frozenset[Phase]) -> Wanted:
    """Whether a partition is in one of these phases."""
    return lambda found: any(phase in phases for phase in found.values())


def told(found: Mapping[str, Phase]) -> str:
    """For people: the most telling phase, and of which partition."""
    order = (*range(Phase.FILLING, Phase.COMMITTING + 1), *range(Phase.FENCING, Phase.SEEKING + 1), Phase.STARTING)
    for wanted in order:
        for label, phase in found.items():
            if phase == wanted:
                return f"{phase.name.lower()} of {label}"
    return "between checkpoints" if found else "before its first assignment"

"""Memory in hand: what is free on this machine is held, and let go as whoever is measured takes it.

The host of a virtual machine hands a page out when it is touched for the first time, and takes it back a moment after it was freed.
That may cost 3 s of processor time a gigabyte, counted as the time of whoever touches it, and says nothing about him. So a process
touches what is free before anything is measured, keeps it in use, and frees as much as others take, when they take it.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psutil

CHUNK: Final = 1 << 26
LEFT: Final = 3 << 27
"""Bytes that stay free: what is needed faster than the next look comes from these."""
SLACK: Final = 1 << 27
"""More than this beyond `LEFT` is taken again, as long as nobody is measured."""
LOOK_S: Final = 0.02
FIRST_S: Final = 90
AGAIN_S: Final = 20
"""A machine with more memory than can be touched in this time is measured with what is held by then."""


class Memory:
    """The holder: it begins when somebody is to be measured for the first time."""

    def __init__(self) -> None:
        self._holder: subprocess.Popen[bytes] | None = None
        self.new_s_gb = 0.0
        """Seconds that a gigabyte took which nobody had before; 0: not known yet."""

    @contextmanager
    def in_hand(self) -> Iterator[None]:
        """Inside, memory that somebody takes was in hand, and nothing is taken from him."""
        if self._holder is None:
            print("    taking free memory in hand", flush=True)
            command = [sys.executable, "-m", "bench.memory", str(os.getpid())]
            self._holder = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert self._holder.stdout is not None
            self._holder.stdout.readline()  # it knows its signals
            free = psutil.virtual_memory().free
            took = _settled(FIRST_S)
            self.new_s_gb = took / max(free - psutil.virtual_memory().free, CHUNK) * 2**30
        else:
            _settled(AGAIN_S)
        self._holder.send_signal(signal.SIGUSR1)
        try:
            yield
        finally:
            self._holder.send_signal(signal.SIGUSR2)

    def close(self) -> None:
        """Everything is let go."""
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
            self._holder = None


def _settled(within_s: float) -> float:
    """Waits until what is free is held, but no longer than that; how many seconds. Nobody tells when others free memory."""
    began = time.monotonic()
    while psutil.virtual_memory().free > LEFT + SLACK and time.monotonic() < began + within_s:
        time.sleep(0.05)
    return time.monotonic() - began


def main(parent: int) -> None:
    """Until the parent ends. SIGUSR1: nothing is taken any more, only let go; SIGUSR2: taken again."""
    taking = True

    def told(number: int, _: object) -> None:
        nonlocal taking
        taking = number == signal.SIGUSR2

    signal.signal(signal.SIGUSR1, told)
    signal.signal(signal.SIGUSR2, told)
    _first_to_go()
    print(flush=True)
    chunks: list[mmap.mmap] = []
    while os.getppid() == parent:
        more = step(psutil.virtual_memory().free, len(chunks), taking)
        for _ in range(-more):
            chunks.pop().close()
        if more > 0:
            chunks.append(_touched())
        elif not more:
            time.sleep(LOOK_S)


def step(free: int, held: int, taking: bool) -> int:
    """Chunks to take, one at a time since it lasts, or, below 0, to let go."""
    if free < LEFT:
        return -min(held, -((free - LEFT) // CHUNK))
    return int(taking and free > LEFT + SLACK)


def _touched() -> mmap.mmap:
    made = mmap.mmap(-1, CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if sys.platform == "linux":
        made.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, CHUNK, mmap.PAGESIZE):
        made[at] = 1
    return made


def _first_to_go() -> None:
    """Should memory run out all the same, this is the process to end."""
    if sys.platform == "linux":
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""A door under fire: inputs by number and seed, every one accounted for, each with a time limit, and the process's peak memory."""

from __future__ import annotations

import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

HANG_S = 20
Outcome = dict[str, int]
"""What became of one call's inputs: outcome → how many."""


@dataclass(slots=True)
class Finding:
    """An input that was neither taken nor refused."""

    door: str
    seed: int
    number: int
    error: str
    shown: str


@dataclass(slots=True)
class Tally:
    """What a door did."""

    door: str
    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0
    peak_mb: int = 0

    def plain(self) -> dict[str, Any]:
        """For JSON. (`asdict` makes a Counter of pairs.)"""
        findings = [asdict(finding) for finding in self.findings]
        return {
            "door": self.door, "inputs": self.inputs, "outcomes": dict(self.outcomes), "findings": findings,
            "seconds": self.seconds, "peak_mb": self.peak_mb,
        }  # fmt: skip


class Hang(BaseException):
    """One input took longer than any may."""


Door = Callable[[Random, list[Any]], Outcome]
"""Given a source of chance and a place to leave its input: knocks once, and says what became of it."""


def fire(name: str, door: Door, size: int, seed: int, inputs: int) -> Tally:
    """Knock until `inputs` have been used; a call takes `size` of them. An exception or a hang is a finding, and it goes on."""
    tally = Tally(name)
    began = time.monotonic()
    number = 0
    while tally.inputs < inputs and len(tally.findings) < 50:
        held: list[Any] = []
        try:
            with _limit():
                outcome = door(Random(f"{name}/{seed}/{number}"), held)
            assert sum(outcome.values()) == size, f"{outcome} of {size}"
            tally.outcomes.update(outcome)
        except (Exception, Hang) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__}: {str(error)[:200]} at {last.filename.split('/')[-1]}:{last.lineno}"
            tally.findings.append(Finding(name, seed, number, where, repr(held)[:1_000]))
        tally.inputs += size
        number += 1
    tally.seconds = time.monotonic() - began
    tally.peak_mb = peak_mb()
    return tally


def peak_mb() -> int:
    """Most memory that this process has held, MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most >> (20 if sys.platform == "darwin" else 10)


@contextmanager
def _limit() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hang(f"more than {HANG_S} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

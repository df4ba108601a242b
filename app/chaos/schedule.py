"""Which fault when. Pure: the same seed gives the same schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from app.chaos.registry import Kind, Track

CALM_S = 4.0
"""Shortest time between the end of one fault and the next one of its track."""
TRACKS: tuple[Track, ...] = ("machines", "neighbours")


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault to come."""

    at_s: float
    """From the beginning of the run."""
    kind: Kind
    lasts_s: float


def schedule(
    kinds: Sequence[Kind], seed: int, seconds: float, *, begin_s: float = 10.0, calm_s: float = CALM_S
) -> list[Planned]:
    """Faults of both tracks from `begin_s` on, none of which should last beyond `seconds`; every kind comes as often as the
    others of its track, but for one, in a shuffled order.
    """
    planned = [
        fault
        for track in TRACKS
        for fault in _track([k for k in kinds if k.track == track], Random(f"{seed}-{track}"), begin_s, seconds, calm_s)
    ]
    return sorted(planned, key=lambda fault: fault.at_s)


def _track(kinds: list[Kind], chance: Random, begin_s: float, seconds: float, calm_s: float) -> list[Planned]:
    found: list[Planned] = []
    at = begin_s + chance.uniform(0, calm_s)
    waiting: list[Kind] = []
    while kinds:
        if not waiting:
            waiting = chance.sample(kinds, len(kinds))
        kind = waiting.pop()
        lasts = chance.uniform(*kind.lasts_s)
        if at + lasts > seconds:
            break
        found.append(Planned(at, kind, lasts))
        at += lasts + calm_s * chance.uniform(1.0, 2.0)
    return found

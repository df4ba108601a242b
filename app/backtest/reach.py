"""How much of the log a backtest reads: from a warm-up before its first moment to when every source has passed its last.

The log is read by the broker's time, rules think in event time; METER's recorded clocks say how far one was at the other.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, TypeGuard, cast

import msgspec
import numpy as np
import numpy.typing as npt

from app.archive import Archived
from core.archive import REGISTERS, REPLAYED_STEP_MS
from core.people.asked import asks
from schemas.definitions import (
    Campaign,
    Definition,
    Detector,
    OnAbsence,
    OnCount,
    OnInactivity,
    OnSegment,
    OnSequence,
    Rule,
    Segment,
    Threshold,
    Workflow,
)
from schemas.registers import HOT, WINDOWS, Clock, RegisterRecord
from schemas.registers import decode as decode_register

DAY_MS: Final = 86_400_000
OF_USE: Final = frozenset({"adoption_rate", "users", "events", "active_users", "events_per_user"})
LONGEST_MS: Final = max(length for length, _ in WINDOWS.values())
_GRACE_MS: Final = 3_600_000
_RUN_MS: Final = 90 * DAY_MS
"""Taken for a run that says nothing of how long it lasts."""
Source = tuple[str, int]
Int64s = npt.NDArray[np.int64]


@dataclass(slots=True)
class Clocks:
    """METER's recorded clocks, by source (topic, partition): tables of (broker time, event time), in order."""

    idle: dict[Source, Int64s] = field(default_factory=dict)
    """Those that may have come from silence."""
    all: dict[Source, Int64s] = field(default_factory=dict)

    def began(self, at: int) -> int | None:
        """Broker time at which the first source came to this event time, or began the replay in which it did (who has not heard its
        beginning does not know what it may do); 0 where nobody was ever before it; None where none came to it.
        """
        found = [self._began(source, at) for source in self.all]
        return min((told for told in found if told is not None), default=None)

    def _began(self, source: Source, at: int) -> int | None:
        clocks, idle = self.all[source], self.idle.get(source, _NONE)
        place = _first(clocks, at)
        if not place:
            return place
        told, clock = clocks[place].tolist()
        before = int(np.searchsorted(idle[:, 0], told))
        while before < len(idle) and idle[before].tolist() < [told, clock]:
            before += 1
        if before < len(idle) and idle[before].tolist() == [told, clock]:
            return int(told)
        return int(idle[before - 1, 0]) if before else 0

    def ended(self, at: int) -> int | None:
        """Broker time at which the last source came to it; None where one never did."""
        firsts = [_first(c, at) for c in self.all.values()]
        known = [int(c[first, 0]) for c, first in zip(self.all.values(), firsts, strict=True) if first is not None]
        return max(known) if known and len(known) == len(firsts) else None


def _first(clocks: Int64s, at: int) -> int | None:
    """The first row that has come to this event time."""
    there = np.flatnonzero(clocks[:, 1] >= at)
    return int(there[0]) if len(there) else None


_NONE: Final = np.zeros((0, 2), np.int64)
_source, _at, _replaying = attrgetter("source", "partition"), attrgetter("at"), attrgetter("replaying")
_LIST: Final = 0xDD
"""MessagePack: a list follows, its length in four bytes."""
_decode_all = msgspec.msgpack.Decoder(list[RegisterRecord | None]).decode


def clocks_of(archived: Archived) -> Clocks:
    """Every clock of the archive."""
    idle: dict[Source, list[Int64s]] = defaultdict(list)
    every: dict[Source, list[Int64s]] = defaultdict(list)
    for partition in archived.partitions(REGISTERS):
        for frame in archived.frames(REGISTERS, partition, ["timestamp", "value"]):
            stamps, clocks = _read(frame["timestamp"].to_numpy(), frame["value"].to_list())
            sources = list(map(_source, clocks))
            numbers = {source: number for number, source in enumerate(dict.fromkeys(sources))}
            of = np.fromiter(map(numbers.__getitem__, sources), np.int64, len(clocks))
            at = np.fromiter(map(_at, clocks), np.int64, len(clocks))
            replaying = np.fromiter(map(_replaying, clocks), np.bool_, len(clocks))
            table = np.stack([stamps, at], axis=1)
            for source, number in numbers.items():
                mine = of == number
                every[source].append(table[mine])
                if len(rest := table[mine & ~replaying]):
                    idle[source].append(rest)
    joined = [{source: np.concatenate(parts) for source, parts in of.items()} for of in (idle, every)]
    return Clocks(*joined)


def _read(stamps: Int64s, values: list[bytes | None]) -> tuple[Int64s, list[Clock]]:
    """The clocks among these records, and their broker times."""
    records: list[RegisterRecord | None]
    try:  # all of them as one list, which is a fifth of the work
        records = _decode_all(struct.pack(">BI", _LIST, len(values)) + b"".join([value or b"" for value in values]))
    except msgspec.MsgspecError:
        records = [_decoded(value) for value in values]
    if {*map(type, records)} == {Clock}:
        return stamps, cast(list[Clock], records)
    kept = np.fromiter(map(_is_clock, records), np.bool_, len(records))
    return stamps[kept], [*filter(_is_clock, records)]


def _is_clock(record: RegisterRecord | None) -> TypeGuard[Clock]:
    return isinstance(record, Clock)


def _decoded(value: bytes | None) -> RegisterRecord | None:
    try:
        return decode_register(value or b"")
    except msgspec.MsgspecError:
        return None


def warm_up_ms(definitions: Iterable[Definition]) -> int | None:
    """The longest that anything of these looks back: a window, a pattern, a cool-down, a run. None: to the beginning of what is there.

    >>> warm_up_ms([]) == 28 * 86_400_000
    True
    """
    longest = 0
    for definition in definitions:
        memory = _memory_ms(definition)
        if memory is None:
            return None
        longest = max(longest, memory)
    return LONGEST_MS + longest


def _memory_ms(definition: Definition) -> int | None:
    match definition:
        case Workflow(reentry="once"):
            return None
        case Workflow():
            lasts = 1_000 * definition.lasts if definition.lasts is not None else _RUN_MS
            return max(lasts, 1_000 * definition.reentry_after)
        case Detector():
            return None  # how unusual a reading is, is told by all those before it
        case Threshold():
            return 1_000 * (definition.for_s + definition.keep_firing_for_s)
        case Rule() if definition.outcome is not None:
            return None  # a verdict rests on the whole experiment
        case Rule():
            return 1_000 * (_pattern_s(definition) + definition.cooldown_s)
        case _:
            return 0


def _pattern_s(rule: Rule) -> int:
    match rule.trigger:
        case OnCount(within_s=within) | OnSequence(within_s=within) | OnAbsence(within_s=within):
            return within
        case OnInactivity(after_s=after):
            return after
        case _:
            return 0


def people_asked(definitions: Iterable[Definition]) -> bool:
    """Whether profiles are asked for, which are kept from as far back as there is news of people."""
    return any(
        isinstance(d, Campaign)
        or (isinstance(d, Segment) and d.where is not None)
        or (isinstance(d, Rule) and (isinstance(d.trigger, OnSegment) or asks(d)))
        for d in definitions
    )


def figures_asked(definitions: Iterable[Definition]) -> dict[str, dict[str, frozenset[str] | None]]:
    """By topic, the figures on which a decision may rest: those that health and stages rest on, and any that is named somewhere. The
    others are shown in tables only, which a backtest has none of; their ends, every ten seconds, would cost more than all rows.

    >>> sorted(figures_asked([])["events.usage"])
    ['1d', '28d', '7d']
    """
    everything: dict[str, frozenset[str] | None] = dict.fromkeys(("1d", "7d", "28d"))
    found = {topic: dict(everything) for topic in HOT}
    for definition in definitions:
        if isinstance(definition, Threshold) and definition.metric != "health_score":
            of = (definition.of,) if definition.of is not None else ()
            usage = definition.metric in OF_USE
            each = definition.metric in ("adoption_rate", "users") and definition.of is None
            asked = found[HOT[0] if usage else HOT[1]]
            before = asked.get(definition.window, frozenset())
            asked[definition.window] = None if before is None or each else before | frozenset(of)
            continue
        text = definition.model_dump_json()
        for window in WINDOWS:
            if f'"{window}"' in text:
                for topic in HOT:
                    found[topic][window] = None
    return found


def corrections_asked(definitions: Iterable[Definition]) -> frozenset[str]:
    """Topics of which late rows may change what was decided: rules that mind late data look at figures of use once more. Of
    requests nothing is ever decided again; tables, which show the newest figures, a backtest has none.

    >>> corrections_asked([])
    frozenset()
    """
    return frozenset(HOT[:1]) if any(isinstance(d, Rule) and d.late != "drop" for d in definitions) else frozenset()


def reach(clocks: Clocks, begin: int | None, end: int | None, warm_up: int | None) -> tuple[int, int | None]:
    """(first, end) in broker time; None: to the end of the archive."""
    first = 0
    if begin is not None and warm_up is not None:
        first = clocks.began(begin - warm_up - 2 * REPLAYED_STEP_MS) or 0
    return first, None if end is None else clocks.ended(end + _GRACE_MS)


def cuts(stamps: list[Int64s], more: Iterable[int], rows: int, longest_ms: int = DAY_MS) -> list[int]:
    """Broker times between which the log is worked at once: some `rows`, a day at most, and never past one of `more`.

    >>> cuts([np.array([1, 2, 3, 4])], [3], 2)
    [1, 3, 5]
    """
    times = np.sort(np.concatenate(stamps)) if stamps else np.zeros(0, np.int64)
    if not len(times):
        return []
    begin, end = int(times[0]), int(times[-1]) + 1
    wanted = {begin, end, *(int(t) for t in times[::rows]), *range(begin, end, longest_ms)}
    return sorted({t for t in wanted | set(more) if begin <= t <= end})

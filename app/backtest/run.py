"""A backtest from the opened archive to its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np

from app.archive import Archived
from app.backtest.deciding import Deciding
from app.backtest.metering import Sent
from app.backtest.past import Past
from app.backtest.processes import Job, Processes, processes
from app.backtest.reach import DAY_MS, Int64s, clocks_of, cuts, people_asked, reach, warm_up_ms
from app.backtest.report import Given, Ordered, Result
from app.backtest.running import Told
from app.backtest.timeline import Timeline, moments
from core.archive import COMMANDS, EVENTS, SIGNALS
from core.definitions import Catalogue
from core.meter.others import TOPICS as OTHERS
from schemas.definitions import Definition, OnSchedule, Rule

ROWS_A_CUT: Final = 100_000


class _Receipt(msgspec.Struct):
    command: str
    final: bool


class _Command(msgspec.Struct):
    id: str
    rule: str
    tenant: str
    issued_at: int


_receipt = msgspec.json.Decoder(_Receipt).decode
_command = msgspec.json.Decoder(_Command).decode


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. Times are event time, milliseconds, [begin, end)."""

    url: str
    partitions: int
    begin: int | None = None
    end: int | None = None
    tenant: str | None = None
    rules: Sequence[Definition] | None = None
    """Instead of those that were in force; with them, detectors, thresholds and products of the same name."""
    strict: bool = False
    processes: int | None = None
    rows_a_cut: int = ROWS_A_CUT


def backtest(wanted: Wanted, told: Callable[[str], None] = lambda text: None) -> Result:
    """Replay. Raises `ArchiveError` where the archive cannot be read."""
    began = time.monotonic()
    archived = Archived.open(wanted.url)
    with processes(wanted.processes, wanted.partitions) as helpers:
        return _replayed(wanted, archived, helpers, began, told)


def _replayed(
    wanted: Wanted, archived: Archived, helpers: Processes, began: float, told: Callable[[str], None]
) -> Result:
    past = Past.of(archived, wanted.rules)
    clocks = clocks_of(archived)
    first, last = reach(clocks, wanted.begin, wanted.end, warm_up_ms(past.all()))
    by_hand = _by_hand(archived, first)
    sent, receipts = _sent(archived), _receipts(archived)
    line = Timeline(clocks.all, wanted.partitions)
    stamps = [s for s in _stamps(archived, EVENTS, first, last) if len(s)]
    rows = sum(map(len, stamps))
    # Clocks that silence moved, and the last word of a receipt: runs go on by them.
    silence = [t for c in clocks.idle.values() for t in c[[0, -1], 0].tolist() if _inside(t, first, last)]
    silence += [t for t in _last(receipts) if _inside(t, first, last)]
    edges = {t for t in (past.times() | {h[0] for h in by_hand}) if _inside(t, first, last)}
    if stamps:
        scheduled = [d.trigger for d in past.all() if isinstance(d, Rule) and isinstance(d.trigger, OnSchedule)]
        newest = max([*silence, *(int(s.max()) for s in stamps)])
        edges |= moments(scheduled, line, min(int(s.min()) for s in stamps), newest)
    times = cuts([*stamps, *_times(silence)], edges, wanted.rows_a_cut)
    before = _news(archived, past, times[0]) if times and first and people_asked(past.all()) else []
    hot = times[0] if times else 0
    times = [*before, *times]
    catalogue = Catalogue()
    follower = past.follower(catalogue)
    deciding = Deciding(catalogue, wanted.partitions, line, receipts, frozenset(sent))
    told(f"{rows:,} rows in {max(0, len(times) - 1)} parts")
    if len(times) > 1:
        helpers.begin(Job(wanted.url, wanted.partitions, past, times, hot, clocks.idle, wanted.strict))
        at = 0
        for begin, end in pairwise(times):
            follower.until(begin)
            came, judged = helpers.take()
            hands = []
            while at < len(by_hand) and by_hand[at][0] < end:
                hands.append(by_hand[at][1])
                at += 1
            deciding.work(came, judged, hands, end)
    return Result(
        commands=[_ordered(c, c.id not in sent) for c in deciding.commands if _asked(wanted, c.tenant, c.issued_at)],
        suppressed=dict(deciding.suppressed),
        failed=dict(deciding.failed),
        rows=rows,
        seconds=time.monotonic() - began,
        sent={c.id: (c.rule, c.issued_at) for c in sent.values() if _asked(wanted, c.tenant, c.issued_at)},
    )


def _inside(at: int, first: int, last: int | None) -> bool:
    return at >= first and (last is None or at < last)


def _asked(wanted: Wanted, tenant: str, at: int) -> bool:
    return (
        (wanted.tenant is None or tenant == wanted.tenant)
        and (wanted.begin is None or at >= wanted.begin)
        and (wanted.end is None or at < wanted.end)
    )


def _stamps(archived: Archived, topics: Sequence[str], first: int, last: int | None) -> list[Int64s]:
    found = []
    for topic in topics:
        for partition in archived.partitions(topic):
            for frame in archived.frames(topic, partition, ["timestamp"]):
                stamps = frame["timestamp"].to_numpy()
                kept = stamps >= first if last is None else (stamps >= first) & (stamps < last)
                found.append(stamps[kept])
    return found


def _times(times: list[int]) -> list[Int64s]:
    return [np.array(times, np.int64)] if times else []


def _news(archived: Archived, past: Past, until: int) -> list[int]:
    """Cuts of the time before, in which people's news alone are read: their profiles hold what was said at any time."""
    stamps = [s for s in _stamps(archived, OTHERS, 0, until) if len(s)]
    return [] if not stamps else [t for t in cuts(stamps, past.times(), ROWS_A_CUT, 7 * DAY_MS) if t < until]


def _by_hand(archived: Archived, first: int) -> list[tuple[int, Sent]]:
    """Triggers, approvals and cancellations, in order of broker time."""
    found: list[tuple[int, Sent]] = []
    for at, partition, key, value in archived.rows(SIGNALS):
        if value is not None and at >= first:
            found.append((at, (SIGNALS, key, value, partition, at)))
    return sorted(found, key=lambda f: f[0])


def _sent(archived: Archived) -> dict[str, _Command]:
    found: dict[str, _Command] = {}
    for topic in COMMANDS:
        for _, _, _, value in archived.rows(topic):
            if value is not None:
                command = _command(value)
                found[command.id] = command
    return found


def _receipts(archived: Archived) -> dict[str, list[Told]]:
    found: dict[str, list[Told]] = {}
    for at, _, key, value in archived.rows("receipts"):
        if value is not None:
            receipt = _receipt(value)
            if receipt.final:
                found.setdefault(receipt.command, []).append((at, key or b"", value))
    return found


def _last(receipts: Mapping[str, list[Told]]) -> list[int]:
    """Broker time after the newest of them; none where there are none."""
    told = [one[0] + 1 for of in receipts.values() for one in of]
    return [max(told)] if told else []


def _ordered(command: Given, simulated: bool) -> Ordered:
    return Ordered(
        id=command.id,
        tenant=command.tenant,
        rule=command.rule,
        version=command.rule_version,
        type=command.type,
        subject=command.subject,
        cause=command.cause,
        step=command.step,
        at=command.issued_at,
        simulated=simulated,
        writes=flag_written(command),
    )


def flag_written(command: Given) -> str | None:
    """`flag=value` of a command that sets a flag, by its payload."""
    flag = command.payload.get("flag")
    if not isinstance(flag, str):
        return None
    value = command.payload.get("value", command.payload.get("enabled", command.type.rsplit(".", 1)[-1]))
    return f"{flag}={value}"

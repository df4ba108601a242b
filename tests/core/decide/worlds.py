"""Small worlds: rows of a few partitions, what METER would say of them (by brute force), and what should come out.

Written from docs/semantics.md and from nothing in `core/`: sets over rows, one end at a time, scalars only.
"""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from dataclasses import dataclass, field

from schemas.definitions import Product
from schemas.registers import WINDOWS, Clock, Patch, RegisterRecord, Registers

T0 = 1_767_225_600_000 - 1_200_000  # twenty minutes before a midnight
GRACE = 600_000
GRID = {"5m": 300_000, "1h": 60_000, "1d": 3_600_000, "7d": 86_400_000, "28d": 86_400_000}
USAGE, PERFORMANCE = "events.usage", "events.performance"


@dataclass(frozen=True)
class Row:
    at: int
    user: str = "u"
    feature: str | None = None
    organic: bool = True
    latency_us: int = 0
    error: bool = False


@dataclass
class Source:
    """One partition of one topic: its rows in offset order, each with the watermark at which it arrived."""

    topic: str
    partition: int
    rows: list[Row]
    marks: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        mark = T0 - 1
        for row in self.rows:
            self.marks.append(mark)
            mark = max(mark, row.at)
        self.last = mark


def cell_figures(
    source: Source, t_ms: float, window: str, end: int, newest_until: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Figures of a source's cells at an end: version 0, or, with `newest_until` (rows read so far), the newest."""
    length = WINDOWS[window][0]
    grace = 0 if newest_until is None else GRACE
    rows = source.rows if newest_until is None else source.rows[:newest_until]
    read = [(i, r) for i, r in enumerate(rows) if end > source.marks[i] - grace]
    inside = [(i, r) for i, r in read if end - length <= r.at < end]
    found: dict[str, tuple[int, ...]] = {}
    if source.topic == USAGE:
        # first uses known when the end closed (version 0), or by now
        known = [r for i, r in enumerate(rows) if newest_until is not None or source.marks[i] < end]
        for name in {"*", *(r.feature for _, r in inside if r.feature)}:
            of = [r for _, r in inside if name == "*" or r.feature == name]
            users = {r.user for r in of}
            organic = 0
            for user in users:
                own = [r for r in known if r.user == user and (name == "*" or r.feature == name)]
                first = min(r.at for r in own)
                organic += all(r.organic for r in own if r.at == first)
            found[name] = (len(users), len(of), organic)
    else:
        t_us = round(t_ms * 1000)
        for name in {"*", *(r.feature for _, r in inside if r.feature)}:
            of = [r for _, r in inside if name == "*" or r.feature == name]
            found[name] = (
                len(of),
                sum(r.error for r in of),
                sum(r.latency_us <= t_us for r in of),
                sum(t_us < r.latency_us <= 4 * t_us for r in of),
                sum(r.latency_us for r in of),
            )
    return {n: f for n, f in found.items() if any(f)}


def columns_of(topic: str) -> list[str]:
    if topic == USAGE:
        return ["users", "events", "organic"]
    return ["requests", "errors", "satisfied", "tolerating", "latency_sum_us"]


def records(source: Source, product: str, cfg: Product, until: int, groups: list[int]) -> list[RegisterRecord]:
    """What METER publishes, in order: after each group of rows the ends that closed, then corrections, then its clock."""
    out: list[RegisterRecord] = []
    before: dict[str, dict[str, tuple[int, ...]]] = {w: {} for w in WINDOWS}
    shown: dict[tuple[str, int], dict[str, tuple[int, ...]]] = {}
    mark, version = T0 - 1, defaultdict[tuple[str, int], int](int)
    width = len(columns_of(source.topic))
    cuts = sorted({c for c in groups if 0 < c <= len(source.rows)} | {len(source.rows)})
    final = [*((source.marks[c] if c < len(source.marks) else source.last, c) for c in cuts), (until, len(source.rows))]
    for clock, cut in final:
        patches: list[tuple[str, int, int, dict[str, tuple[int, ...]]]] = []
        for window, (_, step) in WINDOWS.items():
            end = (mark // step + 1) * step
            while end <= clock:
                now = cell_figures(source, cfg.apdex_t_ms, window, end)
                old = before[window]
                zero = (0,) * width
                changed = {n: now.get(n, zero) for n in {*now, *old} if now.get(n, zero) != old.get(n, zero)}
                before[window] = now
                shown[window, end] = dict(now)
                if changed:
                    patches.append((window, end, 0, changed))
                end += step
        patches.sort(key=lambda p: p[1])
        for (window, end), old in shown.items():
            now = cell_figures(source, cfg.apdex_t_ms, window, end, cut)
            zero = (0,) * width
            changed = {n: now.get(n, zero) for n in {*now, *old} if now.get(n, zero) != old.get(n, zero)}
            if changed:
                version[window, end] += 1
                shown[window, end] = dict(now)
                patches.append((window, end, version[window, end], changed))
        mark = max(mark, clock)
        if cut == 0:
            continue
        names = sorted({n for *_, cells in patches for n in cells})
        packed = [
            Patch(
                window,
                end,
                v,
                struct.pack(f"<{len(cells)}q", *(names.index(n) for n in sorted(cells))),
                [struct.pack(f"<{len(cells)}q", *(cells[n][i] for n in sorted(cells))) for i in range(width)],
            )
            for window, end, v, cells in patches
        ]
        out.append(
            Registers(
                source=source.topic,
                partition=source.partition,
                tenant="acme",
                product=product,
                names=names,
                columns=columns_of(source.topic),
                patches=packed,
                clock=mark,
                act=True,
            )
        )
    out.append(Clock(source=source.topic, partition=source.partition, at=until, replaying=False))
    return out


# --- what should come out -----------------------------------------------------------------------------------------------


def plain_level(value: float | None, borders: tuple[float, ...], names: tuple[str, ...]) -> str:
    if value is None:
        return "no_data"
    for border, name in zip(borders[:-1], names, strict=False):
        if value < border:
            return name
    return names[len(borders) - 1] if value <= borders[-1] else names[len(borders)]


class PlainLadder:
    def __init__(self, borders: tuple[float, ...], names: tuple[str, ...], margin: float) -> None:
        self.borders, self.names, self.margin = borders, names, margin
        self.level, self.pending = "no_data", None

    def see(self, value: float | None) -> tuple[str, str] | None:
        """(before, after) where it moves."""
        before = self.level
        order = ("no_data", *self.names)
        plain = plain_level(value, self.borders, self.names)
        pending, self.pending = self.pending, None
        if value is None or before == "no_data":
            self.level = plain
        elif plain != before:
            low = plain_level(value - self.margin, self.borders, self.names)
            high = plain_level(value + self.margin, self.borders, self.names)
            target = None
            if order.index(low) > order.index(before):
                target, direction = low, "up"
            elif order.index(high) < order.index(before):
                target, direction = high, "down"
            if target is not None:
                if pending == direction:
                    self.level = target
                else:
                    self.pending = direction
        return None if self.level == before else (before, self.level)


STAGES = ("low", "growth", "market")
BANDS = ("critical", "declining", "stable", "optimal")


@dataclass
class Expected:
    detections: set[tuple[str, str, int, str]] = field(default_factory=set)
    """(kind, subject, at, entered)"""
    rows: dict[tuple[str, str, int], tuple[object, ...]] = field(default_factory=dict)
    """(feature, window, kept end) → (users, events, target, organic, stage, viral)"""
    health: dict[int, tuple[float | None, str, dict[str, float]]] = field(default_factory=dict)


def fold(sources: list[Source], cfg: Product, until: int) -> Expected:
    """Everything, one end at a time."""
    out = Expected()
    usage = [s for s in sources if s.topic == USAGE]
    performance = [s for s in sources if s.topic == PERFORMANCE]

    def total(of: list[Source], window: str, end: int, newest: bool) -> dict[str, list[int]]:
        sums: dict[str, list[int]] = {}
        for s in of:
            for name, f in cell_figures(s, cfg.apdex_t_ms, window, end, len(s.rows) if newest else None).items():
                have = sums.setdefault(name, [0] * len(f))
                sums[name] = [a + b for a, b in zip(have, f, strict=True)]
        return sums

    ladders: dict[str, PlainLadder] = {}
    viral: dict[str, bool] = {}
    band = PlainLadder(cfg.band_borders, BANDS, cfg.band_margin)
    first: dict[str, int] = {}
    rates: list[float] = []
    attributed = False
    active: dict[tuple[str, int], int] = {}
    stage_step, health_step = WINDOWS[cfg.stage_window][1], WINDOWS[cfg.health_window][1]
    alive = False
    for end in range((T0 // 10_000) * 10_000, until + 1, 10_000):
        windows = [w for w, (_, step) in WINDOWS.items() if end % step == 0]
        v0 = {w: total(usage, w, end, False) for w in windows}
        for w in windows:
            active[w, end] = v0[w].get("*", [0])[0]
            for name in v0[w]:
                if name != "*":
                    first.setdefault(name, end)
        alive = alive or any(v0.values()) or any(total(performance, w, end, False) for w in windows)
        if alive:
            for name in cfg.features:
                first.setdefault(name, end)
        if end % stage_step == 0:
            now = v0[cfg.stage_window]
            star = now.get("*", [0, 0, 0])
            attributed |= star[2] < star[0]
            target = cfg.target_users or star[0]
            enough = target >= cfg.min_target_users and target > 0
            rates = []
            for name in sorted(first):
                users, _, organic = now.get(name, [0, 0, 0])
                rate = users / target if enough else None
                if rate is not None:
                    rates.append(rate)
                moved = ladders.setdefault(name, PlainLadder(cfg.stage_borders, STAGES, cfg.margin)).see(rate)
                if moved and moved[1] != "no_data":
                    out.detections.add(("stage_entered", f"feature:{name}", end, moved[1]))
                holds = (
                    attributed and users >= cfg.viral_min_adopters and users > 0 and organic / users > cfg.viral_border
                )
                if holds and not viral.get(name):
                    out.detections.add(("viral_entered", f"feature:{name}", end, ""))
                viral[name] = holds
        for w in windows:
            if end % GRID[w]:
                continue
            newest = total(usage, w, end, True)
            target = cfg.target_users or newest.get("*", [0])[0]
            for name in first:
                users, events, organic = newest.get(name, [0, 0, 0])
                ladder = ladders.get(name)
                out.rows[name, w, end] = (
                    users,
                    events,
                    target,
                    organic / users if users else None,
                    ladder.level if ladder else "no_data",
                    viral.get(name, False),
                )
        if end % health_step == 0 and alive:
            requests = total(performance, cfg.health_window, end, False).get("*", [0] * 5)
            parts: dict[str, float] = {}
            if requests[0]:
                parts["reliability"] = 100 * (1 - min(1, requests[1] / requests[0] / (1 - cfg.slo)))
                parts["responsiveness"] = 100 * (requests[2] + requests[3] / 2) / requests[0]
            if rates:
                parts["adoption"] = 100 * math.fsum(min(1, r / cfg.adoption_full) for r in rates) / len(rates)
            day = max((e for w, e in active if w == "1d" and e <= end), default=None)
            month = max((e for w, e in active if w == "28d" and e <= end), default=None)
            mau = active["28d", month] if month is not None else 0
            if mau:
                dau = active["1d", day] if day is not None else 0
                parts["engagement"] = 100 * min(1, dau / mau / cfg.engagement_full)
            old_day = max((e for w, e in active if w == "1d" and e <= end - 86_400_000), default=None)
            old = active["1d", old_day] if old_day is not None else 0
            if old:
                here = active["1d", day]
                parts["trend"] = 50 + 50 * max(-1.0, min(1.0, (here - old) / old))
            weights = cfg.weights.model_dump()
            present = sum(weights[p] for p in parts)
            score = None
            if present >= sum(weights.values()) / 2:
                score = sum(weights[p] * s for p, s in parts.items()) / present
            moved = band.see(score)
            if moved and moved[1] != "no_data":
                out.detections.add(("band_entered", "product:shop", end, moved[1]))
            out.health[end] = (score, band.level, parts)
    return out

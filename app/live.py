"""The terminal view of a running deployment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.watch import Watch

REFRESH_PER_S = 2
LINE_EVERY_S = 5.0
COLOURS = {
    "low": "red",
    "growth": "yellow",
    "market": "green",
    "critical": "bold red",
    "declining": "red",
    "stable": "green",
    "optimal": "bold green",
    "no_data": "dim",
}
_NONE = Text("none yet", style="dim")
"""Instead of a table without columns, which rich cannot draw."""


async def show(watch: Watch, console: Console, where: str, until: asyncio.Event) -> None:
    """Draws until told to stop: a picture on a terminal, lines elsewhere."""
    if not console.is_terminal:
        await _lines(watch, console, until)
        return
    with Live(console=console, refresh_per_second=REFRESH_PER_S, screen=False, transient=True) as live:
        while not until.is_set():
            live.update(picture(watch, where, console.height))
            await _sleep(until, 1 / REFRESH_PER_S)


def picture(watch: Watch, where: str, height: int = 40) -> Group:
    """One frame."""
    room = max(4, min(14, (height - 12) // 2))
    middle = Table.grid(expand=True, padding=(0, 1))
    middle.add_column(ratio=3)
    middle.add_column(ratio=2)
    middle.add_row(_adoption(watch, room), _health(watch))
    below = Table.grid(expand=True, padding=(0, 1))
    below.add_column(ratio=2)
    below.add_column(ratio=3)
    below.add_row(_detections(watch, room), _commands(watch, room))
    return Group(_head(watch, where), middle, below, _sink(watch))


def summary(watch: Watch) -> str:
    """Everything in one line."""
    ready = sum(w.ready for w in watch.workers)
    behind = "–" if watch.watermark_s is None else f"{max(0.0, time.time_ns() / 1e9 - watch.watermark_s):.1f} s"
    return (
        f"{watch.events_per_s:,.0f} events/s · {watch.rows:,} rows · lag {watch.lag:,} · watermark {behind} behind · "
        f"{watch.seen['detections']:,} detections · {watch.seen['commands']:,} commands · "
        f"{watch.seen['delivered']:,} delivered · {ready}/{len(watch.workers)} workers ready"
    )


async def _lines(watch: Watch, console: Console, until: asyncio.Event) -> None:
    while not until.is_set():
        console.print(summary(watch), markup=False, soft_wrap=True)
        await _sleep(until, LINE_EVERY_S)


async def _sleep(until: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(until.wait(), seconds)
    except TimeoutError:
        return


def _head(watch: Watch, where: str) -> Panel:
    return Panel(Text(summary(watch)), title="uptake", subtitle=f"{where} · Ctrl-C ends it", border_style="cyan")


def _adoption(watch: Watch, room: int) -> Panel:
    table = Table.grid(expand=True, padding=(0, 1))
    for row in sorted(watch.adoption.values(), key=lambda r: -(r["adoption_rate"] or 0.0))[:room]:
        rate = row["adoption_rate"]
        bar = "█" * round((rate or 0.0) * 20)
        share = "–" if rate is None else f"{rate * 100:.0f} %"
        flag = " viral" if row.get("viral") else ""
        table.add_row(
            f"{row['tenant']}/{row['product']}",
            row["feature"],
            share,
            Text(bar.ljust(20, "·"), style=COLOURS.get(row["stage"], "")),
            Text(row["stage"] + flag, style=COLOURS.get(row["stage"], "")),
            f"{row['users']:,} users",
        )
    return Panel(table if watch.adoption else _NONE, title="adoption")


def _health(watch: Watch) -> Panel:
    table = Table.grid(expand=True, padding=(0, 1))
    for row in watch.health.values():
        score = "–" if row["score"] is None else f"{row['score']:.0f}"
        colour = COLOURS.get(row["band"], "")
        table.add_row(f"{row['tenant']}/{row['product']}", Text(score, style=colour), Text(row["band"], style=colour))
        parts = ", ".join(f"{name} {part['score']:.0f}" for name, part in row["components"].items())
        table.add_row(Text(parts, style="dim"))
    return Panel(table if watch.health else _NONE, title="health")


def _detections(watch: Watch, room: int) -> Panel:
    return Panel(_list(describe("detections", d) for d in _last(watch.detections, room)), title="detections")


def _commands(watch: Watch, room: int) -> Panel:
    return Panel(_list(describe("commands", c) for c in _last(watch.commands, room)), title="commands")


def _sink(watch: Watch) -> Panel:
    return Panel(_list(describe("sink", s) for s in _last(watch.sink, 4)), title="delivered to the built-in sink")


def _last(rows: Iterable[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    return list(rows)[-n:][::-1]


def _list(lines: Iterable[str]) -> Text:
    return Text("\n".join(lines) or "none yet", overflow="ellipsis", no_wrap=True)


def describe(kind: str, value: dict[str, Any]) -> str:
    """One detection, command or delivery in a line."""
    if kind == "detections":
        state = value.get("stage") or value.get("band") or value.get("threshold") or value.get("detector") or "viral"
        before = f" from {value['previous']}" if value.get("previous") else ""
        return f"{value['tenant']} {value['subject']} → {state}{before}"
    if kind == "commands":
        return f"{value['rule']} {value['type']} {value['tenant']} {value['subject']}: {value['title']}"
    command = value["command"]
    return f"{value['connection']} ← {command['type']} {command['tenant']} {command['subject']}"

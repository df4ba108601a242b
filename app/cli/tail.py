"""`uptake tail`: what stands in the public topics, straight from Kafka, committed rows only."""

from __future__ import annotations

import json as json_text
import sys
from collections import deque
from contextlib import aclosing
from enum import StrEnum
from typing import Annotated, Any

import typer

from app.cli.common import console, run, settings_of, shown
from app.cli.options import Json
from app.kafka import Record
from app.letters import shown_letter
from app.past import in_order
from app.settings import Settings
from core.letters import read_letter
from schemas.commands import DOMAINS


class What(StrEnum):
    """What to show."""

    commands = "commands"
    detections = "detections"
    receipts = "receipts"
    dead_letters = "dead-letters"
    sink = "sink"


TOPICS: dict[What, tuple[str, ...]] = {
    What.commands: tuple(f"commands.{domain}" for domain in DOMAINS),
    What.detections: ("detections",),
    What.receipts: ("receipts",),
    What.dead_letters: ("dead-letters",),
    What.sink: ("sink",),
}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("tail")(tail)


def tail(
    ctx: typer.Context,
    what: What,
    json: Json = False,
    limit: Annotated[int | None, typer.Option(min=0, help="The last N of what is there.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print what is there, in order of arrival, and end; with --follow go on."""
    run(_tail(settings_of(ctx), what, json, limit, follow))


async def _tail(settings: Settings, what: What, json: bool, limit: int | None, follow: bool) -> None:
    kept: deque[Record] = deque(maxlen=limit)
    held = limit is not None

    def at_end() -> None:
        nonlocal held
        held = False
        while kept:
            _show(what, kept.popleft(), json)

    async with aclosing(in_order(settings, TOPICS[what], follow=follow, at_end=at_end)) as records:
        async for record in records:
            if held:
                kept.append(record)
            else:
                _show(what, record, json)


def _show(what: What, record: Record, json: bool) -> None:
    value = dead_letter(record) if what is What.dead_letters else _value(record)
    if json:
        sys.stdout.write(json_text.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n")
        sys.stdout.flush()
        return
    console.print(f"{shown(record.timestamp)}  {_summary(what, value)}", markup=False)


def _value(record: Record) -> dict[str, Any]:
    try:
        value = json_text.loads(record.value or b"null")
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    # Nothing of ours: shown as it is, with its place.
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "value": (record.value or b"").decode(errors="replace"),
    }


def dead_letter(record: Record) -> dict[str, Any]:
    """A dead letter as `schemas.delivery.DeadLetter` shows it; the original bytes as text, with replacement."""
    return shown_letter(read_letter(record.key, record.value, record.headers, record.timestamp)).model_dump()


def _summary(what: What, value: dict[str, Any]) -> str:
    def field(name: str) -> str:
        return str(value.get(name, ""))

    if what is What.commands:
        return f"{field('rule'):6} {field('type'):40} {field('tenant')}/{field('subject'):30} {field('title')}"
    if what is What.detections:
        state = (
            value.get("stage")
            or value.get("band")
            or value.get("threshold")
            or value.get("detector")
            or value.get("prediction")
            or ""
        )
        return f"{field('kind'):18} {field('tenant')}/{field('product')} {field('subject'):30} {state}"
    if what is What.receipts:
        return f"{field('status'):11} {field('command_type'):40} {field('connection'):20} {value.get('reason') or ''}"
    if what is What.dead_letters:
        place = f"{field('topic')}/{field('partition')}@{field('offset')}"
        return f"{field('step'):8} {field('reason'):14} {place:32} {field('detail')[:60]}"
    command = value.get("command") or {}
    return f"{field('connection'):20} {field('integration'):10} {command.get('type', ''):40} {command.get('title', '')}"

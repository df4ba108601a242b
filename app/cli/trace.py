"""`uptake trace ID`: everything that hangs together with an id."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.common import NOTHING, Refusal, console, line, run, settings_of, shown
from app.cli.options import Json, Tenant
from app.cli.tables import asked
from app.store.trace import Trace
from app.store.trace import trace as traced


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("trace")(trace)


def trace(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(help="Of an event, a detection, a command or a delivery.")],
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """Follow an id from detection to command to delivery. Exit code 5 where nothing is known of it."""
    found = run(asked(settings_of(ctx), lambda store: traced(store, id, tenant=tenant)))
    if json:
        line(found)
    else:
        _show(found)
    if found.found == "nothing":
        raise Refusal(f"nothing is known of {id}: the read model follows the topics by about a second", NOTHING)


def _show(found: Trace) -> None:
    for detection in found.detections:
        console.print(
            f"{shown(detection.at)}  detection {detection.kind} {detection.subject}  {detection.id}", markup=False
        )
    for command in found.commands:
        console.print(
            f"{shown(command.issued_at)}  command   {command.rule} {command.type}  {command.id}", markup=False
        )
        console.print(f"{'':21}because {command.why.reason}", markup=False)
    for receipt in found.receipts:
        to = f" by {receipt.connection}" if receipt.connection else ""
        why = f" ({receipt.reason})" if receipt.reason else ""
        console.print(
            f"{shown(receipt.at)}  receipt   {receipt.status}{to}, attempt {receipt.attempt}{why}", markup=False
        )
    for record in found.sink:
        console.print(f"{'':21}in the sink: {record.connection} {record.delivery}", markup=False)
    for letter in found.dead_letters:
        console.print(
            f"{shown(letter.at)}  dead      {letter.step}: {letter.reason} {letter.detail} "
            f"({letter.topic}/{letter.partition}@{letter.offset})",
            markup=False,
        )

"""`uptake up`: everything, with one command."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from typing import Annotated

import typer

from app.cli.broker import shown_progress
from app.cli.common import console, run, say, settings_of
from app.cli.deployment import RULEBOOK, texts_of
from app.cli.options import Kafka
from app.cli.workers import role_counts
from app.up import Wanted
from app.up import kafka as with_kafka
from app.up import up as start


class Data(StrEnum):
    """What flows."""

    sample = "sample"
    none = "none"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("up")(up)


def up(
    ctx: typer.Context,
    kafka: Kafka = None,
    data: Annotated[
        Data, typer.Option(help="sample: simulated people and services, as busy as a real week of web traffic.")
    ] = Data.sample,
    simulate: Annotated[bool, typer.Option("--simulate/--no-simulate", help="Make load.")] = True,
    rate: Annotated[float, typer.Option(min=1, help="Simulated rows a second, on average.")] = 200.0,
    processes: Annotated[list[str] | None, typer.Option(help="ROLE=N: that many processes of a role.")] = None,
) -> None:
    """Start a broker if none is given, topics, rules, all roles, the gateway, sample load and a live view; Ctrl-C ends it."""
    settings = settings_of(ctx)
    if kafka is not None:
        settings = settings.model_copy(update={"kafka": kafka})
    wanted = Wanted(
        counts=role_counts("all", processes),
        simulate=simulate and data is Data.sample,
        rate=rate,
        rulebook=texts_of([RULEBOOK]),
    )
    with ExitStack() as stack:
        with shown_progress() as told:
            settings = stack.enter_context(with_kafka(settings, say, told))
        run(start(settings, wanted, console, say))
    say("all of it has ended")

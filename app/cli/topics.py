"""`uptake topics`: create what is missing; what to do about another partition count."""

from __future__ import annotations

from typing import Annotated

import typer

from app import topics
from app.cli.common import FAILED, Refusal, console, line, run, say, settings_of
from app.cli.options import Json
from schemas.topics import TOPICS

commands = typer.Typer(no_args_is_help=True, help="The topics as declared in schemas/topics.py.")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(commands, name="topics")


@commands.command()
def create(
    ctx: typer.Context,
    partitions: Annotated[int | None, typer.Option(min=1, help="Of every keyed topic; default: the settings'.")] = None,
) -> None:
    """Create every topic that is missing; those that are there stay as they are."""
    settings = settings_of(ctx)
    if partitions is not None:
        settings = settings.model_copy(update={"partitions": partitions})
    report = run(topics.create(settings))
    say(f"{len(report.created)} topics created, {len(report.present)} were there")


@commands.command("list")
def show(ctx: typer.Context, json: Json = False) -> None:
    """Every declared topic, and whether it is there."""
    settings = settings_of(ctx)
    counts = run(topics.existing(settings))
    for spec in TOPICS:
        count = counts.get(spec.name)
        if json:
            line({"topic": settings.topic(spec.name), "key": spec.key, "value": spec.value, "partitions": count})
        else:
            there = f"{count} partitions" if count is not None else "missing"
            console.print(f"{settings.topic(spec.name):32} {there:15} {spec.value} by {spec.key}", markup=False)


@commands.command()
def resize(ctx: typer.Context, partitions: Annotated[int, typer.Argument(min=1)]) -> None:
    """Tell how to get another partition count. It is part of the state, so it takes a new generation of the topics."""
    settings = settings_of(ctx)
    raise Refusal(
        f"the partition count ({settings.partitions}) is part of the state and cannot be changed in place. Make a new "
        f"generation: set UPTAKE_TOPIC_PREFIX to a new one and UPTAKE_PARTITIONS={partitions}, `uptake topics create`, "
        "`uptake apply`, send the log again (`uptake send`), then move producers over",
        FAILED,
    )

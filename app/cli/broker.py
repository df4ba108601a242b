"""`uptake broker`: the Kafka that comes with pip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app.broker import Progress as Told
from app.cli.common import line, notes, say, settings_of
from app.cli.options import Json
from app.kafka import managed_broker

commands = typer.Typer(no_args_is_help=True, help="The Kafka that comes with pip: durable, one node, loopback only.")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(commands, name="broker")


@commands.command()
def start(
    ctx: typer.Context, port: Annotated[int | None, typer.Option(help="Default: the last one, or 19092.")] = None
) -> None:
    """Start it (the first time it downloads 45 MB), and print its address."""
    with shown_progress() as told:
        address = managed_broker(settings_of(ctx)).start(port, told)
    typer.echo(address)


@commands.command()
def stop(ctx: typer.Context) -> None:
    """Stop it; its data stays."""
    say("stopped" if managed_broker(settings_of(ctx)).stop() else "it was not running")


@commands.command()
def status(ctx: typer.Context, json: Json = False) -> None:
    """Whether it runs, and where. Exit code 1 where it does not."""
    found = managed_broker(settings_of(ctx)).status()
    if json:
        line(
            {
                "running": found.running,
                "address": found.address,
                "pid": found.pid,
                "memory_mb": found.memory_mb,
                "data": str(found.data),
                "log": str(found.log),
            }
        )
    elif found.running:
        typer.echo(f"running at {found.address} (pid {found.pid}, {found.memory_mb} MB), data in {found.data}")
    else:
        typer.echo("not running: start it with `uptake broker start`")
    if not found.running:
        raise typer.Exit(1)


@contextmanager
def shown_progress() -> Iterator[Told]:
    """Progress of a start: a bar on a terminal, a line now and then elsewhere."""
    if not notes.is_terminal:
        last = ""

        def tell(what: str, done: int, total: int) -> None:
            nonlocal last
            text = f"downloading Kafka: {done * 100 // total // 10 * 10} %" if total else what
            if text != last:
                last = text
                say(text)

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes, transient=True) as bar:
        task = bar.add_task("Kafka", total=None)

        def update(what: str, done: int, total: int) -> None:
            if total:
                bar.update(task, description=f"downloading Kafka ({what})", completed=done, total=total)
            else:
                bar.update(task, description=what, total=None)

        yield update

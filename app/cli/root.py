"""The root command: its options become the settings of every command below."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli import (
    actions,
    broker,
    connections,
    deployment,
    keys,
    reset,
    send,
    simulate,
    sources,
    status,
    tables,
    tail,
    topics,
    trace,
    up,
    workers,
)
from app.cli.common import read_settings

app = typer.Typer(
    help="Turns what people do in a product, and how it performs, into action, in real time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def root(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML); default .uptake.toml.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where data and logs live; default .uptake.")] = None,
    topic_prefix: Annotated[str | None, typer.Option(help="Put before topics and groups.")] = None,
    kafka: Annotated[str | None, typer.Option(help="host:port,… of a Kafka; default: our own.")] = None,
) -> None:
    """Read the settings."""
    ctx.obj = read_settings(config, data_dir=data_dir, topic_prefix=topic_prefix, kafka=kafka)


for module in (
    up,
    workers,
    send,
    simulate,
    tables,
    tail,
    trace,
    status,
    deployment,
    actions,
    sources,
    connections,
    keys,
    topics,
    broker,
    reset,
):
    module.register(app)

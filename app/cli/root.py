"""The root command: its options become the settings of every command below."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from app.cli.common import read_settings
from app.cli.options import Kafka

COMMANDS = {
    "up": "up",
    "worker": "workers",
    "api": "workers",
    "send": "send",
    "simulate": "simulate",
    "table": "tables",
    "outcomes": "outcomes",
    "tail": "tail",
    "trace": "trace",
    "why": "why",
    "activity": "why",
    "dlq": "dlq",
    "status": "status",
    "apply": "deployment",
    "plan": "plan",
    "test": "testing",
    "backtest": "backtest",
    "runs": "runs",
    "approvals": "approvals",
    "settings": "deployment",
    "pause": "actions",
    "resume": "actions",
    "retire": "retire",
    "forget": "subjects",
    "export": "subjects",
    "sources": "sources",
    "connections": "connections",
    "keys": "keys",
    "hooks": "hooks",
    "topics": "topics",
    "broker": "broker",
    "reset": "reset",
    "rebuild": "rebuild",
    "segments": "segments",
    "backup": "backup",
    "restore": "backup",
    "drill": "backup",
    "verify": "verify",
    "coverage": "verify",
    "real": "verify",
    "chaos": "chaos",
}
"""Command → the module of this room that registers it."""


def root(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML); default .uptake.toml.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where data and logs live; default .uptake.")] = None,
    topic_prefix: Annotated[str | None, typer.Option(help="Put before topics and groups.")] = None,
    kafka: Kafka = None,
) -> None:
    """Read the settings."""
    ctx.obj = read_settings(config, data_dir=data_dir, topic_prefix=topic_prefix, kafka=kafka)


def build(only: str | None = None) -> typer.Typer:
    """The command line; with `only`, just that command: importing all of them takes seconds, one a fraction."""
    app = typer.Typer(
        help="Turns what people do in a product, and how it performs, into action, in real time.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(root)
    names = dict.fromkeys([COMMANDS[only]] if only is not None else COMMANDS.values())
    for name in names:
        import_module(f"app.cli.{name}").register(app)
    return app


def wanted(arguments: list[str]) -> str | None:
    """The command that is asked for, if it can be told from the arguments alone."""
    return next((a for a in arguments if a in COMMANDS), None) if "--help" not in arguments[:1] else None

"""`uptake backtest`: what rules would have ordered in the past, before they order anything."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from agents.rooms import Unavailable
from app.archive import ArchiveError
from app.archive.copying import copy
from app.backtest import Result, Wanted, backtest, compared
from app.backtest.report import plain
from app.cli.common import BAD_INPUT, FAILED, NOTHING, Refusal, line, run, say, settings_of, time_option
from app.cli.deployment import texts_of
from app.cli.options import Json
from app.settings import Settings
from core.rulebook import read_rulebook
from schemas.definitions import Definition


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("backtest")(command)


def command(
    ctx: typer.Context,
    from_: Annotated[str | None, typer.Option("--from", help="First moment (RFC 3339 or ms), event time.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="End, exclusive, event time.")] = None,
    rules: Annotated[
        list[Path] | None, typer.Option("--rules", help="Files or folders; default: what was in force then.")
    ] = None,
    compare: Annotated[
        list[Path] | None, typer.Option("--compare", help="Other files or folders: what they add, remove and move.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's commands.")] = None,
    source: Annotated[str, typer.Option(help="archive, or topics: what the topics still hold.")] = "archive",
    check: Annotated[
        bool, typer.Option("--check", help="Fail where the commands are not those that were sent.")
    ] = False,
    commands: Annotated[bool, typer.Option("--commands", help="With --json: a line a command.")] = False,
    json: Json = False,
) -> None:
    """Replay the past through the same code, and tell which commands would have been sent. Nothing is sent.

    What is counted comes after cool-downs, ceilings and pauses. It ends with 1 where `--check` finds a difference.
    """
    settings = settings_of(ctx)
    begin, end = time_option(from_), time_option(to)
    if begin is not None and end is not None and end <= begin:
        raise Refusal("--to is not after --from", BAD_INPUT)
    if source not in ("archive", "topics"):
        raise Refusal(f"no source {source!r}: archive, or topics", BAD_INPUT)
    mine = definitions_of(rules) if rules else None
    others = definitions_of(compare) if compare else None

    def both(url: str) -> tuple[Result, Result | None]:
        wanted = Wanted(url, settings.partitions, begin, end, tenant, mine, settings.strict)
        first = backtest(wanted, say)
        if others is None:
            return first, None
        return first, backtest(Wanted(url, settings.partitions, begin, end, tenant, others, settings.strict), say)

    found, other = _with(settings, source, both)
    difference = compared(found.commands, other.commands) if other is not None else None
    if json:
        if commands:
            for one in sorted(found.commands, key=lambda c: (c.at, c.id)):
                line(plain(one))
        line(found.figures() | ({"compared": difference.figures()} if difference is not None else {}))
    else:
        for text in [*found.lines(), *(difference.lines() if difference is not None else [])]:
            typer.echo(text)
    if check and (found.missing or found.extra):
        raise Refusal(
            f"{len(found.missing)} commands that were sent are missing, {len(found.extra)} were not sent", FAILED
        )
    if not found.rows:
        raise Refusal("the archive has no events in this range", NOTHING)


def _with(
    settings: Settings, source: str, work: Callable[[str], tuple[Result, Result | None]]
) -> tuple[Result, Result | None]:
    try:
        if source == "archive":
            return work(settings.archive_place)
        with tempfile.TemporaryDirectory(prefix="uptake-backtest-") as folder:
            say(f"{run(copy(settings, folder)):,} rows read from the topics")
            return work(folder)
    except (ArchiveError, Unavailable) as error:
        raise Refusal(str(error), FAILED) from error


def definitions_of(paths: list[Path]) -> list[Definition]:
    """The definitions of files and folders. Raises `Refusal` where there is anything wrong with them."""
    entries, problems = read_rulebook(texts_of(paths))
    wrong = [p for p in problems if p.level == "error"]
    if wrong:
        raise Refusal(f"{wrong[0]} (and {len(wrong) - 1} more): `uptake plan` tells all", BAD_INPUT)
    return [entry.definition for entry in entries]

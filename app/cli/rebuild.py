"""`uptake rebuild`: the figures made again from the log, beside those in force."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from app.cli.common import FAILED, USAGE, Refusal, line, notes, run, say, settings_of
from app.cli.options import Json
from app.cli.workers import role_counts
from app.rebuild import ROLES, CannotRebuild, drop_old
from app.rebuild import rebuild as make_anew
from app.settings import Settings
from app.worker import WorkerFailed


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("rebuild")(rebuild)


def rebuild(
    ctx: typer.Context,
    anew: Annotated[bool, typer.Option("--anew", help="Throw away what an interrupted rebuild has made.")] = False,
    processes: Annotated[
        list[str] | None, typer.Option(help="meter=N or decide=N: that many processes; default one each.")
    ] = None,
    within_s: Annotated[float, typer.Option(min=1, help="Give up after so many seconds.")] = 86_400.0,
    drop: Annotated[
        bool, typer.Option("--drop-old", help="Instead: delete the topics of the versions before the one in force.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --drop-old: do not ask.")] = False,
    json: Json = False,
) -> None:
    """Make METER's and DECIDE's figures again from the log, with this version of the program and the definitions in force, while the
    workers of the version in force go on.

    Ends when it has caught up, says how the two differ and how to take the new one into force. Nothing of it is acted on before.
    """
    settings = settings_of(ctx)
    try:
        if drop:
            _drop(settings, yes)
            return
        counts = role_counts(",".join(ROLES), processes)
        if not counts.keys() <= set(ROLES):
            raise Refusal("--processes: only meter and decide are rebuilt", USAGE)
        made = run(make_anew(settings, counts, anew=anew, within_s=within_s, told=say))
    except (CannotRebuild, WorkerFailed) as error:
        raise Refusal(str(error), FAILED) from error
    if json:
        line(asdict(made))
        return
    for table, of in made.tables.items():
        say(f"{table}: {of.old:,} rows in force, {of.new:,} made anew, {of.differing:,} differ")
    say(f"{made.commands:,} commands kept apart, {made.new_commands:,} of them not given by the version in force")
    say(
        f"version {made.figures} is made. Stop the workers and the gateway, set UPTAKE_FIGURES={made.figures}, start them: they go on "
        "where it ended"
    )


def _drop(settings: Settings, yes: bool) -> None:
    if not yes:
        question = f"delete all figures of versions before {settings.figures} of prefix {settings.topic_prefix!r}?"
        if not notes.is_terminal:
            raise Refusal(f"{question} Say so with --yes", USAGE)
        typer.confirm(question, abort=True, err=True)
    say(f"{len(run(drop_old(settings)))} topics deleted")

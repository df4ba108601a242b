"""`uptake reset`: make the figures again from the log, or start from nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.common import FAILED, USAGE, Refusal, notes, run, say, settings_of
from app.cli.options import Yes
from app.reset import StillRunning
from app.reset import reset as start_over


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("reset")(reset)


def reset(
    ctx: typer.Context,
    everything: Annotated[
        bool, typer.Option("--everything", help="Events, definitions, commands and keys too: all topics.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Throw away METER's and DECIDE's state, tables and the read model; the next workers make them again from the events."""
    settings = settings_of(ctx)
    what = "ALL topics, events and definitions too," if everything else "state, tables and detections"
    question = f"delete {what} of prefix {settings.topic_prefix!r}, and the read model?"
    if not yes:
        if not notes.is_terminal:
            raise Refusal(f"{question} Say so with --yes", USAGE)
        typer.confirm(question, abort=True, err=True)
    try:
        gone = run(start_over(settings, everything=everything))
    except StillRunning as error:
        raise Refusal(str(error), FAILED) from error
    say(f"{len(gone)} topics made anew, the read model is empty" + ("" if everything else "; start `uptake worker`"))

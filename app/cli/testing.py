"""`uptake test`: runs the tests that stand beside definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.common import BAD_INPUT, FAILED, NOTHING, Refusal, line, notes, say
from app.cli.deployment import RULEBOOK, texts_of
from app.trying import try_all
from core.rulebook import RulebookError


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("test")(test)


def test(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files or folders of YAML; default: our rulebook.")] = None,
    only: Annotated[str | None, typer.Option(help="Only definitions with this in their name.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a test.")] = False,
) -> None:
    """Run the tests of rules and workflows on a virtual clock; nothing is published. Exit code 1 where one fails."""
    try:
        tried = [t for t in try_all(texts_of(paths or [RULEBOOK])) if only is None or only in t.definition]
    except RulebookError as error:
        raise Refusal(str(error), BAD_INPUT) from error
    failed = [t for t in tried if t.failure is not None]
    for one in tried if json else failed:
        if json:
            line({"file": one.file, "of": one.definition, "test": one.test, "failure": one.failure})
        else:
            text = f"FAILED {one.file}: {one.definition}: {one.test}\n  {one.failure}"
            notes.print(text, markup=False, soft_wrap=True)
    if not tried:
        raise Refusal("no tests there: a definition carries its own under `tests:`", NOTHING)
    say(f"{len(tried) - len(failed)} of {len(tried)} tests passed")
    if failed:
        raise typer.Exit(FAILED)

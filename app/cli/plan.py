"""`uptake plan`: everything that is wrong with definitions, before they are applied."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import BAD_INPUT, FAILED, Refusal, line, now_ms, run, say, settings_of, shown
from app.cli.deployment import RULEBOOK, show_previews, texts_of
from app.definitions import differing
from app.runs import previews
from app.settings import Settings
from core.rulebook import dotted, read_rulebook
from schemas.celtext import to_cel
from schemas.definitions import Definition, OnSchedule, Rule

if TYPE_CHECKING:
    from app.impact import Impact


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("plan")(plan)


def plan(
    ctx: typer.Context,
    paths: Annotated[list[Path] | None, typer.Argument(help="Files or folders of YAML; default: our rulebook.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a finding.")] = False,
    runs: Annotated[
        bool, typer.Option("--runs", help="Ask Kafka too: who stands where in workflows that would change.")
    ] = False,
    days: Annotated[
        int | None,
        typer.Option(
            "--days",
            min=1,
            max=366,
            help="Replay so many days of the archive with them: how much they would order, for whom, beside and against what.",
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Tell each rule's condition as CEL, and when it is due.")
    ] = False,
) -> None:
    """Check definitions without a Kafka: file, line, path and reason of each problem. Ends with 4 where there is any.

    With --days it also says, from the archive, how much each would order a day, and which others meet its subjects or contradict it.
    """
    texts = texts_of(paths or [RULEBOOK])
    entries, problems = read_rulebook(texts)
    failed = 0
    placed = [(p.file, p.line or 1, p) for p in problems]
    for _, at, problem in sorted(placed, key=lambda p: p[:2]):
        failed += problem.level == "error" or strict
        if json:
            line(
                {
                    "file": problem.file,
                    "line": at,
                    "path": dotted(problem.path),
                    "level": problem.level,
                    "reason": problem.reason,
                }
            )
        else:
            place = f"{dotted(problem.path)}: " if problem.path else ""
            typer.echo(f"{problem.file}:{at}: {problem.level}: {place}{' '.join(problem.reason.split())}")
    if show:
        for entry in entries:
            for text in _told(entry.definition):
                say(text)
    if runs and not failed:
        settings = settings_of(ctx)
        changing = run(differing(settings, [e.definition for e in entries]))
        found = run(previews(settings, changing))
        if json:
            for one in found:
                line(one)
        else:
            show_previews(found)
    if days is not None and not failed:
        for impact in _weighed(settings_of(ctx), [e.definition for e in entries], days):
            if json:
                line({"impact": impact.figures()})
            else:
                typer.echo("\n".join(impact.lines()))
    if failed:
        raise Refusal(f"{failed} problems in {len(texts)} files; nothing was applied", BAD_INPUT)
    say(f"{len(entries)} definitions in {len(texts)} files are well; `uptake apply` publishes them")


def _weighed(settings: Settings, planned: list[Definition], days: int) -> list[Impact]:
    from agents.rooms import Unavailable
    from app.archive import ArchiveError
    from app.impact import impacts  # it brings METER along, which a plan without it need not wait for

    try:
        return impacts(settings.archive_place, settings.partitions, planned, days, settings.strict, say)
    except (ArchiveError, Unavailable) as error:
        raise Refusal(f"--days asks the archive: {error}", FAILED) from error


def _told(definition: Definition) -> list[str]:
    if not isinstance(definition, Rule):
        return []
    told = [f"rule {definition.name} when {to_cel(definition.condition)}"] if definition.condition is not None else []
    if isinstance(definition.trigger, OnSchedule):
        due = definition.trigger.after(now_ms())
        told.append(f"rule {definition.name} is due next at {shown(due)} UTC")
    return told

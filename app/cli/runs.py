"""`uptake runs`: what runs of workflows did, answers to their questions, their end, their replay."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from app.cli.common import FAILED, NOTHING, USAGE, Refusal, console, line, now_ms, run, say, settings_of, shown
from app.runs import all_runs, library_of, replayed, tell
from core.workflows.jobs import Record

commands = typer.Typer(no_args_is_help=True, help="Runs of workflows, from their histories on the topic runs.")
RunId = Annotated[str, typer.Argument(help="The run's id, or its beginning.")]
By = Annotated[str, typer.Option(help="Who says so.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(commands, name="runs")


@commands.command("list")
def list_(
    ctx: typer.Context,
    workflow: Annotated[str | None, typer.Option(help="Only of this workflow.")] = None,
    status: Annotated[
        str | None, typer.Option(help="running, completed, goal, exited, expired, cancelled, failed.")
    ] = None,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Every run that the topic still holds, with how it stands."""
    table = Table("run", "workflow", "tenant", "subject", "began", "status", box=SIMPLE, pad_edge=False)
    found = 0
    for id_, history in run(all_runs(settings_of(ctx))).items():
        first, last = history[0], history[-1]
        if workflow not in (None, last.workflow) or status not in (None, last.status):
            continue
        found += 1
        if json:
            line(
                {
                    "run": id_,
                    "workflow": last.workflow,
                    "tenant": last.tenant,
                    "subject": last.subject,
                    "status": last.status,
                }
            )
        table.add_row(
            id_, last.workflow, last.tenant, last.subject, shown(first.job.at), f"{last.status} {last.outcome}"
        )
    if not json:
        console.print(table if found else "no runs")


@commands.command()
def show(ctx: typer.Context, id_: RunId) -> None:
    """The run's activity log."""
    for record in _history(ctx, id_):
        for note in record.notes:
            detail = " ".join(f"{k}={v}" for k, v in note.detail.items())
            console.print(
                f"{shown(note.at)}  {note.step or '(run)'}  {note.what}  {detail}", markup=False, soft_wrap=True
            )


@commands.command()
def replay(ctx: typer.Context, id_: Annotated[str | None, typer.Argument(help="Only this run.")] = None) -> None:
    """Take the histories' jobs through today's code. Exit code 1 where it decides otherwise."""
    settings = settings_of(ctx)
    library = run(library_of(settings))
    histories = {h[0].run: h for h in [_history(ctx, id_)]} if id_ is not None else run(all_runs(settings))
    wrong = {r: lines for r, history in histories.items() if (lines := replayed(library, history))}
    for name, lines in wrong.items():
        for text in lines:
            console.print(f"{name}: {text}", markup=False, soft_wrap=True)
    say(f"{len(histories) - len(wrong)} of {len(histories)} runs decide the same today")
    if wrong:
        raise typer.Exit(FAILED)


@commands.command()
def answer(
    ctx: typer.Context,
    id_: RunId,
    step: Annotated[str, typer.Argument(help="The step that asks (`answer_as` in its command).")],
    yes: Annotated[bool, typer.Option("--yes/--no", help="Approved, or rejected.")],
    by: By,
) -> None:
    """Answer an approval. Only a step that is waiting takes it."""
    last = _history(ctx, id_)[-1]
    run(tell(settings_of(ctx), last, "approval", {"step": step, "approved": yes, "by": by}, now_ms()))
    say(f"told run {last.run}: {step} is {'approved' if yes else 'rejected'}")


@commands.command()
def cancel(
    ctx: typer.Context,
    id_: RunId,
    by: By,
    undo: Annotated[bool, typer.Option(help="Take its commands back first, where they have an undo.")] = False,
) -> None:
    """End a run now."""
    last = _history(ctx, id_)[-1]
    run(tell(settings_of(ctx), last, "cancel", {"by": by, "compensate": undo}, now_ms()))
    say(f"told run {last.run} to end")


def _history(ctx: typer.Context, id_: str) -> list[Record]:
    found = [h for name, h in run(all_runs(settings_of(ctx))).items() if name.startswith(id_)]
    if not found:
        raise Refusal(f"no run {id_!r}; `uptake runs list` shows what there is", NOTHING)
    if len(found) > 1:
        raise Refusal(f"{len(found)} runs begin with {id_!r}: give more of it", USAGE)
    return found[0]

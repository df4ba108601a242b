"""`uptake runs`: what runs of workflows did, answers to their questions, words to one or many of them, their replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated

import typer
from pydantic import JsonValue
from rich.box import SIMPLE
from rich.table import Table

from app.cli.common import FAILED, NOTHING, USAGE, Refusal, console, line, now_ms, run, say, settings_of, shown
from app.cli.options import By, Json
from app.runs import all_runs, library_of, meant, replayed, tell, tell_all
from core.workflows.jobs import Record
from core.workflows.run import Run
from core.workflows.standing import Wanted, Word
from schemas.cel import parse

commands = typer.Typer(no_args_is_help=True, help="Runs of workflows, from their histories on the topic runs.")
RunId = Annotated[str, typer.Argument(help="The run's id, or its beginning.")]
SomeRun = Annotated[str | None, typer.Argument(help="One run's id, or its beginning.")]
OfWorkflow = Annotated[str | None, typer.Option("--workflow", help="All runs of this workflow.")]
OfVersion = Annotated[int | None, typer.Option("--version", help="Of them: those of this version.")]
AtNode = Annotated[str | None, typer.Option("--node", help="Of them: those that wait at this node, or in its body.")]
WhereOption = Annotated[
    str | None, typer.Option("--where", help="Of them: those whose facts hold, as CEL: 'subject == \"user:ann\"'.")
]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Of them: this tenant's.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many it would be.")]


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
    json: Json = False,
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
    by: By,
    id_: SomeRun = None,
    workflow: OfWorkflow = None,
    version: OfVersion = None,
    node: AtNode = None,
    where: WhereOption = None,
    tenant: OfTenant = None,
    dry_run: DryRun = False,
    undo: Annotated[bool, typer.Option(help="Take their commands back first, where they have an undo.")] = False,
) -> None:
    """End a run now, or all that are meant."""
    _say(ctx, "cancel", id_, _wanted(workflow, version, node, where, tenant), {"by": by, "compensate": undo}, dry_run)


@commands.command()
def pause(
    ctx: typer.Context,
    by: By,
    id_: SomeRun = None,
    workflow: OfWorkflow = None,
    version: OfVersion = None,
    node: AtNode = None,
    where: WhereOption = None,
    tenant: OfTenant = None,
    dry_run: DryRun = False,
) -> None:
    """Let a run stand still, or all that are meant: they order nothing; a goal or an exit still ends them."""
    _say(ctx, "pause", id_, _wanted(workflow, version, node, where, tenant), {"by": by}, dry_run)


@commands.command()
def resume(
    ctx: typer.Context,
    by: By,
    id_: SomeRun = None,
    workflow: OfWorkflow = None,
    version: OfVersion = None,
    node: AtNode = None,
    where: WhereOption = None,
    tenant: OfTenant = None,
    dry_run: DryRun = False,
) -> None:
    """Let them go on: what came, and the waits that ran out meanwhile, are taken now."""
    _say(ctx, "resume", id_, _wanted(workflow, version, node, where, tenant), {"by": by}, dry_run)


@commands.command()
def move(
    ctx: typer.Context,
    by: By,
    id_: SomeRun = None,
    workflow: OfWorkflow = None,
    version: OfVersion = None,
    node: AtNode = None,
    where: WhereOption = None,
    tenant: OfTenant = None,
    dry_run: DryRun = False,
    to: Annotated[
        list[str] | None, typer.Option("--map", help="old=new: a node, and the one at which its runs go on.")
    ] = None,
) -> None:
    """Move them to the version in force, where they fit there; the others keep theirs (`uptake runs show` says why)."""
    nodes: dict[str, JsonValue] = {}
    for text in to or []:
        old, mark, new = text.partition("=")
        if not mark or not old or not new:
            raise Refusal(f"--map {text!r}: write old=new", USAGE)
        nodes[old] = new
    _say(ctx, "move", id_, _wanted(workflow, version, node, where, tenant), {"by": by, "nodes": nodes}, dry_run)


def _wanted(
    workflow: str | None, version: int | None, node: str | None, where: str | None, tenant: str | None
) -> Wanted | None:
    if workflow is None:
        return None
    try:
        condition = parse(where) if where is not None else None
    except ValueError as error:
        raise Refusal(f"--where: {error}", USAGE) from error
    return Wanted(workflow, tenant, version, node, condition)


def _say(
    ctx: typer.Context,
    kind: Word,
    id_: str | None,
    wanted: Wanted | None,
    data: Mapping[str, JsonValue],
    dry_run: bool,
) -> None:
    if (id_ is None) == (wanted is None):
        raise Refusal("name one run, or the runs of a workflow with --workflow", USAGE)
    settings = settings_of(ctx)
    found: list[Record | Run] = [_history(ctx, id_)[-1]] if id_ is not None else []
    if wanted is not None:
        found += run(meant(settings, wanted))
    if not found:
        raise Refusal("no run that goes on is meant; `uptake runs list --status running` shows them", NOTHING)
    if not dry_run:
        run(tell_all(settings, found, kind, data, now_ms()))
    places = Counter((f.versions if isinstance(f, Record) else f.pins)[""] for f in found)
    versions = ", ".join(f"{n} of version {v}" for v, n in sorted(places.items()))
    say(f"{'would tell' if dry_run else 'told'} {len(found)} runs to {kind} ({versions})")


def _history(ctx: typer.Context, id_: str) -> list[Record]:
    found = [h for name, h in run(all_runs(settings_of(ctx))).items() if name.startswith(id_)]
    if not found:
        raise Refusal(f"no run {id_!r}; `uptake runs list` shows what there is", NOTHING)
    if len(found) > 1:
        raise Refusal(f"{len(found)} runs begin with {id_!r}: give more of it", USAGE)
    return found[0]

"""`uptake retire`: a rule or workflow out of force, for good."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from app.cli.common import NOTHING, Refusal, run, say, settings_of
from app.cli.options import By
from app.definitions import load, publish
from app.definitions import retire as taken_away
from app.runs import inside
from core.workflows.standing import FATES
from schemas.definitions import ALL_TENANTS, Rule, Workflow

Runs = Literal["finish", "cancel", "undo"]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("retire")(retire)


def retire(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A rule or workflow, by its name or id.")],
    tenant: Annotated[str, typer.Option(help="Whose; default: everybody's.")] = ALL_TENANTS,
    runs: Annotated[Runs, typer.Option(help="Of a workflow: what its runs that go on do.")] = "finish",
    by: By = "uptake retire",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many runs go on.")] = False,
) -> None:
    """Take a rule or workflow out of force, for good; its versions stay as history. `uptake pause` is for a while."""
    settings = settings_of(ctx)
    catalogue = run(load(settings))
    known: list[Rule | Workflow] = [*catalogue.of(Rule), *catalogue.of(Workflow), *catalogue.retired()]
    found = [d for d in known if d.tenant == tenant and name in (d.name, d.id)]
    if not found:
        there = ", ".join(sorted({d.id for d in known if d.tenant == tenant})) or "none"
        raise Refusal(f"no rule or workflow {name!r} of tenant {tenant}; there are: {there}", NOTHING)
    for one in found:
        fate = ""
        if isinstance(one, Workflow):
            fate = f"; {run(inside(settings, one))} runs {FATES[runs]}"
        if not dry_run and isinstance(one, Workflow):
            run(publish(settings, [one.model_copy(update={"retired": runs})], by))
        elif not dry_run:
            run(taken_away(settings, [one]))
        say(f"{one.kind} {tenant}/{one.name} {'would be' if dry_run else 'is'} out of force{fate}")

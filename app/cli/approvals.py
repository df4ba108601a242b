"""`uptake approvals`: definitions that wait for approval, listed and decided."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.common import NOTHING, Refusal, console, line, now_ms, run, say, settings_of, shown
from app.cli.options import By, Json, Tenant
from app.definitions import load, publish
from core.approving import NotPending, decided, find, pending
from schemas.definitions import ALL_TENANTS

commands = typer.Typer(no_args_is_help=True, help="Definitions that wait for approval before they act on customers.")
Name = Annotated[str, typer.Argument(help="kind:name, as `ls` shows it.")]
Whose = Annotated[str, typer.Option("--tenant", help="Whose it is.")]
Reason = Annotated[str, typer.Option(help="Why.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(commands, name="approvals")


@commands.command("ls")
def ls(
    ctx: typer.Context,
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """What waits, oldest first."""
    found = pending(run(load(settings_of(ctx))), tenant)
    for one in found:
        if json:
            line(one)
        else:
            console.print(f"{one.tenant}  {one.name}  proposed by {one.by} at {shown(one.at)}", markup=False)
    if not found:
        say("nothing waits for approval")


@commands.command()
def approve(ctx: typer.Context, name: Name, by: By, tenant: Whose = ALL_TENANTS, reason: Reason = "") -> None:
    """Publish what was proposed."""
    _decide(ctx, name, True, by, tenant, reason)


@commands.command()
def reject(ctx: typer.Context, name: Name, by: By, tenant: Whose = ALL_TENANTS, reason: Reason = "") -> None:
    """Refuse what was proposed; what is in force stays."""
    _decide(ctx, name, False, by, tenant, reason)


def _decide(ctx: typer.Context, name: str, approved: bool, by: str, tenant: str, reason: str) -> None:
    settings = settings_of(ctx)
    try:
        written = decided(find(run(load(settings)), tenant, name), approved, by, now_ms(), reason)
    except NotPending as error:
        raise Refusal(str(error), NOTHING) from error
    for one in run(publish(settings, written, by)):
        say(f"{one.kind} {one.tenant}/{one.name} is now version {one.version}")
    say(f"{name} is {'approved' if approved else 'rejected'} by {by}")

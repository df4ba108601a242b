"""`uptake pause` and `uptake resume`: stop acting at once, and go on."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from app.cli.common import NOTHING, USAGE, Refusal, run, say, settings_of
from app.definitions import load, publish, retire
from core.definitions import Catalogue
from schemas.definitions import ALL_TENANTS, Connection, Pause, Rule, Workflow, pause_name

Tenant = Annotated[str | None, typer.Option(help="Everything of a tenant.")]
RuleName = Annotated[str | None, typer.Option("--rule", help="One rule or workflow, by its id.")]
ConnectionName = Annotated[str | None, typer.Option("--connection", help="One connection.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("pause")(pause)
    app.command("resume")(resume)


def pause(ctx: typer.Context, tenant: Tenant = None, rule: RuleName = None, connection: ConnectionName = None) -> None:
    """Stop acting: everything, or a tenant, a rule, a connection. In force within a second, and after restarts."""
    settings = settings_of(ctx)
    wanted = _pause(tenant, rule, connection)
    catalogue = run(load(settings))
    _known(catalogue, wanted)
    run(publish(settings, [wanted]))
    say(f"paused {_described(wanted)}; go on with `uptake resume`{_options(wanted)}")


def resume(ctx: typer.Context, tenant: Tenant = None, rule: RuleName = None, connection: ConnectionName = None) -> None:
    """Go on acting."""
    settings = settings_of(ctx)
    wanted = _pause(tenant, rule, connection)
    catalogue = run(load(settings))
    found = [p for p in catalogue.of(Pause) if p.name == wanted.name]
    if not found:
        paused = ", ".join(_described(p) for p in catalogue.of(Pause)) or "nothing"
        raise Refusal(f"{_described(wanted)} is not paused; paused: {paused}", NOTHING)
    run(retire(settings, found))
    say(f"{_described(wanted)} acts again")


def _pause(tenant: str | None, rule: str | None, connection: str | None) -> Pause:
    given = [g for g in (tenant, rule, connection) if g is not None]
    if len(given) > 1:
        raise Refusal("give one of --tenant, --rule and --connection", USAGE)
    scope: Literal["tenant", "rule", "connection"] = (
        "rule" if rule is not None else "connection" if connection is not None else "tenant"
    )
    of = given[0] if given else ALL_TENANTS
    return Pause(name=pause_name(scope, of), scope=scope, of=of, by="uptake pause")


def _known(catalogue: Catalogue, wanted: Pause) -> None:
    names: set[str] = set()
    if wanted.scope == "rule":
        names = {name for r in catalogue.of(Rule) for name in (r.id, r.name)}
        names |= {name for w in (*catalogue.of(Workflow), *catalogue.retired()) for name in (w.id, w.name)}
    elif wanted.scope == "connection":
        names = {c.name for c in catalogue.of(Connection)}
    if wanted.scope != "tenant" and wanted.of not in names:
        raise Refusal(f"no {wanted.scope} {wanted.of!r}; there are: {', '.join(sorted(names)) or 'none'}", NOTHING)


def _described(pause: Pause) -> str:
    if pause.scope == "tenant":
        return "everything" if pause.of == ALL_TENANTS else f"tenant {pause.of}"
    return f"{pause.scope} {pause.of}"


def _options(pause: Pause) -> str:
    if pause.scope == "tenant" and pause.of == ALL_TENANTS:
        return ""
    return f" --{pause.scope} {pause.of}"

"""`uptake connections`: configured integrations. New ones are sandboxed: delivered to the built-in sink until enabled."""

from __future__ import annotations

import json as json_text
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app.cli.common import BAD_INPUT, NOTHING, Refusal, console, line, run, say, settings_of
from app.cli.options import Json
from app.clients.reach import Reach
from app.definitions import load, publish, retire
from app.settings import Settings
from integrations.hands import Hands
from schemas.definitions import ALL_TENANTS, Connection

commands = typer.Typer(no_args_is_help=True, help="Configured integrations; new ones go to the built-in sink.")
Tenant = Annotated[str, typer.Option(help="Whose commands it takes; all: everybody's.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(commands, name="connections")


@commands.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument()],
    integration: Annotated[str, typer.Option(help="webhook, slack, email, kafka, …")],
    config: Annotated[
        str, typer.Option(help='JSON of its settings; secrets by reference: {"secret": {"env": "UPTAKE_SECRET_X"}}.')
    ] = "{}",
    tenant: Tenant = ALL_TENANTS,
    domain: Annotated[list[str] | None, typer.Option(help="Only commands of this domain; may be repeated.")] = None,
    type: Annotated[list[str] | None, typer.Option(help="Only this command type, * at the end as prefix.")] = None,
    min_priority: Annotated[str, typer.Option(help="urgent, normal or low.")] = "low",
    enable_now: Annotated[bool, typer.Option("--enable", help="Leave the sandbox at once.")] = False,
) -> None:
    """Add a connection, in the sandbox; or change one."""
    try:
        given: Any = json_text.loads(config)
        connection = Connection.model_validate(
            {
                "tenant": tenant,
                "name": name,
                "integration": integration,
                "config": given,
                "enabled": enable_now,
                "domains": domain or [],
                "types": type or [],
                "min_priority": min_priority,
            }
        )
    except json_text.JSONDecodeError as error:
        raise Refusal(f"--config is no JSON: {error}", BAD_INPUT) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise Refusal(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", BAD_INPUT) from error
    if problems := [*Hands().problems(connection), *Reach.from_settings(settings_of(ctx)).problems(connection)]:
        raise Refusal("; ".join(problems), BAD_INPUT)
    run(publish(settings_of(ctx), [connection]))
    where = "enabled" if enable_now else f"in the sandbox until `uptake connections enable {name}`"
    say(f"connection {name} is {where}")


@commands.command()
def enable(ctx: typer.Context, name: str, tenant: Tenant = ALL_TENANTS) -> None:
    """Take a connection out of the sandbox."""
    _switch(settings_of(ctx), name, tenant, True)
    say(f"connection {name} delivers for real now")


@commands.command()
def disable(ctx: typer.Context, name: str, tenant: Tenant = ALL_TENANTS) -> None:
    """Put a connection back into the sandbox."""
    _switch(settings_of(ctx), name, tenant, False)
    say(f"connection {name} delivers to the sink now")


@commands.command()
def remove(ctx: typer.Context, name: str, tenant: Tenant = ALL_TENANTS) -> None:
    """Take a connection out of force."""
    settings = settings_of(ctx)
    run(retire(settings, [_find(settings, name, tenant)]))
    say(f"connection {name} is gone")


@commands.command("list")
def show(ctx: typer.Context, json: Json = False) -> None:
    """Every connection; secrets are references and stay so."""
    for connection in run(load(settings_of(ctx))).of(Connection):
        if json:
            line(connection)
        else:
            state = "enabled" if connection.enabled else "sandbox"
            wants = ", ".join([*connection.domains, *connection.types]) or "everything"
            console.print(
                f"{connection.tenant}/{connection.name:20} {connection.integration:10} {state:8} {wants}", markup=False
            )


def _switch(settings: Settings, name: str, tenant: str, enabled: bool) -> None:
    found = _find(settings, name, tenant)
    run(publish(settings, [found.model_copy(update={"enabled": enabled})]))


def _find(settings: Settings, name: str, tenant: str) -> Connection:
    there = run(load(settings)).of(Connection)
    for connection in there:
        if connection.name == name and connection.tenant == tenant:
            return connection
    names = ", ".join(f"{c.tenant}/{c.name}" for c in there) or "none"
    raise Refusal(f"no connection {tenant}/{name}; there are: {names}", NOTHING)

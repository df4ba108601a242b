"""`uptake keys`: API keys. Only hashes are kept; a key is shown once."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app.api.access import ROLES, hashed, new_key
from app.cli.common import BAD_INPUT, NOTHING, Refusal, console, line, now_ms, run, say, settings_of, shown
from app.cli.options import Json
from app.definitions import load, publish, retire
from schemas.definitions import ALL_TENANTS, ApiKey

commands = typer.Typer(no_args_is_help=True, help="API keys: hashed at rest, for one tenant and one role each.")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(commands, name="keys")


@commands.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    role: Annotated[str, typer.Option(help=", ".join(ROLES))],
    tenant: Annotated[str, typer.Option(help="The tenant it is for; all: every one.")] = ALL_TENANTS,
    days: Annotated[float | None, typer.Option(min=0, help="How long it holds; absent: until it is revoked.")] = None,
) -> None:
    """Make a key and print it. It cannot be shown again."""
    settings = settings_of(ctx)
    if any(k.name == name and k.tenant == tenant for k in run(load(settings)).of(ApiKey)):
        raise Refusal(f"there is a key {tenant}/{name}: revoke it first, or choose another name", BAD_INPUT)
    key, now = new_key(), now_ms()
    given: dict[str, Any] = {
        "tenant": tenant,
        "name": name,
        "hash": hashed(key),
        "role": role,
        "created_at": now,
        "expires_at": None if days is None else now + round(days * 86_400_000),
    }
    try:
        made = ApiKey.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise Refusal(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", BAD_INPUT) from error
    run(publish(settings, [made]))
    typer.echo(key)


@commands.command("list")
def show(ctx: typer.Context, json: Json = False) -> None:
    """Every key without itself."""
    for key in run(load(settings_of(ctx))).of(ApiKey):
        if json:
            known = key.model_dump(include={"tenant", "name", "role", "created_at", "expires_at"})
            line(known)
        else:
            until = f"until {shown(key.expires_at)}" if key.expires_at is not None else ""
            console.print(f"{key.tenant}/{key.name:24} {key.role:18} {shown(key.created_at)} {until}", markup=False)


@commands.command()
def revoke(
    ctx: typer.Context, name: str, tenant: Annotated[str, typer.Option(help="Whose key.")] = ALL_TENANTS
) -> None:
    """Take a key out of force, within a second."""
    settings = settings_of(ctx)
    found = [k for k in run(load(settings)).of(ApiKey) if k.name == name and k.tenant == tenant]
    if not found:
        raise Refusal(f"no key {tenant}/{name}: `uptake keys list` shows them", NOTHING)
    run(retire(settings, found))
    say(f"key {tenant}/{name} is revoked")

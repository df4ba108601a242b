"""`uptake hooks`: addresses that others post to. Only hashes are kept; an address is shown once."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from app.api.access import hashed, new_key
from app.cli.common import BAD_INPUT, NOTHING, Refusal, console, line, now_ms, run, say, settings_of
from app.cli.files import definition_in, text_of
from app.cli.options import Json
from app.clients.secrets import Secrets
from app.definitions import load, publish, retire
from core.sources import Unmapped, called
from schemas.definitions import Hook

commands = typer.Typer(no_args_is_help=True, help="Addresses that others post to: their calls become events.")
File = Annotated[
    Path, typer.Argument(help="YAML or JSON: name, tenant, product, target, fields, constants, time_unit, secret.")
]
UNSEEN = "0" * 64
"""Stands for the hash of an address that is not made yet."""


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(commands, name="hooks")


@commands.command()
def test(
    ctx: typer.Context,
    file: File,
    body: Annotated[Path, typer.Argument(help="What they would post: JSON in a file, - for stdin.")],
) -> None:
    """Show the event that a body would become. Nothing is written."""
    hook = read_hook(file, UNSEEN)
    given = typer.get_text_stream("stdin").read() if str(body) == "-" else text_of(body)
    try:
        row: object = json_text.loads(given)
    except ValueError as error:
        raise Refusal(f"{body} is no JSON: {error}", BAD_INPUT) from error
    event = called(hook, row, f"{hook.name}-sample", now_ms())
    if isinstance(event, Unmapped):
        raise Refusal(f"{event.reason}: {event.detail}: mend the mapping in {file} and test again", BAD_INPUT)
    line({"topic": hook.target, "event": {**event, "tenant": hook.tenant, "product": hook.product}})


@commands.command()
def create(ctx: typer.Context, file: File) -> None:
    """Make an address and print its path below the gateway's own. It cannot be shown again."""
    settings = settings_of(ctx)
    address = new_key()
    hook = read_hook(file, hashed(address))
    if any((h.tenant, h.name) == (hook.tenant, hook.name) for h in run(load(settings)).of(Hook)):
        raise Refusal(f"there is a hook {hook.tenant}/{hook.name}: remove it first, or choose another name", BAD_INPUT)
    secrets = Secrets({}, settings.secret_env_prefix, settings.secret_dir)
    if hook.secret is not None and (wrong := secrets.foreign(hook.tenant, hook.secret)):
        raise Refusal(f"{file}: secret: {wrong[0]}", BAD_INPUT)
    run(publish(settings, [hook]))
    typer.echo(f"/hooks/{address}")


@commands.command("list")
def show(ctx: typer.Context, json: Json = False) -> None:
    """Every hook without its address."""
    for hook in sorted(run(load(settings_of(ctx))).of(Hook), key=lambda h: (h.tenant, h.name)):
        if json:
            line(hook.model_dump(exclude={"hash"}))
        else:
            signed = "signed" if hook.secret is not None else ""
            console.print(f"{hook.tenant}/{hook.name:24} {hook.product} → {hook.target} {signed}", markup=False)


@commands.command()
def remove(ctx: typer.Context, name: str, tenant: Annotated[str, typer.Option(help="Whose hook.")]) -> None:
    """Refuse an address from now on; the events stay."""
    settings = settings_of(ctx)
    found = [h for h in run(load(settings)).of(Hook) if (h.tenant, h.name) == (tenant, name)]
    if not found:
        raise Refusal(f"no hook {tenant}/{name}: `uptake hooks list` shows them", NOTHING)
    run(retire(settings, found))
    say(f"hook {tenant}/{name} is refused from now on")


def read_hook(file: Path, address_hash: str) -> Hook:
    """The definition in a file, for an address of that hash. Raises `Refusal` that names the field."""
    return definition_in(file, Hook, hash=address_hash)

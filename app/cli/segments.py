"""`uptake segments`: which there are, and who is in one."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.common import NOTHING, Refusal, console, line, run, settings_of
from app.cli.options import Json
from app.definitions import load
from app.people import in_segment
from schemas.definitions import Segment

commands = typer.Typer(no_args_is_help=True, help="Segments of people, and who is in them.")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(commands, name="segments")


@commands.command("list")
def list_(ctx: typer.Context, json: Json = False) -> None:
    """Every segment that is defined."""
    for segment in sorted(run(load(settings_of(ctx))).of(Segment), key=lambda s: (s.tenant, s.name)):
        if json:
            line(segment)
        else:
            kind = "live" if segment.where is not None else f"{len(segment.users)} listed"
            console.print(f"{segment.tenant}/{segment.name}  {segment.product}  {segment.of}  {kind}", markup=False)


@commands.command()
def members(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The segment.")],
    tenant: Annotated[str, typer.Option(help="Whose people.")],
    json: Json = False,
) -> None:
    """Who is in it, as of the last checkpoints."""
    settings = settings_of(ctx)
    mine = sorted(run(load(settings)).of(Segment, tenant), key=lambda s: s.tenant != tenant)
    segment = next((s for s in mine if s.name == name), None)
    if segment is None:
        raise Refusal(f"no segment {name!r} of {tenant}: `uptake segments list` shows them", NOTHING)
    found = set(segment.users)
    if segment.where is not None:
        found |= set(run(in_segment(settings, tenant, segment.product, name)))
    if json:
        line({"segment": name, "tenant": tenant, "product": segment.product, "members": sorted(found)})
        return
    for who in sorted(found):
        console.print(who, markup=False)

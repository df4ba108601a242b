"""`uptake forget` and `uptake export`: people who want to be forgotten, or to know what is held about them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli.common import USAGE, Refusal, console, line, now_ms, run, say, settings_of, shown
from app.cli.options import Json
from app.definitions import load
from app.export import export as held
from app.forget import BadSubject
from app.forget import forget as ask
from schemas.definitions import ALL_TENANTS, Forgotten

Who = Annotated[str | None, typer.Argument(help="user:NAME or contact:NAME; a bare NAME is a user.")]
Tenant = Annotated[str | None, typer.Option(help="Whose user or contact it is.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("forget")(forget)
    app.command("export")(export)


def forget(
    ctx: typer.Context,
    subject: Who = None,
    tenant: Tenant = None,
    show: Annotated[bool, typer.Option("--list", help="Show what was asked for: hashes, no names.")] = False,
    json: Json = False,
) -> None:
    """Erase a person, and drop events about them from now on. It cannot be taken back."""
    settings = settings_of(ctx)
    if show:
        for record in run(load(settings)).of(Forgotten):
            if json:
                line(record.model_dump(exclude={"salt"}))
            else:
                console.print(f"{shown(record.asked_at)}  {record.tenant}/{record.name}  {record.by}", markup=False)
        return
    owner, name = _who(subject, tenant)
    try:
        asked = run(ask(settings, owner, name, by="uptake forget", now=now_ms()))
    except BadSubject as error:
        raise Refusal(str(error), USAGE) from error
    if json:
        line(asked)
        return
    say(f"{'was asked for before' if asked.before else 'asked'}: {owner}/{asked.digest}, {shown(asked.asked_at)}")
    for what in asked.rewritten:
        say(f"rewritten: {what}")
    days = ", ".join(f"{topic} {n} d" for topic, n in sorted(asked.expire_days.items()))
    say(f"state and read model are erased by their owners within seconds; rows in the log expire: {days}")


def export(ctx: typer.Context, subject: Who = None, tenant: Tenant = None) -> None:
    """Everything that is held about a person, as one JSON object. Reads the whole log."""
    settings = settings_of(ctx)
    owner, name = _who(subject, tenant)
    found: dict[str, Any] = run(held(settings, owner, name, now_ms()))
    line(found)


def _who(subject: str | None, tenant: str | None) -> tuple[str, str]:
    if not subject or tenant is None or tenant == ALL_TENANTS:
        raise Refusal("say who: `SUBJECT --tenant TENANT`, where SUBJECT is user:NAME or contact:NAME", USAGE)
    return tenant, subject if subject.partition(":")[0] in ("user", "contact") else f"user:{subject}"

"""`uptake why RULE SUBJECT`: why it fired, or why not. `uptake activity`: what rules and workflows did."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.common import USAGE, Refusal, console, line, run, settings_of, shown, time_option
from app.cli.options import Json
from app.cli.tables import asked
from app.definitions import load
from app.settings import Settings
from app.store import Store, queries
from app.why import CannotTell, Sources
from app.why import why as answered
from app.why.ask import ids_of
from schemas.activity import Activity
from schemas.why import Answer, Check

Tenant = Annotated[str | None, typer.Option(help="Whose it is.")]
At = Annotated[str | None, typer.Option("--at", help="Event time: RFC 3339, milliseconds or now.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("why")(why)
    app.command("activity")(activity)


def why(
    ctx: typer.Context,
    rule: Annotated[str, typer.Argument(help="Name or id of a rule or workflow.")],
    subject: Annotated[str, typer.Argument(help="kind:name, as user:ann, feature:export, product:shop.")],
    at: At = None,
    tenant: Tenant = None,
    product: Annotated[str | None, typer.Option(help="Where the subject is in several.")] = None,
    json: Json = False,
) -> None:
    """Why a rule fired for a subject, or why it did not: every predicate with its value. No worker is asked."""
    settings = settings_of(ctx)
    when = None if at in (None, "now") else time_option(at)

    async def question(store: Store) -> Answer:
        catalogue = await load(settings)
        owner = tenant if tenant is not None else await _only_tenant(store)
        return await answered(Sources(settings, store, catalogue), owner, rule, subject, product=product, at=when)

    try:
        found = run(asked(settings, question))
    except CannotTell as error:
        raise Refusal(str(error), USAGE) from error
    if json:
        line(found)
    else:
        _show(found)


def activity(
    ctx: typer.Context,
    rule: Annotated[str | None, typer.Option(help="Name or id of a rule or workflow.")] = None,
    subject: Annotated[str | None, typer.Option(help="kind:name.")] = None,
    tenant: Tenant = None,
    since: Annotated[str | None, typer.Option("--from", help="Event time.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Event time, exclusive.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    json: Json = False,
) -> None:
    """What rules and workflows did, newest first: firings and what became of them, every step of runs."""
    settings: Settings = settings_of(ctx)

    async def question(store: Store) -> list[Activity]:
        rules = None if rule is None else ids_of(await load(settings), tenant, rule)
        return await queries.list_activity(
            store,
            tenant=tenant,
            rules=rules,
            subject=subject,
            since=time_option(since),
            until=time_option(until),
            limit=limit,
        )

    for found in run(asked(settings, question)):
        if json:
            line(found)
        else:
            _line(found)


async def _only_tenant(store: Store) -> str:
    tenants = sorted({seen.tenant for seen in await queries.products(store)})
    if len(tenants) != 1:
        raise CannotTell(f"say whose it is with --tenant: {', '.join(tenants[:20]) or 'the read model knows none'}")
    return tenants[0]


def _show(found: Answer) -> None:
    console.print(f"{found.verdict}: {found.reason}", markup=False, soft_wrap=True)
    of = f" in {found.product}" if found.product else ""
    console.print(
        f"{found.kind} {found.rule} (version {found.version}), {found.subject}{of}, at {shown(found.at) if found.at else 'now'}; "
        f"event time has come to {shown(found.watermark)}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    if found.seen is not None:
        console.print(
            f"seen: {found.seen.what} at {shown(found.seen.at)} ({found.seen.cause})", markup=False, soft_wrap=True
        )
    for title, checks in (("trigger", found.trigger), ("condition", found.condition), ("guards", found.guards)):
        if checks:
            console.print(f"{title}:")
            for check in checks:
                _check(check, 1)
    if found.waits_for:
        console.print("waits for:")
        for what in found.waits_for:
            console.print(f"  {what}", markup=False, soft_wrap=True)
    if found.due is not None:
        console.print(f"due: {shown(found.due)}")
    if found.activity:
        console.print("activity:")
        for one in found.activity:
            _line(one)
    console.print(f"looked at: {found.looked}", markup=False, soft_wrap=True)


def _check(check: Check, depth: int) -> None:
    mark = {True: "yes", False: "no ", None: "   "}[check.held]
    value = "" if check.parts else f"  ({check.value})"
    console.print(f"{'  ' * depth}{mark}  {check.text}{value}", markup=False, soft_wrap=True)
    for part in check.parts:
        _check(part, depth + 1)


def _line(one: Activity) -> None:
    where = f" {one.step}" if one.step and one.step != "1" else ""
    reason = f"  {one.reason}" if one.reason else ""
    of = one.run or one.command or ""
    console.print(
        f"{shown(one.at)}  {one.rule}  {one.subject}  {one.what}{where}{reason}  {of}", markup=False, soft_wrap=True
    )

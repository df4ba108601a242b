"""`uptake dlq`: dead letters, straight from Kafka: listed, shown, counted, sent again."""

from __future__ import annotations

import getpass
import heapq
import sys
from collections import Counter
from typing import Annotated, Any

import typer

from app.cli.common import (
    FAILED,
    NOTHING,
    USAGE,
    Refusal,
    console,
    line,
    now_ms,
    run,
    say,
    settings_of,
    shown,
    time_option,
)
from app.cli.options import Json, Newest
from app.definitions import load
from app.letters import (
    MOST_REPLAYS,
    Order,
    Overtaken,
    Redriven,
    letters,
    newest_redrives,
    redrive,
    redrives,
    shown_letter,
)
from app.settings import Settings
from core.ingest import sources_of
from core.letters import Filter, Letter

commands = typer.Typer(no_args_is_help=True, help="Dead letters: what was set aside, why, and sending it again.")

Reason = Annotated[str | None, typer.Option(help="Only of this reason.")]
Step = Annotated[str | None, typer.Option(help="Only those that this step set aside: meter, deliver, …")]
Tenant = Annotated[str | None, typer.Option(help="Only a tenant's.")]
Topic = Annotated[str | None, typer.Option(help="Only rows that came from this topic.")]
Since = Annotated[str | None, typer.Option(help="Only rows of this time on: RFC 3339 or milliseconds.")]
Until = Annotated[str | None, typer.Option(help="Only rows before this time.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(commands, name="dlq")


@commands.command("ls")
def ls(
    ctx: typer.Context,
    reason: Reason = None,
    step: Step = None,
    tenant: Tenant = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    limit: Newest = 50,
    json: Json = False,
) -> None:
    """List them, oldest first; the id is what `uptake dlq show` takes."""
    wanted = _filter(reason, step, tenant, topic, since, until)
    for letter in run(_newest(settings_of(ctx), wanted, limit)):
        if json:
            line(_described(letter))
        else:
            console.print(
                f"{shown(letter.at)}  {letter.reason:16} {letter.tenant or '–':12} {letter.id}  {letter.detail[:60]}",
                markup=False,
            )


@commands.command()
def show(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(help="As `uptake dlq ls` prints it.")],
    raw: Annotated[bool, typer.Option("--raw", help="The original bytes, and nothing else, to stdout.")] = False,
    json: Json = False,
) -> None:
    """Show one whole: why it was set aside, its key, headers and bytes, and whether it was sent again."""
    settings = settings_of(ctx)
    found = run(_find(settings, id))
    if found is None:
        raise Refusal(f"no dead letter {id!r}: `uptake dlq ls` lists them", NOTHING)
    letter, again = found
    if raw:
        sys.stdout.buffer.write(letter.value or b"")
        return
    told = {
        **_described(letter),
        "headers": {n: v.decode(errors="replace") for n, v in letter.headers},
        "redriven": again,
    }
    if json:
        line(told)
        return
    for name, value in told.items():
        console.print(f"{name:10} {shown(value) if name == 'at' else value}", markup=False)


@commands.command()
def stats(
    ctx: typer.Context,
    reason: Reason = None,
    step: Step = None,
    tenant: Tenant = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    json: Json = False,
) -> None:
    """Count them by step, reason, topic and tenant."""
    wanted = _filter(reason, step, tenant, topic, since, until)
    for (of_step, of_reason, of_topic, of_tenant), n in run(_counted(settings_of(ctx), wanted)).most_common():
        if json:
            line({"step": of_step, "reason": of_reason, "topic": of_topic, "tenant": of_tenant, "letters": n})
        else:
            console.print(f"{n:9,}  {of_step:16} {of_reason:20} {of_topic:24} {of_tenant or '–'}", markup=False)


@commands.command("redrive")
def again(
    ctx: typer.Context,
    reason: Reason = None,
    step: Step = None,
    tenant: Tenant = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="Needed where nothing else says which ones.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be sent; send nothing.")] = False,
    rate: Annotated[float, typer.Option(min=0.01, help="Letters a second.")] = 100.0,
    most_replays: Annotated[int, typer.Option(min=1, help="Replays of one record over its life.")] = MOST_REPLAYS,
    limit: Annotated[int | None, typer.Option(min=1, help="At most N now.")] = None,
    by: Annotated[str | None, typer.Option(help="Who is named in the record of it; default: the user.")] = None,
    json: Json = False,
) -> None:
    """Send them again: original key, bytes and headers, to the topic and partition they came from.

    Ends with the letters that are there now. A letter is sent once, a record at most --most-replays times. Repeat the
    command after an interruption: it goes on where it stopped.
    """
    settings = settings_of(ctx)
    wanted = _filter(reason, step, tenant, topic, since, until)
    if wanted == Filter() and not all_of_them:
        raise Refusal("say which ones (--reason, --step, --tenant, --topic, --since, --until), or --all", USAGE)
    sources = frozenset(sources_of(run(load(settings))))
    order = Order(wanted, by or getpass.getuser(), rate, most_replays, limit, dry_run, sources)
    try:
        made = run(redrive(settings, order, now_ms, _progress))
    except Overtaken as error:
        raise Refusal(str(error), FAILED) from error
    if json:
        line(made.plain(order))
        return
    verb = "would be sent" if dry_run else "sent"
    console.print(f"{made.matched:,} letters match; {made.redriven:,} {verb} again", markup=False)
    for why, n in made.refused.most_common():
        console.print(f"{n:9,}  not: {why}", markup=False)
    if made.left:
        console.print(f"{made.left:9,}  beyond --limit: repeat the command", markup=False)


@commands.command("log")
def audit(
    ctx: typer.Context,
    tenant: Tenant = None,
    limit: Newest = 50,
    json: Json = False,
) -> None:
    """Who sent which letters again, oldest first."""
    for record in run(newest_redrives(settings_of(ctx), tenant, limit)):
        if json:
            line(record)
        else:
            place = f"{record.topic}/{record.partition}@{record.offset}"
            console.print(
                f"{shown(record.at)}  {record.by:20} {record.run}  {record.reason:16} {place}  replay {record.replays}",
                markup=False,
            )


def _filter(
    reason: str | None, step: str | None, tenant: str | None, topic: str | None, since: str | None, until: str | None
) -> Filter:
    return Filter(reason, step, tenant, topic, time_option(since), time_option(until))


async def _newest(settings: Settings, wanted: Filter, limit: int) -> list[Letter]:
    kept: list[tuple[int, int, int, Letter]] = []
    async for letter in letters(settings, wanted):
        entry = (letter.at, *letter.place, letter)
        if len(kept) < limit:
            heapq.heappush(kept, entry)
        else:
            heapq.heappushpop(kept, entry)
    return [entry[3] for entry in sorted(kept)]


async def _find(settings: Settings, id: str) -> tuple[Letter, dict[str, Any] | None] | None:
    newest: Letter | None = None
    async for letter in letters(settings, Filter()):
        if letter.id == id:
            newest = letter
    if newest is None:
        return None
    async for record in redrives(settings):
        if (record.letter_partition, record.letter_offset) == newest.place:
            return newest, {"by": record.by, "at": record.at, "run": record.run}
    return newest, None


async def _counted(settings: Settings, wanted: Filter) -> Counter[tuple[str, str, str, str | None]]:
    counted: Counter[tuple[str, str, str, str | None]] = Counter()
    async for letter in letters(settings, wanted):
        counted[letter.step, letter.reason, letter.topic, letter.tenant] += 1
    return counted


def _described(letter: Letter) -> dict[str, Any]:
    return {"id": letter.id, "tenant": letter.tenant, **shown_letter(letter).model_dump()}


def _progress(made: Redriven) -> None:
    say(f"{made.redriven:,} sent again")

"""`uptake send`: a file into Kafka, each row exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from app.cli.common import BAD_INPUT, USAGE, Refusal, line, notes, run, say, settings_of, shown
from app.cli.options import Act, Json
from app.send import FileRows, Mapping, Progress, SendOptions, send


class Unit(StrEnum):
    """How times are written."""

    auto = "auto"
    rfc3339 = "rfc3339"
    ms = "ms"
    s = "s"


class Topic(StrEnum):
    """Where all rows go."""

    usage = "events.usage"
    performance = "events.performance"
    contacts = "events.contacts"
    commerce = "events.commerce"
    engagement = "events.engagement"
    feedback = "events.feedback"
    development = "events.development"
    market = "events.market"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("send")(send_file)


def send_file(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help=".jsonl, .ndjson, .csv, .tsv or .parquet")],
    mapped: Annotated[
        list[str] | None, typer.Option("--map", help="FIELD=COLUMN; FIELD may be properties.NAME.")
    ] = None,
    constants: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE for rows that have none.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Short for --set tenant=VALUE.")] = None,
    product: Annotated[str | None, typer.Option(help="Short for --set product=VALUE.")] = None,
    topic: Annotated[Topic | None, typer.Option(help="All rows go there; default: by each row's type.")] = None,
    rate: Annotated[str, typer.Option(help="Rows a second, or max.")] = "max",
    time_unit: Annotated[Unit, typer.Option(help="How the file writes times.")] = Unit.auto,
    act: Act = False,
    sort: Annotated[
        bool | None, typer.Option(help="Send in order of time; default: CSV and Parquet yes, JSON lines as they stand.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Write everything once more, also what was sent.")] = False,
    json: Json = False,
) -> None:
    """Send a file's events. Run again, it goes on where it was stopped; after the end it changes nothing."""
    given = pairs(constants, "--set")
    given |= {name: value for name, value in (("tenant", tenant), ("product", product)) if value is not None}
    rows = FileRows(
        file,
        Mapping(pairs(mapped, "--map"), given, topic.value if topic is not None else None, time_unit.value),
        sort=sort,
    )
    options = SendOptions(rate=pace(rate), act=act, again=again)
    with _shown(rows.estimate()) as told:
        sent = run(send(settings_of(ctx), rows, options, told))
    if json:
        line({n: getattr(sent, n) for n in ("rows", "new", "oversized", "unreadable", "disordered", "seconds")})
    elif sent.new == 0:
        say(f"{file.name}: all {sent.rows:,} rows were sent before; nothing to do (--again sends them once more)")
    else:
        speed = sent.new / max(sent.seconds, 0.001)
        say(f"{file.name}: {sent.new:,} rows sent in {sent.seconds:.1f} s ({speed:,.0f}/s)")
    if sent.disordered:
        say(
            f"{sent.disordered:,} rows stand over ten minutes behind earlier ones and count as late: --sort orders them"
        )
    if sent.unreadable:
        say(f"{sent.unreadable:,} rows are no events and will be dead letters: `uptake tail dead-letters`")
    if sent.oversized:
        raise Refusal(
            f"{sent.oversized:,} rows are larger than Kafka's topics take (1.9 MB) and were left out", BAD_INPUT
        )


def pairs(given: list[str] | None, option: str) -> dict[str, str]:
    """`["a=b"]` → `{"a": "b"}`. Raises `Refusal`."""
    found: dict[str, str] = {}
    for text in given or ():
        name, mark, value = text.partition("=")
        if not mark or not name or not value:
            raise Refusal(f"{option} {text!r}: it looks like FIELD=VALUE", USAGE)
        found[name] = value
    return found


def pace(text: str) -> float | None:
    """Rows a second; None for `max`. Raises `Refusal`."""
    if text == "max":
        return None
    try:
        rate = float(text.replace("_", "").replace(",", ""))
    except ValueError:
        rate = 0.0
    if rate <= 0:
        raise Refusal(f"--rate {text!r}: give rows a second, or max", USAGE)
    return rate


@contextmanager
def _shown(expected: int | None) -> Iterator[Callable[[Progress], None]]:
    if not notes.is_terminal:
        last = 0.0

        def tell(now: Progress) -> None:
            nonlocal last
            import time

            if time.monotonic() - last > 5:
                last = time.monotonic()
                if now.looked:
                    say(f"{now.looked:,} rows of about {now.expected or 0:,} looked through")
                    return
                say(f"{now.rows:,} rows of about {now.expected or 0:,}, up to {shown(now.at)}")

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=notes, transient=True) as bar:
        task = bar.add_task("sending", total=expected)

        def update(now: Progress) -> None:
            total = max(expected or 0, now.rows, now.looked) or None
            if now.looked:
                bar.update(task, completed=now.looked, total=total, description="looking through")
                return
            bar.update(task, completed=now.rows, total=total, description=f"sending · {shown(now.at)}")

        yield update

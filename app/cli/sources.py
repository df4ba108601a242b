"""`uptake sources`: topics of others as sources of events, shown on ten rows before anything is read."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

import typer

from app.cli.common import BAD_INPUT, NOTHING, Refusal, console, line, run, say, settings_of
from app.cli.files import definition_in
from app.cli.options import Json
from app.definitions import load, publish, retire
from app.kafka import consumer, partition_counts
from app.settings import Settings
from core.sources import Mapped, Unmapped, map_row
from schemas.definitions import ALL_TENANTS, Source

commands = typer.Typer(no_args_is_help=True, help="Topics of others as sources of events.")
SHOWN = 10
File = Annotated[Path, typer.Argument(help="YAML or JSON: name, topic, target, fields, constants, time_unit, id_from.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(commands, name="sources")


@commands.command()
def test(ctx: typer.Context, file: File, json: Json = False) -> None:
    """Show what ten rows of the topic would become. Nothing is written, nothing is read for good."""
    good, bad = run(_test(settings_of(ctx), read_source(file), json))
    if bad:
        raise Refusal(f"{bad} of {good + bad} rows are no events: mend the mapping in {file} and test again", BAD_INPUT)


@commands.command()
def add(
    ctx: typer.Context,
    file: File,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also where rows of the sample are no events.")] = False,
) -> None:
    """Test the mapping, show ten events, then begin to read the topic from its first row."""
    settings, source = settings_of(ctx), read_source(file)
    good, bad = run(_test(settings, source, False))
    if bad and not anyway:
        raise Refusal(
            f"{bad} of {good + bad} rows are no events; --anyway adds it, they become dead letters", BAD_INPUT
        )
    run(publish(settings, [source]))
    say(f"source {source.tenant}/{source.name} is in force: METER starts again to read {source.topic}")


@commands.command("list")
def show(ctx: typer.Context, json: Json = False) -> None:
    """Every source."""
    for source in run(load(settings_of(ctx))).of(Source):
        if json:
            line(source)
        else:
            console.print(f"{source.tenant}/{source.name:20} {source.topic} → {source.target}", markup=False)


@commands.command()
def remove(
    ctx: typer.Context, name: str, tenant: Annotated[str, typer.Option(help="Whose source.")] = ALL_TENANTS
) -> None:
    """Stop reading a source; its events stay."""
    settings = settings_of(ctx)
    found = [s for s in run(load(settings)).of(Source) if s.name == name and s.tenant == tenant]
    if not found:
        raise Refusal(f"no source {tenant}/{name}: `uptake sources list` shows them", NOTHING)
    run(retire(settings, found))
    say(f"source {tenant}/{name} is no longer read")


def read_source(file: Path) -> Source:
    """The definition in a file. Raises `Refusal` that names the field."""
    return definition_in(file, Source)


async def _test(settings: Settings, source: Source, json: bool) -> tuple[int, int]:
    good = bad = 0
    for position, value in await _sample(settings, source.topic):
        try:
            row: object = json_text.loads(value) if value is not None else None
        except ValueError:
            row = None
        result = map_row(source, row, position)
        good, bad = (good + 1, bad) if isinstance(result, Mapped) else (good, bad + 1)
        _show(position, value, result, json)
    if not good and not bad:
        say(f"{source.topic} is empty: nothing could be tested")
    return good, bad


async def _sample(settings: Settings, topic: str) -> list[tuple[str, bytes | None]]:
    """The first rows that are still there, over all partitions."""
    from aiokafka import TopicPartition

    count = (await partition_counts(settings, [topic])).get(topic)
    if count is None:
        raise Refusal(
            f"topic {topic} does not exist: sources name existing topics, without UPTAKE_TOPIC_PREFIX", NOTHING
        )
    if count > settings.partitions:
        raise Refusal(
            f"topic {topic} has {count} partitions; a source may have at most UPTAKE_PARTITIONS={settings.partitions}",
            BAD_INPUT,
        )
    partitions = [TopicPartition(topic, p) for p in range(count)]
    async with consumer(settings, fetch_max_wait_ms=100) as made:
        made.assign(partitions)
        await made.seek_to_beginning(*partitions)
        ends = await made.end_offsets(partitions)
        found: list[tuple[str, bytes | None]] = []
        while len(found) < SHOWN:
            open_ones = [p for p in partitions if await made.position(p) < ends[p]]
            if not open_ones:
                break
            for rows in (await made.getmany(timeout_ms=500, max_records=SHOWN - len(found))).values():
                found += [(f"{r.topic}/{r.partition}/{r.offset}", r.value) for r in rows]
        return found[:SHOWN]


def _show(position: str, value: bytes | None, result: Mapped | Unmapped, json: bool) -> None:
    if json:
        if isinstance(result, Mapped):
            line({"position": position, "key": result.key.decode(), "event": result.event})
        else:
            line({"position": position, "reason": result.reason, "detail": result.detail})
        return
    console.print(position, style="dim", markup=False)
    if isinstance(result, Mapped):
        console.print(f"  {result.key.decode()}  {json_text.dumps(result.event, ensure_ascii=False)}", markup=False)
    else:
        text = (value or b"null").decode(errors="replace")[:200]
        console.print(f"  no event: {result.reason} {result.detail} in {text}", style="red", markup=False)

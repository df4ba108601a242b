"""`uptake simulate`: a seeded world, into Kafka or a file, at full speed or in step with the clock."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli.common import settings_of
from app.cli.options import Act
from app.settings import Settings
from app.simulate import file, live
from app.simulate.encode import Encoder
from app.simulate.kafka import Log, Written, replay
from app.simulate.order import chunks
from app.simulate.plan import START_MS, Dirt, Plan, standard

Share = Annotated[float, typer.Option(min=0.0, max=1.0)]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("simulate")(simulate)


def simulate(
    ctx: typer.Context,
    events: Annotated[int, typer.Option(help="Rows to write, duplicates and spoilt ones among them.")] = 100_000,
    users: Annotated[int, typer.Option(help="Users, over all tenants.")] = 5_000,
    features: Annotated[int, typer.Option(help="Features a product.")] = 40,
    days: Annotated[float, typer.Option(help="Days of event time.")] = 3.0,
    start_ms: Annotated[int, typer.Option("--start", help="First moment, milliseconds since the epoch.")] = START_MS,
    seed: int = 1,
    duplicates: Share = 0.05,
    malformed: Share = 0.01,
    disordered: Share = 0.10,
    rfc3339: Share = 0.5,
    cloudevents: Share = 0.10,
    act: Act = False,
    into: Annotated[Path | None, typer.Option("--file", help="Write JSON lines here instead of to Kafka.")] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="With --file: bare events, as `uptake send` reads them.")
    ] = False,
    live_mode: Annotated[bool, typer.Option("--live", help="In step with the clock until Ctrl-C.")] = False,
    rate: Annotated[float, typer.Option(help="With --live: mean rows a second.")] = 200.0,
) -> None:
    """Simulate users, services, releases and incidents. The same seed gives the same rows."""
    console = Console(stderr=True)
    settings = settings_of(ctx)
    if live_mode:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_live(settings, seed, rate))
        return
    try:
        plan = standard(
            seed=seed,
            events=events,
            users=users,
            features=features,
            days=days,
            start_ms=start_ms,
            dirt=Dirt(duplicates, malformed, disordered, rfc3339, cloudevents),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    encoder = Encoder(plan)
    rows = (encoder.encode(columns) for columns in chunks(plan))
    if into is not None:
        console.print(f"{file.write(into, rows, plain=plain):,} lines in {into}")
        return
    with Progress(
        TextColumn("simulate"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    ) as bar:
        task = bar.add_task("rows", total=plan.events)

        def advance(written: Written, at: int) -> None:
            bar.update(task, completed=written.rows)

        written = asyncio.run(_replay(settings, plan, encoder, act, advance))
    console.print(f"{written.rows:,} rows of event time {plan.start_ms} … {plan.end_ms} in the log")


async def _replay(
    settings: Settings, plan: Plan, encoder: Encoder, act: bool, advance: Callable[[Written, int], None]
) -> Written:
    async with Log(settings) as log:
        return await replay(
            log,
            (encoder.encode(columns) for columns in chunks(plan)),
            name=plan.name,
            start_ms=plan.start_ms,
            end_ms=plan.end_ms,
            disorder_ms=plan.disorder_ms,
            act=act,
            products=[(product.tenant, product.name) for product in plan.products],
            progress=advance,
        )


async def _live(settings: Settings, seed: int, rate: float) -> None:
    def clock() -> int:
        return time.time_ns() // 1_000_000

    async with Log(settings) as log:
        await live.run(log, live.demo(clock(), seed), rate, clock)

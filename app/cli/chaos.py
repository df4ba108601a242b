"""`uptake chaos`: the whole system on brokers of its own, faults on a seeded schedule, and a verdict by the oracle."""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

import app.chaos.kinds  # noqa: F401 - fills the registry
from app.broker import Cluster
from app.chaos.kills import aimed
from app.chaos.registry import KINDS, Kind
from app.chaos.report import Setting, lines, write
from app.chaos.run import Options, as_dict
from app.chaos.run import run as chaotic
from app.cli.common import FAILED, USAGE, Refusal, line, run, say, settings_of
from app.cli.options import Json, Keep, Rulebook
from app.cli.verify import read_rulebook, telling
from app.settings import Role, Settings
from app.simulate.plan import standard
from app.trial import TrialFailed
from app.worker import WorkerFailed

TENANTS, PRODUCTS = ("acme", "globex", "initech"), ("studio", "portal")
SWITCH_S = 0.0005
LONGEST_KILL_S = 30.0


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("chaos")(chaos)


def chaos(
    ctx: typer.Context,
    minutes: Annotated[float, typer.Option(help="How long faults are injected.")] = 30.0,
    rate: Annotated[int, typer.Option(help="Rows a second.")] = 6_000,
    brokers: Annotated[int, typer.Option(help="Brokers to start for this run; 0: the Kafka of the settings.")] = 3,
    kinds: Annotated[str, typer.Option(help="Kinds of fault, with commas; default: all.")] = "",
    kills: Annotated[int, typer.Option(help="Instead: so many `kill -9`, aimed into checkpoints and recoveries.")] = 0,
    meter: int = 3,
    decide: int = 3,
    deliver: int = 2,
    project: int = 2,
    partitions: Annotated[int, typer.Option(help="Of every keyed topic.")] = 6,
    users: int = 20_000,
    features: int = 12,
    days: Annotated[float, typer.Option(help="Event time that the run covers.")] = 2.0,
    seed: int = 1,
    calm: Annotated[float, typer.Option(help="Shortest time between two faults of a track, seconds.")] = 4.0,
    within: Annotated[float, typer.Option(help="Seconds that the system may take to come to rest.")] = 900.0,
    rulebook: Rulebook = Path("rulebook"),
    report: Annotated[Path | None, typer.Option(help="Page to bring up to date, with its picture.")] = None,
    as_json: Json = False,
    list_: Annotated[bool, typer.Option("--list", help="Name the kinds of fault and end.")] = False,
    keep: Keep = False,
) -> None:
    """Break everything that can break, and compare what comes of it with an independent fold of the log."""
    if list_:
        for kind in KINDS.values():
            say(f"{kind.name:15} {kind.what}")
        return
    chosen = _kinds(kinds)
    rules = read_rulebook(rulebook)
    roles: dict[Role, int] = {"meter": meter, "decide": decide, "deliver": deliver, "project": project}
    # Aimed kills end the run when they are done; its rows must last that long.
    seconds = minutes * 60 if not kills else kills * LONGEST_KILL_S
    plan = standard(
        seed=seed,
        events=int(rate * seconds),
        users=users,
        features=features,
        days=days,
        tenants=TENANTS,
        products=PRODUCTS,
    )
    # Aiming and the rows share this process; at Python's 5 ms a look at a phase would wait too long for its turn.
    sys.setswitchinterval(SWITCH_S)
    base = settings_of(ctx).model_copy(update={"partitions": partitions})
    with _brokers(base, brokers, keep) as (settings, cluster), telling() as told:
        options = Options(
            plan=plan,
            rate=rate,
            roles=roles,
            seconds=seconds,
            kinds=() if kills else chosen,
            calm_s=calm,
            within_s=within,
            keep=keep,
            status=told,
            said=say,
        )
        try:
            outcome = run(chaotic(settings, rules, options, cluster=cluster, instead=aimed(kills) if kills else None))
        except* (TrialFailed, WorkerFailed) as group:
            raise Refusal("; ".join(str(error) for error in group.exceptions), FAILED) from group
    setting = Setting(rate, seed, roles, brokers, partitions, kills)
    for text in lines(outcome):
        say(text)
    if report is not None:
        write(report, outcome, setting)
        say(f"written to {report}")
    if as_json:
        line(as_dict(outcome))
    say("equal to the oracle, nothing lost, nothing twice" if outcome.good else "NOT equal")
    if not outcome.good:
        raise typer.Exit(FAILED)


def _kinds(names: str) -> list[Kind]:
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(KINDS)
    unknown = [name for name in wanted if name not in KINDS]
    if unknown:
        raise Refusal(f"no kind of fault is called {unknown[0]}: `uptake chaos --list` names them", USAGE)
    return [KINDS[name] for name in wanted]


@contextmanager
def _brokers(settings: Settings, count: int, keep: bool) -> Iterator[tuple[Settings, Cluster | None]]:
    """The settings with brokers of the run's own, which are stopped and removed afterwards."""
    if not count:
        yield settings, None
        return
    directory = settings.data_dir / f"chaos-{uuid.uuid4().hex[:8]}"
    cluster = Cluster(directory, count, jars=settings.data_dir / "jars")
    try:
        say(f"starting {count} brokers")
        yield settings.model_copy(update={"kafka": cluster.start()}), cluster
    finally:
        cluster.stop()
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)

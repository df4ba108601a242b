"""`uptake verify` and `uptake coverage`: the whole system judged by the oracle, on topics of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.status import Status

from app.cli.common import FAILED, Refusal, line, notes, run, say, settings_of
from app.cli.options import Json, Keep, Rulebook, Within
from app.coverage import cover
from app.coverage_page import write_table
from app.picture import draw
from app.real import NoData, metrics, purchases, replay
from app.simulate.plan import standard
from app.trial import TrialFailed
from app.verify import verify as verified
from app.worker import WorkerFailed
from core.rulebook import load_rulebook
from schemas.definitions import Definition


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("verify")(verify)
    app.command("coverage")(coverage)
    app.command("real")(real)


def verify(
    ctx: typer.Context,
    events: Annotated[int, typer.Option(help="Rows to simulate.")] = 5_000_000,
    users: int = 50_000,
    features: int = 40,
    days: float = 3.0,
    seed: int = 1,
    kills: Annotated[int, typer.Option(help="`kill -9` workers so often, each while rows wait.")] = 0,
    processes: Annotated[int, typer.Option(help="Processes a role.")] = 1,
    minutes: Annotated[int, typer.Option(help="1 h windows to compare that end between full hours.")] = 200,
    within: Within = 3600.0,
    rulebook: Rulebook = Path("rulebook"),
    keep: Keep = False,
) -> None:
    """Simulate, run the real system over it, and compare every published figure with an independent fold."""
    try:
        plan = standard(seed=seed, events=events, users=users, features=features, days=days)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    rules = read_rulebook(rulebook)
    settings = settings_of(ctx)
    with telling() as told:
        try:
            verdict = run(
                verified(
                    settings,
                    plan,
                    rules,
                    kills=kills,
                    processes=processes,
                    minutes=minutes,
                    within_s=within,
                    keep=keep,
                    told=told,
                )
            )
        except (TrialFailed, WorkerFailed) as error:
            raise Refusal(str(error), FAILED) from error
    for text in verdict.lines():
        say(text)
    say("equal to the oracle" if verdict.equal else "NOT equal to the oracle")
    if not verdict.equal:
        raise typer.Exit(FAILED)


def coverage(
    ctx: typer.Context,
    as_json: Json = False,
    seed: int = 1,
    within: Annotated[float, typer.Option(help="Seconds to wait for the commands.")] = 600.0,
    rulebook: Rulebook = Path("rulebook"),
    table: Annotated[
        Path | None, typer.Option(help="A page whose table is written anew, e.g. docs/coverage.md.")
    ] = None,
) -> None:
    """Plant what every automation of the rulebook waits for in raw events, and see what fired and which commands arrived."""
    rules = rulebook_texts(rulebook)
    settings = settings_of(ctx)
    with telling() as told:
        try:
            report = run(cover(settings, rules, seed=seed, within_s=within, told=told))
        except (TrialFailed, WorkerFailed) as error:
            raise Refusal(str(error), FAILED) from error
    if as_json:
        line(report.as_dict())
    else:
        for row in report.rows:
            say(row.line())
        for text in report.differences:
            say(f"  {text}")
        say(f"not yet there: {' '.join(report.not_yet_there) or 'nothing'}")
    if table is not None:
        write_table(table, report)
    if not report.complete:
        raise typer.Exit(FAILED)


def real(
    ctx: typer.Context,
    data: Annotated[Path, typer.Option(envvar="UPTAKE_SHARED_DATA", help="Folder that holds `nab` and `cdnow`.")],
    plot: Annotated[Path, typer.Option(help="Where to draw; needs matplotlib.")] = Path("docs/real-data.png"),
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Draw nothing.")] = False,
    within: Within = 1800.0,
) -> None:
    """Real server metrics and real purchases through the system: adoption beside the fold, bands and thresholds drawn."""
    if not no_plot and find_spec("matplotlib") is None:
        raise Refusal("the plot needs matplotlib, which comes with the development tools: `make setup`, or `--no-plot`")
    settings = settings_of(ctx)
    with telling() as told:
        try:
            hosts_plan, hosts_rows = metrics(data)
            shop_plan, shop_rows = purchases(data)
            hosts = run(replay(settings, hosts_plan, hosts_rows, within_s=within, told=told))
            shop = run(replay(settings, shop_plan, shop_rows, within_s=within, told=told))
        except NoData as error:
            raise Refusal(str(error)) from error
        except (TrialFailed, WorkerFailed) as error:
            raise Refusal(str(error), FAILED) from error
    for name, found in (("server metrics", hosts), ("purchases", shop)):
        say(
            f"{name}: {found.rows:,} rows, {len(found.detections):,} detections, {found.adoption.compared:,} adoption rows"
        )
        say(f"  {found.adoption.differing} differences")
        for text in found.adoption.shown:
            say(f"  {text}")
    if not no_plot:
        draw(plot, hosts, hosts_rows, shop)
        say(f"drawn in {plot}")
    if hosts.adoption.differing or shop.adoption.differing or not shop.adoption.compared:
        raise typer.Exit(FAILED)


def read_rulebook(folder: Path) -> list[Definition]:
    """Every definition under a folder. Raises `Refusal` where there is none."""
    return load_rulebook(rulebook_texts(folder))


def rulebook_texts(folder: Path) -> dict[str, str]:
    """Every file of a rulebook, by its name. Raises `Refusal` where there is none."""
    texts = {str(path): path.read_text() for path in sorted(folder.rglob("*.y*ml"))}
    if not texts:
        raise Refusal(f"no rules in {folder}: run this from the project's root, or name the folder with --rulebook")
    return texts


class telling:
    """Progress for people: a line that changes where there is a terminal, else a line every five seconds."""

    def __init__(self) -> None:
        self._status: Status | None = notes.status("starting") if notes.is_terminal else None
        self._said = 0.0

    def __enter__(self) -> Callable[[str], None]:
        if self._status is not None:
            self._status.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def _tell(self, text: str) -> None:
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() - self._said > 5:
            self._said = time.monotonic()
            say(text)

"""`uptake backup`, `uptake restore`, `uptake drill`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from app.backup.check import prune as pruned
from app.backup.check import verify as verified
from app.backup.manifest import ids, load
from app.backup.place import Place
from app.backup.restore import Restored
from app.backup.restore import restore as bring_back
from app.backup.run import backup as make
from app.backup.schedule import keep_backing_up
from app.cli.common import FAILED, NOTHING, USAGE, Refusal, console, line, notes, now_ms, run, say, settings_of, shown
from app.cli.options import Json, Rulebook, Within, Yes
from app.settings import Settings

commands = typer.Typer(help="Back up a running deployment; list and check backups.")
To = Annotated[str | None, typer.Option("--to", help="Folder, s3://bucket/path, gs://…, az://…; default: backup_url.")]
From = Annotated[
    str | None, typer.Option("--from", help="Folder, s3://bucket/path, gs://…, az://…; default: backup_url.")
]
Ident = Annotated[str | None, typer.Argument(metavar="[ID]", help="Default: the newest.")]
MARKS = ("<!-- drill: begin -->", "<!-- drill: end -->")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(commands, name="backup")
    app.command("restore")(restore)
    app.command("drill")(drill)


@commands.callback(invoke_without_command=True)
def backup(
    ctx: typer.Context,
    to: To = None,
    full: Annotated[bool, typer.Option("--full", help="Copy everything, not only what is new.")] = False,
    every: Annotated[str | None, typer.Option(help="Again and again: 15m, 1h …; serves metrics meanwhile.")] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="With --every: keep so many backups.")] = None,
) -> None:
    """Copy definitions, logs, state and the read model as of one moment, while everything runs."""
    if ctx.invoked_subcommand is not None:
        return
    settings = settings_of(ctx)
    place = _place(settings, to)
    if every is not None:
        run(keep_backing_up(settings, place, every_s=seconds(every), keep=keep, told=say))
        return
    made = run(make(settings, place, full=full))
    say(made.line())
    line(
        {"id": made.manifest.id, "rows": made.manifest.rows, "new_rows": made.new_rows, "bytes": made.manifest.written}
    )


@commands.command("ls")
def ls(ctx: typer.Context, to: To = None, json: Json = False) -> None:
    """The backups of a place, oldest first."""
    place = _place(settings_of(ctx), to)
    found = [run(load(place, ident)) for ident in run(ids(place))]
    for manifest in found:
        size = sum(file.size for file in manifest.files)
        if json:
            line(
                {"id": manifest.id, "at": manifest.at, "parent": manifest.parent, "rows": manifest.rows, "bytes": size}
            )
        else:
            kind = "full" if manifest.parent is None else "incremental"
            console.print(
                f"{manifest.id}  {shown(manifest.at)}  {kind:11}  {manifest.rows:>14,} rows  {size:>15,} bytes",
                markup=False,
            )
    if not found:
        raise Refusal(f"no backup in {place.url}", NOTHING)


@commands.command("verify")
def verify(ctx: typer.Context, ident: Ident = None, to: To = None) -> None:
    """Read every file of a backup and compare it with its checksum."""
    place = _place(settings_of(ctx), to)
    manifest = run(load(place, ident))
    size = run(verified(place, manifest))
    say(f"{manifest.id} is whole: {len(manifest.files)} files, {size:,} bytes, {manifest.rows:,} rows")


@commands.command("prune")
def prune(
    ctx: typer.Context, keep: Annotated[int, typer.Option(min=1, help="The newest so many stay.")], to: To = None
) -> None:
    """Drop older backups, and files that no backup needs any more."""
    backups, files = run(pruned(_place(settings_of(ctx), to), keep, now_ms()))
    say(f"{backups} backups and {files} files dropped")


def restore(
    ctx: typer.Context,
    ident: Ident = None,
    place_url: From = None,
    yes: Yes = False,
) -> None:
    """Bring a backup back into an empty cluster and an empty read model."""
    settings = settings_of(ctx)
    place = _place(settings, place_url)
    manifest = run(load(place, ident))
    question = (
        f"restore {manifest.id} ({shown(manifest.at)}, {manifest.rows:,} rows) as prefix {settings.topic_prefix!r}?"
    )
    if not yes:
        if not notes.is_terminal:
            raise Refusal(f"{question} Say so with --yes", USAGE)
        typer.confirm(question, abort=True, err=True)
    for text in lines(run(bring_back(settings, place, manifest, told=_told))):
        say(text)


def lines(found: Restored) -> list[str]:
    """What to know after a restore, and the next move."""
    told = [
        f"{found.rows:,} rows and {found.model_rows:,} rows of the read model in {found.seconds:.1f} s; "
        f"{found.waiting:,} rows are yet to be read, {found.dropped:,} behind the cut are made again"
    ]
    if found.overtaken:
        told.append(f"{found.overtaken:,} rows had been read by others already: they come twice (a loop of topics?)")
    told.append(
        f"the newest event is of {shown(found.newest_event)}: first let producers send again what they sent since "
        "(`uptake send`), then start `uptake worker`"
    )
    return told


def drill(
    ctx: typer.Context,
    events: Annotated[int, typer.Option(help="Rows to simulate.")] = 1_000_000,
    users: int = 20_000,
    features: int = 40,
    seed: int = 1,
    within: Within = 1800.0,
    to: To = None,
    rulebook: Rulebook = Path("rulebook"),
    write: Annotated[Path | None, typer.Option(help="Page that the figures go into, between its marks.")] = None,
) -> None:
    """Lose everything on purpose, on topics of its own: back up, destroy, restore, send again, compare with the fold."""
    from app.backup.drill import drill as drilled
    from app.cli.verify import read_rulebook
    from app.simulate.plan import standard

    plan = standard(seed=seed, events=events, users=users, features=features, days=3.0)
    report = run(drilled(settings_of(ctx), plan, read_rulebook(rulebook), url=to, within_s=within, told=_told))
    for text in report.lines():
        say(text)
    if not report.equal:
        raise typer.Exit(FAILED)
    if write is not None:
        begin, rest = write.read_text().split(MARKS[0], 1)
        _, end = rest.split(MARKS[1], 1)
        write.write_text(f"{begin}{MARKS[0]}\n{report.table()}{MARKS[1]}{end}")


def seconds(text: str) -> float:
    """`15m` → 900. Raises `Refusal`."""
    found = re.fullmatch(r"(\d+)([smhd])", text.strip())
    if found is None or not int(found[1]):
        raise Refusal(f"--every {text!r}: it looks like 15m, 1h, 30s", USAGE)
    return float(int(found[1]) * _UNITS[found[2]])


def _place(settings: Settings, url: str | None) -> Place:
    chosen = url or settings.backup_url
    if chosen is None:
        raise Refusal("where to? name a place with --to (restore: --from), or in UPTAKE_BACKUP_URL", USAGE)
    return Place(chosen)


def _told(text: str) -> None:
    if notes.is_terminal:
        say(text)

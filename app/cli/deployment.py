"""`uptake apply` and `uptake settings`: what is configured, and by what."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from app.cli.common import BAD_INPUT, Refusal, console, line, run, say, settings_of
from app.cli.options import Json
from app.clients.reach import Reach
from app.definitions import differing, publish
from app.runs import previews
from app.settings import Settings
from app.trying import try_all
from core.rulebook import RulebookError, load_rulebook
from core.workflows.standing import Preview
from schemas.definitions import Connection

ROOT = Path(__file__).resolve().parents[2]
RULEBOOK = ROOT / "rulebook"
"""The rulebook that comes with the project."""


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("apply")(apply)
    app.command("settings")(settings)


def apply(
    ctx: typer.Context,
    paths: Annotated[list[Path] | None, typer.Argument(help="Files or folders of YAML; default: our rulebook.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, and show who stands where; publish nothing.")
    ] = False,
    by: Annotated[str, typer.Option("--by", help="Who publishes.")] = "uptake apply",
) -> None:
    """Publish definitions. Those that did not change keep their version; all come into force together.

    Of workflows that change while runs wait, it shows who stands where, and what each way of publishing would do.
    """
    texts = texts_of(paths or [RULEBOOK])
    try:
        definitions = load_rulebook(texts)
    except RulebookError as error:
        raise Refusal(str(error), BAD_INPUT) from error
    if failed := [t for t in try_all(texts) if t.failure is not None]:
        told = "\n".join(f"{t.file}: {t.definition}: {t.test}\n  {t.failure}" for t in failed)
        raise Refusal(f"nothing is published, for tests beside the definitions fail:\n{told}", BAD_INPUT)
    reach = Reach.from_settings(settings_of(ctx))
    if wrong := [
        f"{d.tenant}/{d.name}: {w}" for d in definitions if isinstance(d, Connection) for w in reach.problems(d)
    ]:
        raise Refusal("\n".join(wrong), BAD_INPUT)
    settings = settings_of(ctx)
    show_previews(run(previews(settings, run(differing(settings, definitions)))))
    if dry_run:
        say("nothing was published (--dry-run)")
        return
    changed = run(publish(settings, definitions, by))
    for definition in changed:
        say(f"{definition.kind} {definition.tenant}/{definition.name} is now version {definition.version}")
    say(f"{len(changed)} of {len(definitions)} definitions changed")


def show_previews(found: Iterable[Preview]) -> None:
    """Who stands where, on stderr."""
    for one in found:
        if one.retired is not None:
            say(f"workflow {one.workflow} is retired: {one.runs} runs {one.retired}")
            continue
        say(f"workflow {one.workflow}: {one.runs} runs go on; the new version says `publish: {one.publish}`")
        for at in one.lines:
            place = f"{', '.join(at.places)}{' (paused)' if at.paused else ''}"
            fate = getattr(at, one.publish)
            others = "; ".join(
                f"{w}: {getattr(at, w)}" for w in ("pin", "follow", "drain", "migrate") if w != one.publish
            )
            say(f"  version {at.version} at {place}: {at.runs} runs: {fate}  ({others})")
        if one.new_fields:
            say(f"  they have not kept what it looks at now: {', '.join(one.new_fields)}")


def texts_of(paths: list[Path]) -> dict[str, str]:
    """Name → text of every YAML file. Raises `Refusal`."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted([*path.rglob("*.yaml"), *path.rglob("*.yml")])
        elif path.is_file():
            files.append(path)
        else:
            raise Refusal(f"no file or folder {path}", BAD_INPUT)
    if not files:
        raise Refusal(f"{paths[0]} holds no .yaml file", BAD_INPUT)
    return {str(file): file.read_text() for file in files}


def settings(ctx: typer.Context, json: Json = False) -> None:
    """Print every setting with its meaning; secrets are masked."""
    found = settings_of(ctx)
    values = found.model_dump(mode="json")
    if json:
        line(values)
        return
    for name, field in Settings.model_fields.items():
        console.print(f"UPTAKE_{name.upper()}={values[name] if values[name] is not None else ''}", markup=False)
        console.print(f"    {field.description}", style="dim", markup=False)

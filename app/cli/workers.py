"""`uptake worker` and `uptake api`: the processes of a deployment."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.common import USAGE, Refusal, notes, run, say, settings_of
from app.kafka import MissingTopic
from app.logs import configure
from app.rebuild import require_made
from app.settings import ROLES, Role, Settings
from app.topics import existing, refuse_other_counts
from app.worker import run_workers
from schemas.topics import TOPICS

MOST_CONNECTIONS = 1_024
"""Of the gateway at once; beyond that it answers 503, and its memory stays bounded."""


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("worker")(worker)
    app.command("api")(api)


def worker(
    ctx: typer.Context,
    roles: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(ROLES)}; or all.")] = "all",
    processes: Annotated[
        list[str] | None, typer.Option(help="ROLE=N: that many processes of a role; default one each.")
    ] = None,
) -> None:
    """Run roles, one process each, started again when they end, until Ctrl-C."""
    settings = settings_of(ctx)
    counts = role_counts(roles, processes)
    run(require_topics(settings))
    say(f"starting {', '.join(f'{n} × {role}' for role, n in counts.items())}; logs in {settings.log_dir}")
    run(run_workers(settings, counts))
    say("stopped")


def role_counts(roles: str, processes: list[str] | None) -> dict[Role, int]:
    """`meter,decide` and `["meter=2"]` → how many processes of each. Raises `Refusal`."""
    known: dict[str, Role] = {role: role for role in ROLES}
    wanted = list(ROLES) if roles == "all" else [r.strip() for r in roles.split(",") if r.strip()]
    for name in wanted:
        if name not in known:
            raise Refusal(f"no role {name!r}: roles are {', '.join(ROLES)}, or all", USAGE)
    counts: dict[Role, int] = {known[name]: 1 for name in wanted}
    for text in processes or ():
        name, _, number = text.partition("=")
        if name not in known or not number.isdigit() or int(number) < 1:
            raise Refusal(f"--processes {text!r}: it looks like meter=2", USAGE)
        counts[known[name]] = int(number)
    return counts


async def require_topics(settings: Settings) -> None:
    """Raises `MissingTopic` or `TopicsDiffer`: workers without their topics, or whole figures, would only wait."""
    counts = await existing(settings)
    missing = [settings.topic(t.name) for t in TOPICS if t.name not in counts]
    if missing:
        raise MissingTopic(f"{len(missing)} topics are missing ({missing[0]} …): make them with `uptake topics create`")
    refuse_other_counts(settings, counts)
    await require_made(settings)


def api(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Default: the settings'.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: the settings'.")] = None,
) -> None:
    """Serve the gateway until Ctrl-C."""
    import uvicorn

    from app.api.build import build_api

    settings = settings_of(ctx)
    changes = {"api_host": host, "api_port": port}
    settings = settings.model_copy(update={name: value for name, value in changes.items() if value is not None})
    run(require_topics(settings))
    configure(settings.log_dir / "api.log", settings.log_level, "api")
    if notes.is_terminal:
        say(f"gateway at http://{settings.api_host}:{settings.api_port}")
    server = uvicorn.Server(
        uvicorn.Config(
            build_api(settings),
            host=settings.api_host,
            port=settings.api_port,
            log_config=None,
            timeout_graceful_shutdown=5,
            limit_concurrency=MOST_CONNECTIONS,
        )
    )
    run(server.serve())
    if not server.started:
        raise typer.Exit(1)

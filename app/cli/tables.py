"""`uptake table`: adoption and health from the read model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated, TypeVar

import typer
from rich.box import SIMPLE
from rich.table import Table

from app.cli.common import UNREACHABLE, Refusal, console, line, run, settings_of, shown, time_option
from app.cli.options import Json, Product, Tenant
from app.settings import Settings
from app.store import Store, open_store
from app.store.queries import adoption as adoption_rows
from app.store.queries import health_rows
from schemas.tables import AdoptionRow, HealthRow

T = TypeVar("T")
commands = typer.Typer(no_args_is_help=True, help="The tables as they stand in the read model.")

At = Annotated[str | None, typer.Option(help="RFC 3339, milliseconds, or now; default: the newest there is.")]

ADOPTION = (
    "tenant",
    "product",
    "feature",
    "window_start",
    "window_end",
    "users",
    "events",
    "target_users",
    "adoption_rate",
    "organic_share",
    "stage",
)


class Window(StrEnum):
    """A window's name."""

    m5 = "5m"
    h1 = "1h"
    d1 = "1d"
    d7 = "7d"
    d28 = "28d"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(commands, name="table")


@commands.command()
def adoption(
    ctx: typer.Context,
    window: Annotated[Window, typer.Option(help="Which window.")] = Window.d7,
    at: At = None,
    tenant: Tenant = None,
    product: Product = None,
    json: Json = False,
) -> None:
    """Each feature's adoption in the last window closed at a time."""
    moment = time_option(at)
    rows = run(
        asked(
            settings_of(ctx),
            lambda store: adoption_rows(store, window=window.value, at=moment, tenant=tenant, product=product),
        )
    )
    if json:
        for row in rows:
            line({name: getattr(row, name) for name in ADOPTION})
        return
    _show_adoption(rows)


@commands.command()
def health(
    ctx: typer.Context, at: At = None, tenant: Tenant = None, product: Product = None, json: Json = False
) -> None:
    """Each product's explained health at a time."""
    moment = time_option(at)
    rows = run(asked(settings_of(ctx), lambda store: health_rows(store, at=moment, tenant=tenant, product=product)))
    if json:
        for row in rows:
            line(row.model_dump(include={"tenant", "product", "at", "score", "band", "components"}))
        return
    _show_health(rows)


async def asked(settings: Settings, question: Callable[[Store], Awaitable[T]]) -> T:
    """The answer of the read model. Raises `Refusal` where there is none yet, `StoreError` where it cannot be opened."""
    if settings.database_url is None and not (settings.data_dir / "read-model.db").exists():
        raise Refusal(
            f"there is no read model in {settings.data_dir} yet: `uptake worker --roles project` writes it", UNREACHABLE
        )
    store = await open_store(settings.store_url)
    try:
        return await question(store)
    finally:
        await store.close()


def _show_adoption(rows: list[AdoptionRow]) -> None:
    table = Table(box=SIMPLE, pad_edge=False)
    for name in ("tenant", "product", "feature", "window end", "users", "events", "target", "rate", "organic", "stage"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(
            row.tenant,
            row.product,
            row.feature,
            shown(row.window_end),
            str(row.users),
            str(row.events),
            str(row.target_users),
            percent(row.adoption_rate),
            percent(row.organic_share),
            row.stage + (" (viral)" if row.viral else ""),
        )
    console.print(table if rows else "no rows yet")


def _show_health(rows: list[HealthRow]) -> None:
    table = Table("tenant", "product", "at", "score", "band", "components", box=SIMPLE, pad_edge=False)
    for row in rows:
        parts = ", ".join(f"{name} {part.score:.0f}" for name, part in row.components.items())
        score = "–" if row.score is None else f"{row.score:.1f}"
        table.add_row(row.tenant, row.product, shown(row.at), score, row.band, parts)
    console.print(table if rows else "no rows yet")


def percent(share: float | None) -> str:
    """A share for people."""
    return "–" if share is None else f"{share * 100:.1f} %"

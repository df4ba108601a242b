"""`uptake outcomes`: whether rules help, from the read model."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from app.cli.common import console, line, run, settings_of, shown
from app.cli.options import Json, Product, Tenant
from app.cli.tables import asked, percent
from app.store.queries import list_outcomes
from schemas.outcomes import Arm, OutcomeRow

Rule = Annotated[str | None, typer.Option("--rule", help="Only this rule, by its id.")]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("outcomes")(outcomes)


def outcomes(
    ctx: typer.Context, tenant: Tenant = None, product: Product = None, rule: Rule = None, json: Json = False
) -> None:
    """What each measured rule has done so far: uplift, the interval it lies in, and the verdict."""
    rows = run(asked(settings_of(ctx), lambda store: list_outcomes(store, tenant=tenant, product=product, rule=rule)))
    if json:
        for row in rows:
            line(row.model_dump())
        return
    table = Table(box=SIMPLE, pad_edge=False)
    for name in ("tenant", "product", "rule", "metric", "treated", "held out", "uplift", "between", "verdict", "up to"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table if rows else "no rule has been measured yet: give one an `outcome` (docs/outcomes.md)")


def _cells(row: OutcomeRow) -> tuple[str, ...]:
    share = row.measure == "conversion"
    between = "–" if row.low is None or row.high is None else f"{_signed(row.low, share)} … {_signed(row.high, share)}"
    return (
        row.tenant,
        row.product,
        row.rule,
        row.metric,
        f"{row.pairs} times" if row.treated is None else _arm(row.treated),
        "time before" if row.held is None else _arm(row.held),
        "–" if row.uplift is None else _signed(row.uplift, share),
        between,
        row.verdict.replace("_", " "),
        shown(row.at),
    )


def _arm(arm: Arm) -> str:
    return f"{arm.converted:,} of {arm.subjects:,} ({percent(arm.rate)})"


def _signed(value: float, share: bool) -> str:
    return f"{100 * value:+.2f} %" if share else f"{value:+.4g}"

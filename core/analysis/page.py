"""Readable pages with their plots: plain HTML and SVG, no script, everything escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from core.analysis.correlation import Pair
from core.analysis.returns import Deal, Return

WIDTH: Final = 640
ROW: Final = 26
LEFT: Final = 200
HEIGHT: Final = 280
EDGE: Final = 60
GOOD, BAD, GREY = "#1a7f4b", "#b3261e", "#666666"
STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ddd}"
    "svg{max-width:100%;height:auto}"
)


def correlation_page(tenant: str, product: str, feature: str, pairs: Sequence[Pair]) -> str:
    """Which features go together with this one."""
    clear = [p for p in pairs if p.clear]
    found = (
        f"{len(clear)} of {len(pairs)} other features clearly rise or fall with {feature}."
        if clear
        else f"No other feature clearly rises or falls with {feature} so far."
    )
    rows = [
        [p.feature, _number(p.correlation), f"{_number(p.low)} to {_number(p.high)}", str(p.changes)] for p in pairs
    ]
    note = "Correlation of the changes of adoption rates, with its 95 % interval. It says what goes together, not what causes what."
    title = f"What goes together with {feature}"
    return _page(
        title,
        f"{product} of {tenant}",
        [found, note],
        correlation_plot(pairs),
        ["feature", "correlation", "95 %", "changes"],
        rows,
    )


def correlation_plot(pairs: Sequence[Pair]) -> str:
    """A line for each feature: its interval, and a dot at the correlation."""
    known = [p for p in pairs if p.correlation is not None]
    height = ROW * (len(known) + 2)

    def x(value: float) -> float:
        return LEFT + (value + 1) / 2 * (WIDTH - LEFT - 20)

    parts = [f'<line x1="{x(0):.1f}" y1="8" x2="{x(0):.1f}" y2="{height - ROW:.1f}" stroke="#bbb"/>']
    for tick in (-1, 0, 1):
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 8}" text-anchor="middle" font-size="12">{tick}</text>')
    for i, p in enumerate(known):
        y = ROW * (i + 1)
        colour = (GOOD if (p.correlation or 0) > 0 else BAD) if p.clear else GREY
        parts.append(
            f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end" font-size="13">{escape(p.feature[:28])}</text>'
        )
        parts.append(
            f'<line x1="{x(p.low or 0):.1f}" y1="{y}" x2="{x(p.high or 0):.1f}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(f'<circle cx="{x(p.correlation or 0):.1f}" cy="{y}" r="5" fill="{colour}"/>')
    return _svg(height, "Correlation of each feature, with its interval", parts)


def return_page(tenant: str, product: str, deal: Deal, found: Return) -> str:
    """What the product returns to a customer."""
    after = (
        "not within the months shown" if found.payback_month is None else f"at the end of month {found.payback_month}"
    )
    first = "no cost" if found.roi_first_year is None else f"{found.roi_first_year * 100:,.0f} %"
    rows = [
        ["people", f"{deal.users:,}"],
        ["saved a month", f"{found.benefit_month:,.2f}"],
        ["costs a month", f"{found.cost_month:,.2f}"],
        ["set-up", f"{deal.set_up_cost:,.2f}"],
        ["return of the first year", first],
        ["pays for itself", after],
        [f"worth today, {deal.months} months at {deal.discount_year * 100:g} %", f"{found.present_value:,.2f}"],
    ]
    note = (
        f"{deal.hours_saved_month:g} hours a month saved by each of {deal.users:,}, an hour at {deal.hour_cost:g}: "
        "the customer's own figures."
    )
    return _page(
        "What it returns",
        f"{product} of {tenant}",
        [f"It pays for itself {after}.", note],
        return_plot(found),
        ["", ""],
        rows,
    )


def return_plot(found: Return) -> str:
    """Net of everything, month by month."""
    values = [0.0, *found.cumulative]
    low, high = min(*values, 0.0), max(*values, 0.0)
    span = (high - low) or 1.0

    def at(month: int, value: float) -> str:
        across = EDGE + month / max(1, len(values) - 1) * (WIDTH - EDGE - 20)
        return f"{across:.1f},{20 + (high - value) / span * (HEIGHT - 50):.1f}"

    zero = at(0, 0.0).partition(",")[2]
    line = " ".join(at(month, value) for month, value in enumerate(found.cumulative, 1))
    parts = [
        f'<line x1="{EDGE}" y1="{zero}" x2="{WIDTH - 20}" y2="{zero}" stroke="#bbb"/>',
        f'<polyline points="{line}" fill="none" stroke="{GOOD}" stroke-width="2"/>',
        f'<text x="{EDGE - 6}" y="24" text-anchor="end" font-size="11">{high:,.0f}</text>',
        f'<text x="{EDGE - 6}" y="{HEIGHT - 28}" text-anchor="end" font-size="11">{low:,.0f}</text>',
        f'<text x="{WIDTH - 20}" y="{HEIGHT - 6}" text-anchor="end" font-size="12">month {len(found.cumulative)}</text>',
    ]
    return _svg(HEIGHT, "Net of everything, month by month", parts)


def _svg(height: int, label: str, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
    return f'{head} aria-label="{escape(label)}" font-family="sans-serif">{"".join(parts)}</svg>'


def _page(
    title: str, of: str, said: Sequence[str], plot: str, head: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
    cells = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    names = "".join(f"<th>{escape(h)}</th>" for h in head)
    texts = "".join(f"<p>{escape(text)}</p>" for text in said)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style></head>'
        f"<body><h1>{escape(title)}</h1><p>{escape(of)}</p>{texts}{plot}<table><thead><tr>{names}</tr></thead><tbody>{cells}</tbody></table></body></html>"
    )


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:+.2f}"

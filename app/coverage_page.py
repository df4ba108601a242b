"""docs/coverage.md: the table between its two marks is what a run of `uptake coverage` found."""

from __future__ import annotations

from pathlib import Path

from app.coverage_report import Report

BEGIN, END = "<!-- begin: uptake coverage -->", "<!-- end: uptake coverage -->"


def table(report: Report) -> str:
    """The rows and what is not yet there, as Markdown."""
    lines = [
        f"{sum(row.good for row in report.rows)} of {len(report.rows)} rows did everything; {report.received:,} commands came to the "
        f"receiver, {report.repeated} of them more than once, {report.refused} with a signature that does not fit.",
        "",
        "| row | command | fired | arrived | silent without cause | numbers | commands |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report.rows:
        said = " | ".join(
            "yes" if x else "**no**" for x in (row.fired, row.arrived, row.negative_silent, row.numbers_equal)
        )
        lines.append(f"| {row.id} | `{row.command_type or '-'}` | {said} | {row.commands} |")
    return "\n".join([*lines, "", f"Not yet there: {', '.join(report.not_yet_there) or 'nothing'}.", ""])


def write_table(page: Path, report: Report) -> None:
    """Replaces what stands between the marks. Raises `ValueError` where the page has no marks."""
    text = page.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} has no place for the table: put {BEGIN} and {END} where it belongs")
    head, _, rest = text.partition(BEGIN)
    page.write_text(f"{head}{BEGIN}\n{table(report)}\n{END}{rest.partition(END)[2]}")

"""The ids of the catalogue of automations, by group; which of them are there is what `uptake coverage` finds."""

from __future__ import annotations

from typing import Final

_SIZES: Final = {
    **{f"A{n}": 4 for n in range(1, 5)},
    **{f"B{n}": 4 for n in range(1, 5)},
    **{f"C{n}": 4 for n in range(1, 5)},
    **{f"D{n}": 4 for n in range(1, 5)},
    "D5": 3,
    "D6": 4,
    "D7": 2,
    **{f"E{n}": 4 for n in range(1, 7)},
    "E7": 3,
    **{f"{family}{n}": 4 for family in "FGHI" for n in range(1, 4)},
    "J1": 16,
    "J2": 12,
    "J3": 12,
}
"""Group → how many rows it has, numbered from 1."""
WHOLE: Final = (*(f"J{n}" for n in range(4, 14)), *(f"P{n}" for n in (1, 2, 3, 4, 7, 10)))
"""Rows without numbers of their own: a template's steps, or a part's examples, are counted under them."""


def ids() -> list[str]:
    """Every id, in order."""
    return [f"{group}.{n}" for group, size in _SIZES.items() for n in range(1, size + 1)] + list(WHOLE)


def covers(row: str, ident: str) -> bool:
    """Whether a row of the report is about this id: itself, or a step under it."""
    return row == ident or (ident in WHOLE and row.startswith(f"{ident}."))

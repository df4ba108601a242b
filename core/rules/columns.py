"""Conditions over columns: the event-only weakening of a condition, as a mask over a batch.

What the columns do not know counts as true, so a mask is never narrower than the row predicate (`conditions.holds`); under a
`not` the bounds change sides. `Known` gives, for a comparison, which rows surely or possibly meet it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from core.rules.conditions import holds
from schemas.definitions import All, AnyOf, Compare, Condition, During, Not

Bools = npt.NDArray[np.bool_]


class Columns:
    """Coded columns: for each known field the code of every row, and the value of every code."""

    def __init__(self, rows: int, fields: Mapping[str, tuple[npt.NDArray[np.int64], Mapping[int, Any]]]) -> None:
        self.rows = rows
        self._fields = fields

    def possible(self, condition: Condition | None) -> Bools:
        """Rows for which the condition may hold."""
        return np.ones(self.rows, np.bool_) if condition is None else self._bounds(condition)[1]

    def _bounds(self, condition: Condition) -> tuple[Bools, Bools]:
        """(rows for which it surely holds, rows for which it may hold)."""
        match condition:
            case Compare():
                return self._compare(condition)
            case All():
                sure, may = np.ones(self.rows, np.bool_), np.ones(self.rows, np.bool_)
                for part in condition.of:
                    a, b = self._bounds(part)
                    sure &= a
                    may &= b
                return sure, may
            case AnyOf():
                sure, may = np.zeros(self.rows, np.bool_), np.zeros(self.rows, np.bool_)
                for part in condition.of:
                    a, b = self._bounds(part)
                    sure |= a
                    may |= b
                return sure, may
            case Not():
                a, b = self._bounds(condition.of)
                return ~b, ~a
            case During():  # asks for the moment, which is no column
                return np.zeros(self.rows, np.bool_), np.ones(self.rows, np.bool_)
            case _:
                assert_never(condition)

    def _compare(self, condition: Compare) -> tuple[Bools, Bools]:
        known = self._fields.get(condition.field)
        if known is None:
            return np.zeros(self.rows, np.bool_), np.ones(self.rows, np.bool_)
        codes, values = known
        distinct, inverse = np.unique(codes, return_inverse=True)
        # once a distinct value, by the row predicate itself: the two cannot differ
        truth = np.array([holds(condition, {condition.field: values[int(c)]}) for c in distinct.tolist()], np.bool_)
        mask: Bools = truth[inverse] if len(distinct) else np.zeros(self.rows, np.bool_)
        return mask, mask


def required(condition: Condition | None) -> dict[str, list[Any]]:
    """Fields that must have one of these (string) values for the condition to hold: what rules are indexed by."""
    match condition:
        case Compare(op="==", value=str() as value):
            return {condition.field: [value]}
        case Compare(op="in", value=list() as values) if all(isinstance(v, str) for v in values):
            return {condition.field: list(values)}
        case All():
            out: dict[str, list[Any]] = {}
            for part in condition.of:
                for field, values in required(part).items():
                    if field not in out or len(values) < len(out[field]):
                        out[field] = values
            return out
        case AnyOf(of=[first, *others]):
            shared = required(first)
            for part in others:
                more = required(part)
                shared = {field: [*values, *more[field]] for field, values in shared.items() if field in more}
            return shared
        case _:
            return {}

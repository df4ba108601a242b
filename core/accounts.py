"""The balances' differences, exported: what was taken in and is neither done, nor refused, nor waiting. Zero.

matched    = commanded + suppressed + failed                            (DECIDE, in matches)
commanded  = suppressed + left to other consumers + routed               (DISPATCH, in commands)
deliveries = delivered + suppressed + rejected + waiting                 (DELIVER, in deliveries)

The second and the third are one balance of commands, cut where a command becomes deliveries, of which it may have many.
"""

from __future__ import annotations

from typing import Literal

from core.effects import Effect, Observe

Balance = Literal["matched", "commanded", "deliveries"]


class Book:
    """One balance of all tasks in this process, as one gauge."""

    def __init__(self, balance: Balance) -> None:
        self._balance = balance
        self._differences: dict[str, int] = {}

    def put(self, task: str, difference: int) -> Effect:
        """Note a task's difference, computed from its state; the gauge shows the sum over all tasks, signs apart."""
        self._differences[task] = abs(difference)
        return Observe("uptake_accounting_difference", sum(self._differences.values()), (self._balance,))

"""What a product returns to a customer: month by month, from what the customer says it saves and what it costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deal:
    """What is known. Money is in one currency, whichever."""

    users: int
    price_month: float
    """Of one user."""
    hours_saved_month: float
    """By one user; the customer's own estimate."""
    hour_cost: float
    set_up_cost: float = 0.0
    months: int = 36
    discount_year: float = 0.08
    """What money in a year is worth less today."""


@dataclass(frozen=True, slots=True)
class Return:
    """What it comes to."""

    benefit_month: float
    cost_month: float
    cumulative: list[float]
    """Net of everything at the end of each month, the first of them month 1."""
    payback_month: int | None
    """The first month at whose end it has paid for itself; None: not within the months asked for."""
    roi_first_year: float | None
    """Net benefit of the first year over its cost; None where it costs nothing."""
    present_value: float
    """Of all months, discounted, the set-up paid today."""


def returns(deal: Deal) -> Return:
    """The return of a deal."""
    benefit = deal.users * deal.hours_saved_month * deal.hour_cost
    cost = deal.users * deal.price_month
    net = benefit - cost
    cumulative = [net * month - deal.set_up_cost for month in range(1, deal.months + 1)]
    spent = 12 * cost + deal.set_up_cost
    worth = sum(net / (1 + deal.discount_year) ** (month / 12) for month in range(1, deal.months + 1))
    return Return(
        benefit_month=benefit,
        cost_month=cost,
        cumulative=cumulative,
        payback_month=next((m for m, left in enumerate(cumulative, 1) if left >= 0), None),
        roi_first_year=(12 * net - deal.set_up_cost) / spent if spent > 0 else None,
        present_value=worth - deal.set_up_cost,
    )

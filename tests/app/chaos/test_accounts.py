"""Accounts: each sum has two sides, and a missing one shows."""

from __future__ import annotations

from collections import Counter

import pytest

from app.chaos.accounts import Accounts
from app.chaos.destination import Destination
from app.chaos.verdict import deliveries
from core.delivery.accounts import Dispatched, Ended
from core.rules.acting import Books


def right() -> Accounts:
    made = Accounts(
        books=Books(matched=10, commanded=7, suppressed=2, failed=1),
        dispatched=Dispatched(commands=7, suppressed=1, left=1, routed=5, deliveries=6),
        ended=Ended(received=6, delivered=3, suppressed=1, rejected=1),
        waiting=1,
        commands=Counter({f"c{n}": 1 for n in range(7)}),
        deliveries=6,
        delivered={"d1", "d2", "d3"},
    )
    made.receipts.update({("command", "failed"): 1})
    made.receipts.update({("command", "suppressed"): 4, ("delivery", "delivered"): 3, ("delivery", "rejected"): 1})
    return made


def test_books_that_balance_have_no_difference() -> None:
    found = right().compare()
    assert found.compared == 12 and not found.differing


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: setattr(a.books, "matched", 11),
        lambda a: setattr(a.books, "commanded", 6),
        lambda a: a.commands.pop("c0"),
        lambda a: a.commands.update({"c0": 1}),
        lambda a: setattr(a.dispatched, "left", 0),
        lambda a: setattr(a, "deliveries", 5),
        lambda a: setattr(a.ended, "received", 5),
        lambda a: setattr(a, "waiting", 0),
        lambda a: a.receipts.update({("delivery", "delivered"): 1}),
        lambda a: a.receipts.update({("command", "failed"): 1}),
    ],
)
def test_whatever_is_missing_or_too_much_shows(spoil: object) -> None:
    made = right()
    spoil(made)  # type: ignore[operator]
    assert made.compare().differing


def test_still_means_that_nothing_is_on_its_way() -> None:
    made = right()
    assert not made.still
    made.waiting, made.ended.delivered = 0, 4
    assert made.still


def test_a_delivery_tried_under_two_ids_or_taken_without_a_receipt_shows() -> None:
    made, destination = right(), Destination("whsec_x")
    destination.ids.update({"c1": {"d1"}, "c2": {"d2"}, "c3": {"d3"}})
    destination.accepted.update({"d1": 1, "d2": 2, "d3": 1})
    assert not deliveries(made, destination).differing
    destination.ids["c1"].add("d9")
    assert deliveries(made, destination).differing == 1
    destination.accepted["d9"] = 1
    assert deliveries(made, destination).differing == 2
    made.delivered.add("d8")
    assert deliveries(made, destination).differing == 3

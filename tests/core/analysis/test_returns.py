"""What a deal returns: an example by hand, and what holds for all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.analysis.page import return_page
from core.analysis.returns import Deal, returns


def test_by_hand() -> None:
    found = returns(Deal(40, 20.0, 2.0, 50.0, 6400.0, 12, 0.0))
    assert (found.benefit_month, found.cost_month) == (4000, 800)
    assert found.cumulative[:3] == [-3200, 0, 3200]
    assert found.payback_month == 2
    assert found.roi_first_year == pytest.approx((12 * 3200 - 6400) / (12 * 800 + 6400))
    assert found.present_value == pytest.approx(12 * 3200 - 6400)


DEALS = st.builds(
    Deal,
    st.integers(1, 10_000),
    st.floats(0, 1e4),
    st.floats(0, 200),
    st.floats(0, 500),
    st.floats(0, 1e6),
    st.integers(1, 120),
    st.floats(0, 1),
)


@given(DEALS)
def test_what_always_holds(deal: Deal) -> None:
    found = returns(deal)
    assert len(found.cumulative) == deal.months
    if found.payback_month is None:
        assert all(left < 0 for left in found.cumulative)
    else:
        assert found.cumulative[found.payback_month - 1] >= 0
        assert all(left < 0 for left in found.cumulative[: found.payback_month - 1])
    assert (found.roi_first_year is None) == (
        deal.price_month == 0 and deal.set_up_cost == 0
    ) or deal.price_month < 1e-300
    dearer = returns(
        Deal(deal.users, deal.price_month, deal.hours_saved_month, deal.hour_cost, deal.set_up_cost + 1, deal.months)
    )
    same = returns(
        Deal(deal.users, deal.price_month, deal.hours_saved_month, deal.hour_cost, deal.set_up_cost, deal.months)
    )
    assert dearer.present_value == pytest.approx(same.present_value - 1, abs=1e-3, rel=1e-9)


def test_the_page_says_it_in_words_and_draws_it() -> None:
    deal = Deal(40, 20.0, 2.0, 50.0, 6400.0, 12)
    page = return_page("acme", "shop", deal, returns(deal))
    assert "It pays for itself at the end of month 2." in page and "<polyline" in page and "4,000.00" in page
    never = Deal(40, 200.0, 2.0, 50.0, 6400.0, 12)
    assert "not within the months shown" in return_page("acme", "shop", never, returns(never))

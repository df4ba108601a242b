"""How far a worker's clock and the broker's are surely apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from transport.checkpoint import apart


@given(at=st.floats(0, 1e6), there=st.floats(0, 60), back=st.floats(0, 60), ahead=st.floats(-1e4, 1e4, allow_nan=False))
def test_what_is_said_of_clocks_is_certain(at: float, there: float, back: float, ahead: float) -> None:
    """`ahead` is the truth: what is told has its sign, is never more, and is short of it by the way there and back at most."""
    told = apart(at + ahead, at + there, at + there + back + ahead)
    if ahead >= 0:
        assert 0 <= told <= ahead + 1e-6 and told >= ahead - there - 1e-6
    else:
        assert 0 >= told >= ahead - 1e-6 and told <= ahead + back + 1e-6

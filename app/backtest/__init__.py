"""`uptake backtest`: what rules and workflows would have ordered, from the archive, through the same tasks on a virtual clock."""

from app.backtest.report import Ordered, Result, compared
from app.backtest.run import Wanted, backtest

__all__ = ["Ordered", "Result", "Wanted", "backtest", "compared"]

"""The inactivity model beside BG/NBD on CDNOW: `python -m bench.inactivity --data FILE`.

FILE has lines `customer date number dollars` (dates as 19970131). Everybody is judged by what they bought up to 1997-09-30; the
question is who buys nothing in the 39 weeks after. BG/NBD (P. Fader, B. Hardie, K. Lee, "Counting Your Customers the Easy Way",
Marketing Science 2005) is fitted by maximum likelihood to the purchases before that day and needs no outcomes. Ours learns from
outcomes, so each customer's probability comes from a model that has not seen them (five folds); "forward" learns only from what was
known on the day: who stood how at its middle, and who bought nothing in the second half.
"""

from __future__ import annotations

import argparse
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, gammaln

from core.predict.inactivity import Standing, fit, unseen
from core.predict.quality import Bools, Floats, Quality, quality

BEGIN, TODAY, END = date(1997, 1, 1), date(1997, 9, 30), date(1997, 9, 30) + timedelta(weeks=39)
Days = dict[str, list[date]]


def read(file: Path) -> Days:
    """Customer → days with a purchase, ascending. Raises `OSError` where there is no such file."""
    found: dict[str, set[date]] = {}
    for line in file.read_text().splitlines():
        if len(parts := line.split()) >= 2:
            day = date(int(parts[1][:4]), int(parts[1][4:6]), int(parts[1][6:8]))
            found.setdefault(parts[0], set()).add(day)
    return {customer: sorted(days) for customer, days in sorted(found.items())}


def standing(days: Days, today: date) -> Standing:
    """Of everybody with a purchase up to `today`."""
    rows = [(d[0], until[-1], len(until)) for d in days.values() if (until := [x for x in d if x <= today])]
    age = [(today - first).days for first, _, _ in rows]
    gap = [(today - last).days for _, last, _ in rows]
    return Standing(np.array(age, float), np.array(gap, float), np.array([n for _, _, n in rows], float))


def silent(days: Days, after: date, until: date) -> Bools:
    """Who of those with a purchase up to `after` had none behind it, up to `until`."""
    return np.array([not any(after < x <= until for x in d) for d in days.values() if d[0] <= after])


class BgNbd:
    """Parameters r, alpha, a, b of greatest likelihood, in weeks."""

    def __init__(self, users: Standing) -> None:
        self.x, self.t = users.active - 1.0, users.age / 7.0
        self.tx = np.where(self.x > 0, (users.age - users.gap) / 7.0, 0.0)
        found = minimize(
            lambda p: -self._likelihood(np.exp(p)), np.zeros(4), method="Nelder-Mead", options={"maxiter": 2000}
        )
        self.parameters: Floats = np.exp(found.x)

    def _likelihood(self, p: Floats) -> float:
        r, alpha, a, b = p
        x, tx, t = self.x, self.tx, self.t
        common = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
        alive = betaln(a, b + x) - betaln(a, b) - (r + x) * np.log(alpha + t)
        gone = betaln(a + 1, b + np.maximum(x, 1) - 1) - betaln(a, b) - (r + x) * np.log(alpha + tx)
        return float((common + np.where(x > 0, np.logaddexp(alive, gone), alive)).mean())

    def inactive(self, weeks: float) -> Floats:
        """Probability of no purchase in the next weeks: gone already, or alive and waiting for longer."""
        r, alpha, a, b = self.parameters
        x, tx, t = self.x, self.tx, self.t
        odds = np.where(x > 0, a / (b + np.maximum(x, 1) - 1) * ((alpha + t) / (alpha + tx)) ** (r + x), 0.0)
        result: Floats = 1.0 - (1.0 - ((alpha + t) / (alpha + t + weeks)) ** (r + x)) / (1.0 + odds)
        return result


def main(arguments: list[str] | None = None) -> int:
    """0 when the data were there."""
    parser = argparse.ArgumentParser(prog="python -m bench.inactivity", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the file of purchases")
    given = parser.parse_args(arguments)
    try:
        days = read(given.data)
    except OSError as error:
        print(f"no purchases at {given.data} ({error}); give --data the file of CDNOW", file=sys.stderr)
        return 2
    users, true = standing(days, TODAY), silent(days, TODAY, END)
    middle = BEGIN + (TODAY - BEGIN) / 2
    forward = fit(standing(days, middle), silent(days, middle, TODAY))
    print(f"{len(true):,} customers, {true.mean():.1%} bought nothing in the {(END - TODAY).days} days after {TODAY}")
    known = BgNbd(users)
    _line("inactivity, five folds", quality(unseen(users, true), true))
    if forward is not None:
        _line("inactivity, forward", quality(forward.probability(users), true))
    _line("BG/NBD", quality(known.inactive((END - TODAY).days / 7), true))
    print("BG/NBD: r, alpha, a, b = " + ", ".join(f"{p:.3f}" for p in known.parameters))
    return 0


def _line(name: str, found: Quality) -> None:
    print(
        f"{name:24} AUC {found.auc:.4f} · Brier {found.brier:.4f} (of the share alone {found.base_brier:.4f}) · ECE {found.ece:.4f}"
    )


if __name__ == "__main__":
    sys.exit(main())

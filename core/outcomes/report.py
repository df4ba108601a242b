"""The report on a product's outcomes: how it moved, how fast commands arrived, which rules worked, what they have in common."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import NormalDist, fmean, variance
from typing import Literal

from core.decide.explain import detection_id
from core.outcomes.ledger import BUCKETS_A_DOUBLING, DAY_MS, Ended, Experiment, Ledger
from schemas.definitions import Rule
from schemas.detections import Calibration, Change, Factor, OutcomeReport, Ranked, Response
from schemas.envelope import subject

Every = Literal["week", "month"]
CHANGES = (
    "engagement",
    "adoption",
    "responsiveness",
    "reliability",
    "health",
    "satisfaction",
    "market_share",
    "active_users",
)
"""Figures of a day that the report compares, as `Day.figures` names them."""


def due(end: int) -> list[Every]:
    """Which reports are due at the end of this day."""
    at = datetime.fromtimestamp(end / 1000, UTC)
    return [*(["week"] if at.weekday() == 0 else []), *(["month"] if at.day == 1 else [])]  # type: ignore[list-item]


def report(
    tenant: str, product: str, every: Every, ended: Ended, ledger: Ledger, rule_of: Callable[[str], Rule | None]
) -> OutcomeReport:
    """The report at the end of a day. `rule_of`: the rule of that name in force."""
    end = ended.end
    days = 7 if every == "week" else 28
    begin, before = end - days * DAY_MS, end - 2 * days * DAY_MS
    now = [figures for at, figures in ledger.days if begin < at <= end]
    then = [figures for at, figures in ledger.days if before < at <= begin]
    measured = [
        (rule, experiment)
        for name, experiment in sorted(ledger.standing(ended).items())
        if (rule := rule_of(name)) is not None and rule.outcome is not None and experiment.uplift is not None
    ]
    verdicts = [e.verdict for _, e in measured]
    gains = [g for _, e in measured if (g := e.gain()) is not None]
    total = sum(g[0] for g in gains)
    spread = math.sqrt(sum(((g[2] - g[1]) / 2) ** 2 for g in gains))
    about = subject("product", product)
    return OutcomeReport(
        id=detection_id("outcome_report", tenant, product, about, end, every),
        tenant=tenant,
        product=product,
        subject=about,
        at=end,
        act=ended.act,
        every=every,
        **{name: _change(name, then, now) for name in CHANGES},
        response=_response(ledger.took, begin, end),
        response_before=_response(ledger.took, before, begin),
        ranked=_ranked(measured),
        factors=_factors(measured),
        calibration=_calibration(e for _, e in measured),
        gain=total if gains else None,
        gain_low=total - spread if gains else None,
        gain_high=total + spread if gains else None,
        working=verdicts.count("working"),
        harmful=verdicts.count("harmful"),
        undecided=verdicts.count("no_effect_yet"),
        window=f"{days}d",
        window_start=begin,
        window_end=end,
    )


def t_quantile(degrees: float) -> float:
    """The 97.5 % quantile of Student's t (expansion of Cornish and Fisher; within 1 % from three degrees on).

    >>> round(t_quantile(6), 2), round(t_quantile(100), 3)
    (2.45, 1.984)
    """
    z = NormalDist().inv_cdf(0.975)
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )


def _change(name: str, then: Sequence[Mapping[str, float]], now: Sequence[Mapping[str, float]]) -> Change | None:
    """Means of the days and Welch's interval of their difference; None with less than three days of either."""
    old, new = ([figures[name] for figures in days if name in figures] for days in (then, now))
    if len(old) < 3 or len(new) < 3:
        return None
    a, b = variance(old) / len(old), variance(new) / len(new)
    degrees = (a + b) ** 2 / (a * a / (len(old) - 1) + b * b / (len(new) - 1)) if a + b else math.inf
    margin = math.sqrt(a + b) * (t_quantile(max(degrees, 2.0)) if a + b else 0.0)
    gap = fmean(new) - fmean(old)
    return Change(
        before=fmean(old),
        after=fmean(new),
        difference=gap,
        low=gap - margin,
        high=gap + margin,
        days_before=len(old),
        days_after=len(new),
    )


def _response(took: Mapping[int, Mapping[int, int]], begin: int, end: int) -> Response | None:
    sums: defaultdict[int, int] = defaultdict(int)
    for day, buckets in took.items():
        if begin < day <= end:
            for bucket, n in buckets.items():
                sums[bucket] += n
    commands = sum(sums.values())
    if not commands:
        return None

    def quantile(share: float) -> float:
        left = share * commands
        for bucket in sorted(sums):
            left -= sums[bucket]
            if left <= 0:
                return float(2 ** (bucket / BUCKETS_A_DOUBLING))
        raise AssertionError("the counts add up")

    return Response(commands=commands, p50_ms=quantile(0.5), p95_ms=quantile(0.95))


def _toward(rule: Rule, experiment: Experiment) -> float:
    """The uplift in the direction that the rule wants."""
    uplift = experiment.uplift or 0.0
    return uplift if rule.outcome is not None and rule.outcome.direction == "up" else -uplift


def _ranked(measured: list[tuple[Rule, Experiment]]) -> list[Ranked]:
    rows = []
    for rule, e in sorted(measured, key=lambda m: (-_toward(*m), m[0].id))[:20]:
        interval = e.interval(rule.outcome.alpha) if rule.outcome is not None else None
        rows.append(
            Ranked(
                rule=rule.id,
                command_type=rule.command.type,
                trigger=rule.trigger.kind,
                verdict=e.verdict,
                uplift=e.uplift or 0.0,
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                subjects=e.pairs or int(e.treated[0] + e.held[0]),
            )
        )
    return rows


def _factors(measured: list[tuple[Rule, Experiment]]) -> list[Factor]:
    """Rules by what they have in common, the best first; figures and shares are of different kinds, so only shares are averaged."""
    groups: defaultdict[tuple[str, str], list[tuple[Rule, Experiment]]] = defaultdict(list)
    for rule, e in measured:
        if e.pairs:
            continue
        domain, rest = rule.command.type.split(".", 1)
        for factor, value in (("domain", domain), ("trigger", rule.trigger.kind), ("command", rest)):
            groups[factor, value].append((rule, e))
    found = [
        Factor(
            factor=factor,
            value=value,
            rules=len(group),
            working=sum(e.verdict == "working" for _, e in group),
            harmful=sum(e.verdict == "harmful" for _, e in group),
            mean_uplift=fmean(_toward(rule, e) for rule, e in group),
        )
        for (factor, value), group in groups.items()
    ]
    return sorted(found, key=lambda f: (-f.mean_uplift, f.factor, f.value))[:30]


def _calibration(experiments: Iterable[Experiment]) -> Calibration | None:
    sums = [0.0] * 4
    for experiment in experiments:
        sums = [a + b for a, b in zip(sums, experiment.forecast, strict=True)]
    n, said, did, squares = sums
    if not n:
        return None
    return Calibration(subjects=int(n), predicted=said / n, observed=did / n, brier=squares / n)

"""The report: lines for the terminal, a section of a page in the docs, and a picture of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from app.chaos.registry import KINDS
from app.chaos.run import Outcome
from app.chaos.timeline import Timeline
from app.settings import Role


@dataclass(frozen=True, slots=True)
class Setting:
    """What the run was made of."""

    rate: float
    seed: int
    roles: Mapping[Role, int]
    brokers: int
    partitions: int
    kills: int

    @property
    def section(self) -> str:
        """Which part of the page it fills."""
        return "kills" if self.kills else "faults"


def lines(outcome: Outcome) -> Iterator[str]:
    """For people."""
    verdict = outcome.verdict
    yield (
        f"{outcome.rows:,} rows in {outcome.seconds:.0f} s, at rest {outcome.settled_s:.1f} s after the last; "
        f"written again {outcome.tries_again}, upstream transactions aborted {outcome.aborted}"
    )
    for name, count in sorted(verdict.outcomes.items()):
        yield f"  {name}: {count:,}"
    yield "detections: " + ", ".join(f"{k} {n}" for k, n in sorted(verdict.detections.items()))
    faults = Counter(f.kind for f in outcome.timeline.faults if not f.skipped)
    if faults:
        yield f"{faults.total()} faults: " + ", ".join(f"{kind} {n}" for kind, n in sorted(faults.items()))
    if outcome.kills:
        yield (
            f"{len(outcome.kills)} kills, {sum(k.in_transaction for k in outcome.kills)} inside a transaction, "
            f"{sum(k.in_recovery for k in outcome.kills)} inside a recovery"
        )
    yield recovery_line("kill to first new checkpoint", outcome.timeline.of(killed=True))
    if asleep := outcome.timeline.of(killed=False):
        yield recovery_line("asleep to first new checkpoint of the next owner", asleep)
    yield from (f"NOT recovered: {text}" for text in outcome.timeline.unrecovered)
    yield "attempts: " + ", ".join(f"{n} while it {mood}" for mood, n in sorted(outcome.attempts.items()))
    yield verdict.accounts.line()
    for d in verdict.differences:
        yield f"{d.what}: {d.compared:,} compared, {d.differing:,} differences"
        yield from (f"  {text}" for text in d.shown)


def recovery_line(what: str, found: list[float]) -> str:
    """Median and maximum."""
    if not found:
        return f"{what}: none"
    return f"{what}: {len(found)}, median {median(found):.1f} s, longest {found[-1]:.1f} s"


def write(page: Path, outcome: Outcome, setting: Setting) -> None:
    """Brings the page's section up to date, and its picture beside it (needs matplotlib)."""
    picture = page.with_name(f"{page.stem}-{setting.section}.svg")
    draw(picture, outcome)
    begin, end = (f"<!-- {setting.section}: {word} -->" for word in ("begin", "end"))
    text = page.read_text() if page.exists() else f"{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    section = "\n".join(_section(outcome, setting, picture.name))
    page.write_text(f"{before}{begin}\n{section}\n{end}{after}")


def _section(outcome: Outcome, setting: Setting, picture: str) -> Iterator[str]:
    verdict, timeline = outcome.verdict, outcome.timeline
    processes = ", ".join(f"{n} {role.upper()}" for role, n in setting.roles.items())
    yield (
        f"{outcome.rows:,} rows at {setting.rate:,.0f} a second, {processes}, {setting.brokers or 'foreign'} brokers, "
        f"{setting.partitions} partitions, seed {setting.seed}; {outcome.seconds:.0f} s from the first row to rest, "
        f"{outcome.settled_s:.1f} s of them after the last row."
    )
    yield ""
    yield f"![Timeline of the run]({picture})"
    yield ""
    yield "| compared with the oracle | things | differences |"
    yield "|---|---|---|"
    for d in verdict.differences:
        yield f"| {d.what} | {d.compared:,} | {d.differing:,} |"
    yield ""
    yield f"Accounts: {verdict.accounts.line()}."
    yield ""
    yield _recoveries(timeline)
    yield ""
    if not outcome.kills and timeline.recoveries:
        yield "| without its owner | at | taken after | recovered after | first checkpoint after | the last partition |"
        yield "|---|---|---|---|---|---|"
        yield from (_recovery(one) for one in timeline.recoveries)
        yield ""
    if outcome.kills:
        yield "| kill | process | in the middle of | rows waiting | recovered after |"
        yield "|---|---|---|---|---|"
        for kill, back in zip(outcome.kills, timeline.recoveries, strict=False):
            seconds = "never" if back["recovered_s"] is None else f"{back['recovered_s']:.1f} s"
            yield f"| {kill.number} | {kill.who} | {kill.where.replace('|', ' ')} | {kill.waiting:,} | {seconds} |"
        yield ""
        yield (
            f"{sum(k.in_transaction for k in outcome.kills)} inside a checkpoint's transaction, "
            f"{sum(k.in_recovery for k in outcome.kills)} inside a recovery, the shortest time between two "
            f"{min(k.since_s for k in outcome.kills):.1f} s."
        )
        return
    yield "| fault | what | times |"
    yield "|---|---|---|"
    times = Counter(f.kind for f in timeline.faults if not f.skipped)
    for name, n in sorted(times.items()):
        yield f"| {name} | {KINDS[name].what} | {n} |"
    yield ""
    moods = ", ".join(f"{n:,} while it {mood}" for mood, n in sorted(outcome.attempts.items()))
    yield f"{times.total()} faults. Attempts at the destination: {moods}. Upstream transactions aborted: {outcome.aborted}."


def _recoveries(timeline: Timeline) -> str:
    told = recovery_line("From kill to the first new checkpoint of every partition it held", timeline.of(killed=True))
    asleep = timeline.of(killed=False)
    if asleep:
        told += "; " + recovery_line("from falling asleep to the next owner's", asleep)
    return f"{told}."


def _recovery(one: Mapping[str, Any]) -> str:
    if "asleep" in one["who"]:  # it says of itself, as long as it sleeps, that it has them
        one = {**one, "taken_s": None, "worked_s": None}
    after = " | ".join(
        "" if one[stage] is None else f"{one[stage]:.1f} s" for stage in ("taken_s", "worked_s", "recovered_s")
    )
    return f"| {one['who']} | {one['at_s']:.0f} s | {after} | {one['last'].replace('|', ' ')} |"


def draw(path: Path, outcome: Outcome) -> None:
    """Rows written, rows that wait by role, faults as bars, recoveries as points."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "uptake"
    from matplotlib import pyplot

    timeline = outcome.timeline
    figure, (rows, lag, bars) = pyplot.subplots(
        3, 1, figsize=(12, 9), sharex=True, layout="constrained", height_ratios=(1, 1, 2)
    )
    at = [s.at_s for s in timeline.samples]
    pairs = list(zip(timeline.samples, timeline.samples[1:], strict=False))
    rows.plot(at[1:], [(b.rows - a.rows) / max(b.at_s - a.at_s, 1e-9) for a, b in pairs], lw=0.8, color="#333333")
    rows.set_ylabel("rows written / s")
    for role, colour in (("meter", "#2f6fde"), ("decide", "#2f9e6d"), ("deliver", "#f5a623"), ("project", "#9b59b6")):
        lag.plot(at, [s.lag.get(role, 0) for s in timeline.samples], lw=0.8, color=colour, label=role)
    lag.set_yscale("symlog")
    lag.set_ylabel("rows that wait")
    lag.legend(fontsize=7, ncols=4)
    _bars(bars, timeline)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _bars(axis: Any, timeline: Timeline) -> None:
    faults = [f for f in timeline.faults if not f.skipped]
    names = sorted({f.kind for f in faults})
    for fault in faults:
        ended = fault.ended_s if fault.ended_s is not None else fault.began_s
        axis.barh(
            names.index(fault.kind), max(ended - fault.began_s, 0.6), left=fault.began_s, height=0.6, color="#e5484d"
        )
    back = [r for r in timeline.recoveries if r["recovered_s"] is not None]
    for one in back:
        axis.plot([one["at_s"], one["at_s"] + one["recovered_s"]], [len(names)] * 2, "|-", color="#333333", ms=6, lw=1)
    axis.set_yticks(range(len(names) + 1), [*names, "without owner"], fontsize=8)
    axis.set_xlabel("seconds")

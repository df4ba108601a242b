"""All predictions of one METER partition: when days end for which products, and what is told to DECIDE then.

A day ends for a product at the row (or clock) with which its watermark here passes midnight, UTC. `parts` cuts a batch behind those
rows, so that what is judged is what had come until then, however the log was cut into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from core.batch import Int64s
from core.decide.explain import detection_id
from core.decide.packing import decode, encode
from core.definitions import Catalogue
from core.detect.threshold import OK, State
from core.effects import Count, Effect, Emit, Observe
from core.meter import state
from core.meter.source import Rows
from core.meter.usage import DAY_MS, DAYS, Usage
from core.predict.daily import VERSION, Said, Series, end_day, probability
from core.predict.standings import back
from core.task import StateRecord
from schemas.definitions import Prediction
from schemas.envelope import key, subject
from schemas.registers import WINDOWS, Signal

PREFIX: Final = b"predict|"
USERS_A_ROW: Final = 5_000
_json = msgspec.json.Encoder().encode
Place = tuple[str, str, str]
"""tenant, product, prediction."""


class Stands(NamedTuple):
    """Where one user stands now, by the model of the newest day."""

    probability: float
    phase: str
    since: int
    trusted: bool
    """Whether the quality gate is open."""
    measured: str
    calibration_error: float


class Predictions:
    """Of one partition. What it keeps is written with the checkpoints, beside the columns that it reads."""

    def __init__(self, usage: Usage, catalogue: Catalogue, partition: int) -> None:
        self._usage, self._catalogue, self._partition = usage, catalogue, partition
        self._series: dict[Place, Series] = {}
        self._pages: dict[Place, int] = {}
        """Rows of users that were written."""
        self._changed: set[Place] = set()
        self._in_force: dict[int, list[Prediction]] = {}
        """Group → its predictions, in order of name."""
        self._known = (-1, -1)
        self._due = 0
        """Before this event time no day ends for any of them; 0: not known."""
        self._loading: dict[tuple[str, str, str, int], bytes] = {}

    # --- days -------------------------------------------------------------------------------------------------------

    def parts(self, rows: Rows) -> list[Rows]:
        """The rows, cut where a day may end for a product that has predictions; else as they are."""
        groups = self._of()
        if not groups or not len(rows) or (not rows.markers and int(rows.pace.max()) < self._due):
            return [rows]
        cuts: set[int] = set()
        for group in np.unique(rows.group).tolist():
            predictions = groups.get(group, [])
            if not predictions:
                continue
            days = [self._day(group, p) for p in predictions]
            mine = np.flatnonzero(rows.group == group)
            if None in days and len(mine):
                cuts.add(int(mine[0]) + 1)
            cuts |= self._crossings(rows, mine, min((d for d in days if d is not None), default=0))
        if not cuts and not rows.markers:
            return [rows]
        cuts |= {m[0] for m in rows.markers}
        return list(_cut(rows, sorted(c for c in cuts if 0 < c < len(rows))))

    def judge(self) -> Iterator[Effect]:
        """Judge the days that have ended since the last call."""
        groups = self._of()
        if not groups or max(int(self._usage.watermark.max()), self._usage.clock.at) < self._due:
            return
        for group, predictions in groups.items():
            about, today = self._usage.groups[group], self._usage.watermark_of(group) // DAY_MS
            if group not in self._usage.windows:
                continue
            for prediction in predictions:
                place = (about.tenant, about.product, prediction.name)
                series = self._series.get(place)
                if series is None:
                    self._series[place] = Series(today)
                    self._changed.add(place)
                    continue
                # Of a long silence the last days matter only: before them nobody is left to be asked about.
                for day in range(max(series.day + 1, today - DAYS), today + 1):
                    self._changed.add(place)
                    if prediction.effective_from > day * DAY_MS:
                        series.day = day
                        continue
                    for said in end_day(series, self._usage, group, prediction, day):
                        yield self._told(group, prediction, series, said)
                    yield from self._quality(place, series, prediction)
        days = [self._day(group, p) for group, predictions in groups.items() for p in predictions]
        self._due = 0 if None in days else (min(d for d in days if d is not None) + 1) * DAY_MS

    def stands(self, tenant: str, product: str, user: str, prediction: Prediction) -> Stands | None:
        """Of a user who is asked about; None for another, or where nothing has been learnt."""
        groups = self._usage.groups
        group = next((i for i, g in enumerate(groups) if i and (g.tenant, g.product) == (tenant, product)), 0)
        series = self._series.get((tenant, product, prediction.name))
        if not group or series is None or series.measured is None:
            return None
        said = probability(series, self._usage, group, prediction, user)
        if said is None:
            return None
        state_ = series.states.get(user, OK)
        found = series.measured
        return Stands(said, state_.phase, state_.since, series.trusted(prediction), found.by, found.quality.ece)

    def forget(self, holds: Callable[[str, str], bool]) -> None:
        """Forget the users of whom `holds(tenant, subject)`."""
        for place, series in self._series.items():
            for user in [u for u in series.states if holds(place[0], f"user:{u}")]:
                del series.states[user]
                self._changed.add(place)

    # --- state ------------------------------------------------------------------------------------------------------

    def load(self, at: bytes, value: bytes | None) -> None:
        """Take one row back."""
        tenant, product, name, page = msgspec.json.decode(at.removeprefix(PREFIX))
        if value is None:
            self._loading.pop((tenant, product, name, page), None)
        else:
            self._loading[tenant, product, name, page] = value

    def loaded(self) -> None:
        """Every row is there."""
        for (*place, page), value in sorted(self._loading.items()):
            where = (place[0], place[1], place[2])
            if page == 0:
                self._series[where] = Series.of(decode(value))
        for (*place, page), value in sorted(self._loading.items()):
            where = (place[0], place[1], place[2])
            if page and where in self._series:
                self._pages[where] = max(page, self._pages.get(where, 0))
                self._series[where].states |= {u: State(*s) for u, *s in decode(value)}
        self._loading.clear()
        self._due = 0

    def drain(self) -> list[StateRecord]:
        """Rows that changed since the last drain."""
        records: list[StateRecord] = []
        for place in sorted(self._changed):
            series = self._series[place]
            users = sorted(series.states.items())
            pages = [users[i : i + USERS_A_ROW] for i in range(0, len(users), USERS_A_ROW)]
            records.append((_key(place, 0), encode(series.rows())))
            for n, page in enumerate(pages, 1):
                rows = [[u, s.phase, s.since, s.crossed_since, s.fired_at] for u, s in page]
                records.append((_key(place, n), encode(rows)))
            records += [(_key(place, n), None) for n in range(len(pages) + 1, self._pages.get(place, 0) + 1)]
            self._pages[place] = len(pages)
        self._changed.clear()
        return records

    # --- inside -----------------------------------------------------------------------------------------------------

    def _of(self) -> dict[int, list[Prediction]]:
        known = (self._catalogue.generation, len(self._usage.groups))
        if self._known != known:
            self._known, self._due = known, 0
            self._in_force = {}
            every = self._catalogue.of(Prediction)
            for group, about in enumerate(self._usage.groups) if every else ():
                mine = [p for p in every if p.tenant in (about.tenant, "all") and p.product in (None, about.product)]
                by_name = {p.name: p for p in sorted(mine, key=lambda p: p.tenant == about.tenant)}
                if by_name and group:
                    self._in_force[group] = [by_name[name] for name in sorted(by_name)]
            kept = {
                (self._usage.groups[g].tenant, self._usage.groups[g].product, p.name)
                for g, predictions in self._in_force.items()
                for p in predictions
            }
            for place in [p for p in self._series if p not in kept]:
                self._series[place] = Series(
                    self._series[place].day
                )  # retired: nothing of it is used, should it come again
                self._changed.add(place)
        return self._in_force

    def _day(self, group: int, prediction: Prediction) -> int | None:
        about = self._usage.groups[group]
        series = self._series.get((about.tenant, about.product, prediction.name))
        return None if series is None else series.day

    def _crossings(self, rows: Rows, mine: Int64s, day: int) -> set[int]:
        """Behind which rows of the group its own pace has passed another midnight after the day `day`."""
        if not len(mine):
            return set()
        reached = np.maximum.accumulate(rows.pace[mine]) // DAY_MS
        if int(reached[-1]) <= day:
            return set()
        first = np.flatnonzero((np.diff(reached, prepend=day) > 0) & (reached > day))
        return {int(mine[i]) + 1 for i in first.tolist()}

    def _told(self, group: int, prediction: Prediction, series: Series, said: Said) -> Effect:
        about = self._usage.groups[group]
        who = subject("user", said.user)
        found = _detection(about.tenant, about.product, who, prediction, series, said)
        act = said.fitted >= self._usage.clock.quiet
        word = Signal(
            tenant=about.tenant,
            product=about.product,
            subject=who,
            kind="prediction",
            cause=str(found["id"]),
            rules=[],
            at=said.fitted,
            data={**found, "act": act},
            act=act,
        )
        return Emit("signals", key(about.tenant, who), _json(word))

    def _quality(self, place: Place, series: Series, prediction: Prediction) -> Iterator[Effect]:
        found = series.measured
        if found is not None:
            labels = (*place, str(self._partition))
            yield Observe("uptake_prediction_calibration_error", found.quality.ece, labels)
            yield Observe("uptake_prediction_auc", found.quality.auc, labels)
            yield Count("uptake_prediction_days_total", 1, ("judged" if series.trusted(prediction) else "gate_closed",))
        else:
            yield Count("uptake_prediction_days_total", 1, ("too_few_users",))


def _detection(
    tenant: str, product: str, who: str, prediction: Prediction, series: Series, said: Said
) -> dict[str, Any]:
    kind = f"prediction_{said.edge}"
    measured = series.measured
    assert measured is not None  # the gate is open
    quality = measured.quality
    age, gap, active = said.standing
    far = back(prediction.horizon_days)
    edge = {"since": said.state.crossed_since} if said.edge == "crossed" else {"fired_at": said.state.fired_at}
    return {
        "kind": kind,
        "id": detection_id(kind, tenant, product, who, said.fitted, prediction.name),
        "tenant": tenant,
        "product": product,
        "subject": who,
        "at": said.fitted,
        "prediction": prediction.name,
        "model": prediction.model,
        "model_version": f"{prediction.model} {VERSION}, fitted {datetime.fromtimestamp(said.fitted / 1000, UTC):%Y-%m-%d}",
        "feature": prediction.feature,
        "horizon_days": prediction.horizon_days,
        "probability": said.probability,
        "limit": prediction.limit,
        "because": f"last seen {gap:.0f} days ago, active on {active:.0f} of the last {min(age, far):.0f} days",
        "reasons": said.reasons,
        "age_days": age,
        "gap_days": gap,
        "active_days": active,
        "measured": measured.by,
        "measured_at": measured.at,
        "auc": quality.auc,
        "brier": quality.brier,
        "base_brier": quality.base_brier,
        "calibration_error": quality.ece,
        "measured_users": quality.rows,
        "window": "28d",
        "window_start": said.fitted - WINDOWS["28d"][0],
        "window_end": said.fitted,
        **edge,
    }


def _cut(rows: Rows, cuts: Iterable[int]) -> Iterator[Rows]:
    """The rows between the cuts; the markers that stand at a cut go alone, before the rows behind it."""
    bounds = [0, *cuts, len(rows)]
    for start, stop in pairwise(bounds):
        part = state.cut(rows, start, stop, last=stop == len(rows))
        ahead, behind = [m for m in part.markers if m[0] == 0], [m for m in part.markers if m[0] > 0]
        if ahead:
            yield replace(state.cut(rows, start, start, last=False), markers=ahead, turns=[])
        yield replace(part, markers=behind)


def _key(place: Place, page: int) -> bytes:
    return PREFIX + _json([*place, page])

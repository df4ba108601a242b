"""Forgetting users: their names leave the state, their profiles go, and rows of theirs that come again are dropped.

What was counted stays counted: a user's number keeps its place in the windows, so no figure changes, but nothing leads back
from the number to a name. An erasure is a journal entry of its own, so recovered state is live state; the checkpoint then
writes a new base, and with it the older records, which hold the name, are deleted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from core.batch import Batch
from core.effects import Count, DeadLetter, Effect
from core.forgetting import Forgetting
from core.meter.index import Bools
from core.meter.read import Reading
from core.meter.source import Rows, Source
from core.meter.usage import Usage

_USER = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)


class Forgetter:
    """Erases the users of one partition whom the definitions say to forget, and drops rows of theirs."""

    def __init__(self, usage: Usage, forgotten: Forgetting) -> None:
        self._usage = usage
        self._forgotten = forgotten
        self._version = 0
        self._shared: defaultdict[str, set[int]] = defaultdict(set)
        """Tenant → numbers whose name is another tenant's user, and one to be forgotten of this tenant."""

    def sweep(self) -> Iterator[tuple[str, int, int]]:
        """Erase whoever is to be forgotten since the last sweep; gives what `erase` was called with, to be noted."""
        if self._version == self._forgotten.version:
            return
        self._version = self._forgotten.version
        users = self._usage.users
        for tenant in self._forgotten.tenants:
            for number, name in enumerate(list(users.names)):
                if not name or not self._forgotten.holds(tenant, f"user:{name}"):
                    continue
                mine, others = _profiles(self._usage, tenant, number)
                to = number
                if others:
                    self._shared[tenant].add(number)
                    if not mine:
                        continue
                    to = users.nameless()
                erase(self._usage, tenant, number, to)
                yield tenant, number, to

    def drop(self, reading: Reading, batch: Batch, known: int) -> Reading:
        """Without the rows, and without the dead letters, of whom to forget. `known`: users there were before the batch."""
        dead = [e for e in reading.effects if isinstance(e, DeadLetter) and self._forgotten.holds_key(e.key)]
        mask = np.zeros(len(reading.rows), np.bool_)
        if batch.topic == self._usage.topic:
            fresh = self._fresh(known)
            for tenant in self._forgotten.tenants:
                mask |= self._of(reading.rows, tenant, fresh[tenant] | self._shared[tenant])
        dropped = int(mask.sum())
        rows = _without(reading.rows, mask) if dropped else reading.rows
        if batch.topic == self._usage.topic:
            self._release(fresh, rows, known)
        if not dropped and not dead:
            return reading
        left = [e for e in reading.effects if e not in dead]
        effects = [*_recounted(left, batch.topic, dropped, len(dead)), _forgotten(dropped + len(dead))]
        return Reading(rows, effects, reading.accepted[~mask], reading.kept)

    def _fresh(self, known: int) -> dict[str, set[int]]:
        """Tenant → numbers, new with this batch, of names to forget."""
        names = self._usage.users.names
        return {
            tenant: {n for n in range(known, len(names)) if self._forgotten.holds(tenant, f"user:{names[n]}")}
            for tenant in self._forgotten.tenants
        }

    def _of(self, rows: Rows, tenant: str, numbers: set[int]) -> Bools:
        if not numbers:
            return np.zeros(len(rows), np.bool_)
        groups = np.array([i for i, g in enumerate(self._usage.groups) if g.tenant == tenant], np.int64)
        found: Bools = np.isin(rows.group, groups) & np.isin(rows.columns["user"], np.array(sorted(numbers), np.int64))
        return found

    def _release(self, fresh: dict[str, set[int]], rows: Rows, known: int) -> None:
        """Take new names that nobody else uses out again, as if they had not come; numbers behind them move down."""
        suspects = set[int]().union(*fresh.values())
        if not suspects:
            return
        users, column = self._usage.users, rows.columns["user"]
        used = set(np.unique(column[column >= known]).tolist())
        gone = suspects - used
        moved = users.withdraw(known, gone)
        rows.columns["user"] = moved[column]
        for tenant, numbers in fresh.items():
            self._shared[tenant] |= {int(moved[n]) for n in numbers - gone}


def erase(source: Source, tenant: str, number: int, to: int) -> None:
    """Take a tenant's user out of the state. `to`: the nameless number that its pairs go on with, where other tenants have a
    user of that name and so keep `number`; else `number` itself, which loses its name.
    """
    if not isinstance(source, Usage):
        raise TypeError(f"{source.topic} has no users")
    profiles = source.profiles
    mine, _ = _profiles(source, tenant, number)
    keep = np.ones(len(profiles), np.bool_)
    keep[mine] = False
    count = len(profiles)
    events = profiles.events[:count][keep].astype(np.int64)
    profiles.restore(profiles.index.keys[:count][keep], profiles.last[:count][keep], events)
    if to == number:
        source.users.retire(number)
    else:
        _renumber(source, tenant, number, to)


def _profiles(usage: Usage, tenant: str, number: int) -> tuple[list[int], list[int]]:
    """Rows of the profiles with this user: the tenant's, and those of other tenants."""
    keys = usage.profiles.index.keys[: len(usage.profiles)]
    rows = np.flatnonzero((keys & _USER) == np.uint64(number)).tolist()
    mine = [row for row in rows if usage.groups[int(keys[row] >> _HIGH)].tenant == tenant]
    return mine, [row for row in rows if row not in mine]


def _renumber(usage: Usage, tenant: str, number: int, to: int) -> None:
    """Give the tenant's pairs of a user another number, which nobody has yet."""
    mine = np.array([g.tenant == tenant for g in usage.groups], np.bool_)
    usage.pairs.renumber(mine[usage.cell_group[: len(usage.cell_names)]], number, to)


def _without(rows: Rows, mask: Bools) -> Rows:
    """The rows that are not masked; what stands between rows stays between the same ones."""
    kept = ~mask
    before = np.concatenate([[0], np.cumsum(kept)])
    return replace(
        rows,
        group=rows.group[kept],
        time=rows.time[kept],
        pace=rows.pace[kept],
        key=rows.key[kept],
        columns={name: column[kept] for name, column in rows.columns.items()},
        turns=[int(before[turn]) for turn in rows.turns],
        markers=[(int(before[m[0]]), *m[1:]) for m in rows.markers],
    )


def _recounted(effects: Iterable[Effect], topic: str, rows: int, letters: int) -> Iterator[Effect]:
    """The counts of a reading, forgotten rows and letters taken out of the outcomes that they had."""
    less = {"accepted": rows, "dead": letters}
    for effect in effects:
        if isinstance(effect, Count) and effect.metric == "uptake_rows_total":
            n = effect.n - less.get(effect.labels[1], 0)
            if n:
                yield Count(effect.metric, n, effect.labels)
        else:
            yield effect
    yield Count("uptake_rows_total", rows + letters, (topic, "forgotten"))


def _forgotten(n: int) -> Effect:
    return Count("uptake_forgotten_total", n, ("meter",))

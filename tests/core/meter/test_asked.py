"""Figures that somebody asks for are the same where the others are not told."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from core.definitions import Catalogue
from core.meter.asked import Wanted
from core.meter.task import TOPICS, MeterTask
from schemas.registers import Registers, decode
from tests.app.backtest.live import batch
from tests.app.backtest.test_marked import rows

Figures = dict[tuple[str, int, int], dict[str, tuple[int, ...]]]


def told(seed: int, asked: dict[str, Wanted] | None, corrected: tuple[str, ...] = TOPICS) -> Figures:
    """(window, end, version) → name → figures, of rows of which some are late, in batches of a hundred."""
    task, found = MeterTask(0, 1, Catalogue(), asked=asked, corrected=corrected), Figures()
    log = rows(Random(seed), 1_500)
    for start in range(0, len(log), 100):
        for effect in task.step(batch("events.usage", 0, log[start : start + 100], start)):
            record = decode(effect.value) if getattr(effect, "topic", "") == "meter.registers" else None
            for patch in record.patches if isinstance(record, Registers) else ():
                columns = [np.frombuffer(c, "<i8").tolist() for c in patch.columns]
                into = found.setdefault((patch.window, patch.end, patch.version), {})
                for i, cell in enumerate(np.frombuffer(patch.cells, "<i8").tolist()):
                    into[record.names[cell]] = tuple(column[i] for column in columns)
        task.let_go()
    return found


@pytest.mark.parametrize("seed", range(3))
def test_what_is_asked_for_is_as_if_all_were(seed: int) -> None:
    whole = told(seed, None)
    part = told(seed, {"events.usage": {"5m": frozenset({"a"}), "1h": None}})
    begun = min(end for _, end, _ in whole)
    later = {key: of for key, of in whole.items() if key in part}
    wanted: Figures = {}
    for (window, end, version), of in whole.items():
        names = {"5m": {"*", "a"}, "1h": {"*", "a", "b"}}.get(window, set())
        if kept := {name: figures for name, figures in of.items() if name in names}:
            wanted[window, end, version] = kept
    assert {key for key in wanted if key[0] == "5m"} and {key for key in wanted if key[0] == "1h"}
    for key, of in wanted.items():
        assert {name: part[key][name] for name in of} == of
    first = [key for key in part if key not in wanted]
    assert all(window in ("1d", "7d", "28d") for window, _, _ in first)
    assert all(part[key] == later[key] for key in first)
    more = {key for key in part.keys() & wanted.keys() if part[key].keys() != wanted[key].keys()}
    assert len(more) < len(wanted) / 4, "only the first batch tells everybody's"
    assert min(end for _, end, _ in part) == begun


@pytest.mark.parametrize("seed", range(3))
def test_what_was_on_time_is_the_same_where_nobody_asks_for_corrections(seed: int) -> None:
    asked: dict[str, Wanted] = {"events.usage": {"5m": None, "1h": None}}
    whole, part = told(seed, asked), told(seed, asked, ("events.performance",))
    assert {version for _, _, version in whole} == {0, 1}, "the rows are late enough to correct something"
    assert part == {key: of for key, of in whole.items() if key[2] == 0}

"""How long a foreign transaction holds rows back, and that it is named once; on a virtual clock."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka import TopicPartition

from tests.transport.test_life import Figures
from transport.hanging import HANGING_S, OpenTransactions
from transport.options import Options

HERE = TopicPartition("p.in", 2)


class Standing:
    """A source of which only this is asked."""

    def __init__(self) -> None:
        self.at: int | None = None

    def held(self, partition: TopicPartition) -> int | None:
        return self.at


def test_named_once_each_and_zero_when_it_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    figures, source = Figures(), Standing()
    options = Options(bootstrap="h:1", role="meter", data_dir=tmp_path, prefix="p.")
    watched = OpenTransactions("meter", [HERE], options, figures, cast(Any, source))
    seconds = figures.observed.setdefault(("uptake_open_transaction_seconds", "meter", "in", "2"), [])
    with caplog.at_level(logging.WARNING):
        watched.look(100.0)
        source.at = 7
        watched.look(101.0)
        watched.look(101.0 + HANGING_S - 1)
        assert not caplog.records
        watched.look(101.0 + HANGING_S)
        watched.look(101.0 + HANGING_S + 1)
        assert len(caplog.records) == 1 and "p.in/2" in caplog.text and "offset 7 on" in caplog.text
        source.at = 9  # that one ended, the next one is open
        watched.look(120.0)
        source.at = None
        watched.look(121.0)
    assert seconds == [0.0, 0.0, HANGING_S - 1, HANGING_S, HANGING_S + 1, 0.0, 0.0]
    assert len(caplog.records) == 1

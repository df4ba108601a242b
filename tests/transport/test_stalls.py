"""How long an open transaction has held readers back, and how far two clocks are surely apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.kit import counting_topics, until
from tests.transport.test_life import check_once, options, read, running
from transport.checkpoint import apart
from transport.stalls import Stalls

TP = TopicPartition("in", 0)


def test_one_and_the_same_transaction_is_timed_by_what_the_broker_said() -> None:
    stalls = Stalls()
    assert stalls.look(TP, 10, 10, 1_000) == 0
    assert stalls.look(TP, 10, 12, 2_000) == 0
    assert stalls.look(TP, 10, 40, 9_500) == 7.5
    assert stalls.look(TP, 10, 40, 9_500) == 7.5  # silence adds nothing
    assert stalls.look(TP, 11, 40, 9_600) == 0  # another transaction
    assert stalls.look(TP, 11, 40, 11_600) == 2
    assert stalls.look(TP, 40, 40, 11_700) == 0
    assert stalls.look(TP, 40, 41, 11_800) == 0


def test_a_broker_that_does_not_say_how_far_its_log_is_stable_tells_nothing() -> None:
    stalls = Stalls()
    assert [stalls.look(TP, stable, 5, at) for stable, at in ((None, 1), (-1, 9_000), (None, 99_000))] == [0, 0, 0]


def test_what_is_owned_no_more_is_named_once() -> None:
    stalls = Stalls()
    stalls.look(TP, 1, 5, 0)
    assert stalls.forget([TP]) == []
    assert stalls.forget([]) == [TP]
    assert stalls.forget([]) == []


@given(at=st.floats(0, 1e6), there=st.floats(0, 60), back=st.floats(0, 60), ahead=st.floats(-1e4, 1e4, allow_nan=False))
def test_what_is_said_of_clocks_is_certain(at: float, there: float, back: float, ahead: float) -> None:
    """`ahead` is the truth: what is told has its sign, is never more, and is short of it by the way there and back at most."""
    told = apart(at + ahead, at + there, at + there + back + ahead)
    if ahead >= 0:
        assert 0 <= told <= ahead + 1e-6 and told >= ahead - there - 1e-6
    else:
        assert 0 >= told >= ahead - 1e-6 and told <= ahead + back + 1e-6


@pytest.mark.kafka
async def test_a_hanging_transaction_of_a_producer_upstream_is_timed_and_ends(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    await counting_topics(kafka, prefix, 2)
    async with running(options(kafka, prefix, tmp_path)) as wires:
        upstream = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{prefix}upstream")
        await upstream.start()
        try:
            await upstream.begin_transaction()
            await upstream.send_and_wait(f"{prefix}in", b"row-0", key=b"k", partition=0)

            def held() -> set[tuple[str, int]]:
                return {(topic, partition) for _, topic, partition, s in wires._runs.stalled() if s > 1}

            await until(lambda: held() == {("in", 0)})
            assert read(wires) == 0
            await upstream.commit_transaction()
            await until(lambda: not held())
            await until(lambda: read(wires) == 2)  # the row, and the marker behind it
        finally:
            await upstream.stop()
    await check_once(kafka, prefix, [(0, b"row-0")])

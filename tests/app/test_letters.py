"""Sending dead letters again, on a real broker: to the same place, once, bounded, on record."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from hypothesis import given
from hypothesis import strategies as st

from app import topics
from app.forget import forget
from app.kafka import Record, producer, read
from app.letters import Order, Overtaken, Pace, Redriven, letters, redrive, redrives
from app.settings import Settings
from core.effects import DeadLetter
from core.letters import Filter
from tests.helpers.kafka import make_topic
from tests.helpers.settings import settings_for
from transport.checkpoint import letter_of
from transport.options import Options

NOW = 1_700_000_000_000


@pytest.fixture
async def settings(kafka: str, prefix: str, tmp_path: Path) -> Settings:
    made = settings_for(kafka, prefix, tmp_path)
    await topics.create(made)
    return made


def an_order(wanted: Filter | None = None, **changed: object) -> Order:
    return Order(**{"wanted": wanted or Filter(), "by": "ann", "rate": 10_000.0, **changed})  # type: ignore[arg-type]


def a_death(offset: int, topic: str = "events.usage", **changed: object) -> DeadLetter:
    values: dict[str, object] = {
        "topic": topic, "partition": 1, "offset": offset, "step": "meter", "reason": "invalid", "detail": "no user",
        "key": b"acme|u%d" % offset, "value": b"\xff%d" % offset, "at": NOW + offset, "headers": [("own", b"x")],
    }  # fmt: skip
    return DeadLetter(**{**values, **changed})  # type: ignore[arg-type]


async def die(settings: Settings, *deaths: DeadLetter) -> None:
    """Set rows aside, as a checkpoint does."""
    assert settings.kafka is not None
    options = Options(settings.kafka, "meter", settings.data_dir, settings.topic_prefix)
    async with producer(settings) as made:
        for dead in deaths:
            record = letter_of(dead, options)
            await made.send_and_wait(record.topic, record.value, key=record.key, headers=list(record.headers))


async def origin(settings: Settings, topic: str = "events.usage") -> list[Record]:
    return sorted([r async for r in read(settings, [topic])], key=lambda r: (r.partition, r.offset))


async def run(settings: Settings, order: Order) -> Redriven:
    return await redrive(settings, order, lambda: NOW)


@pytest.mark.kafka
async def test_rows_come_back_to_where_they_stood_and_who_did_it_is_on_record(settings: Settings) -> None:
    await die(settings, *(a_death(n) for n in range(5)), a_death(9, key=None, partition=0))
    dry = await run(settings, an_order(dry=True))
    assert (dry.matched, dry.redriven) == (6, 6) and await origin(settings) == []
    made = await run(settings, an_order())
    assert (made.matched, made.redriven, made.left, dict(made.refused)) == (6, 6, 0, {})
    rows = await origin(settings)
    assert [(r.partition, r.key, r.value) for r in rows if r.partition == 0] == [
        (0, None, b"\xff9"),
    ]  # fmt: skip
    assert {(r.key, r.value) for r in rows if r.partition == 1} == {(b"acme|u%d" % n, b"\xff%d" % n) for n in range(5)}
    assert len(rows) == 6
    assert all(list(r.headers) == [("own", b"x"), ("uptake-replays", b"1")] for r in rows)
    told = [r async for r in redrives(settings)]
    assert len(told) == 6 and {(r.by, r.run, r.at, r.replays) for r in told} == {("ann", made.run, NOW, 1)}
    assert {(r.topic, r.partition, r.offset) for r in told} == {(d.topic, d.partition, d.offset) for d in
            [*(a_death(n) for n in range(5)), a_death(9, partition=0)]}  # fmt: skip
    assert {r.tenant async for r in redrives(settings, "acme")} == {"acme"}
    assert [r async for r in redrives(settings, "other")] == []


@pytest.mark.kafka
async def test_a_letter_is_sent_once_and_a_record_not_more_often_than_allowed(settings: Settings) -> None:
    await die(settings, a_death(1))
    sent = 0
    for _ in range(6):
        made = await run(settings, an_order(most_replays=2))
        sent += made.redriven
        if made.redriven:  # the cause is not repaired: it dies again, with the headers that it came back with
            row = (await origin(settings))[-1]
            await die(settings, a_death(row.offset, headers=list(row.headers), key=row.key, value=row.value))
    assert sent == 2 and len(await origin(settings)) == 2
    assert dict(made.refused) == {"redriven_before": 2, "most_replays": 1}
    assert (await run(settings, an_order(most_replays=3))).redriven == 1


@pytest.mark.kafka
async def test_only_what_is_asked_for_and_only_what_makes_sense(settings: Settings) -> None:
    await die(
        settings,
        a_death(1),
        a_death(2, reason="not_json"),
        a_death(3, topic="signals", step="decide.signals"),
        a_death(4, topic="tables.adoption", step="project"),
        a_death(5, step="transport", reason="corrupt_batch"),
        a_death(6, topic="nowhere"),
        a_death(7, topic="dead-letters"),
        a_death(8, partition=77),
        a_death(11, key=None, value=None),
        a_death(10, key=b"other|u"),
    )
    assert (await run(settings, an_order(Filter(tenant="other")))).redriven == 1
    assert (await run(settings, an_order(Filter(reason="not_json")))).redriven == 1
    assert (await run(settings, an_order(Filter(step="decide.signals", topic="signals")))).redriven == 1
    assert (await run(settings, an_order(Filter(since=NOW + 2, until=NOW + 4)))).matched == 2
    rest = await run(settings, an_order())
    assert (rest.matched, rest.redriven) == (10, 1)
    assert dict(rest.refused) == {
        "redriven_before": 3, "compacted": 1, "no_row": 2, "unknown_topic": 2, "unknown_partition": 1,
    }  # fmt: skip
    assert [r.value for r in await origin(settings, "signals")] == [b"\xff3"]
    assert [r.value for r in await origin(settings, "tables.adoption")] == []
    assert sorted(r.value or b"" for r in await origin(settings)) == [b"\xff1", b"\xff10", b"\xff2"]


@pytest.mark.kafka
async def test_a_source_topic_of_others_carries_no_prefix(settings: Settings, prefix: str) -> None:
    foreign = f"{prefix}theirs"
    await die(settings, a_death(1, topic=foreign, step="ingest", partition=0))
    await make_topic(settings, foreign)
    assert dict((await run(settings, an_order())).refused) == {"unknown_topic": 1}
    assert (await run(settings, an_order(sources=frozenset({foreign})))).redriven == 1


@pytest.mark.kafka
async def test_limit_and_going_on(settings: Settings) -> None:
    await die(settings, *(a_death(n) for n in range(40)))
    first = await run(settings, an_order(limit=15))
    assert (first.redriven, first.left) == (15, 25)
    second = await run(settings, an_order(rate=500.0))
    assert (second.redriven, second.refused["redriven_before"]) == (25, 15)
    assert len(await origin(settings)) == 40


@given(st.floats(0.5, 1e4), st.lists(st.tuples(st.floats(0, 3), st.integers(1, 200)), min_size=1, max_size=30))
def test_the_pace_is_never_faster_than_the_rate(rate: float, asked: list[tuple[float, int]]) -> None:
    pace, now, began, gone = Pace(rate), 1e6, None, 0
    for idle, letters_ in asked:
        now += idle
        now += pace.wait(now, letters_)
        began = now if began is None else began
        assert gone <= rate * (now - began) * (1 + 1e-6) + 1e-3
        gone += letters_


@pytest.mark.kafka
async def test_a_second_redrive_ends_the_first_and_nothing_is_sent_twice(settings: Settings) -> None:
    await die(settings, *(a_death(n) for n in range(30)))
    second: list[Redriven] = []

    async def meanwhile() -> None:
        second.append(await run(settings, an_order()))

    started: list[asyncio.Task[None]] = []

    def told(made: Redriven) -> None:
        if not started:
            started.append(asyncio.create_task(meanwhile()))

    with pytest.raises(Overtaken, match="one at a time"):
        await redrive(settings, an_order(rate=5.0), lambda: NOW, told)
    await asyncio.gather(*started)
    values = [r.value for r in await origin(settings)]
    assert len(values) == len(set(values)) == 30
    assert second[0].redriven < 30 and second[0].refused["redriven_before"] == 30 - second[0].redriven
    assert len([r async for r in redrives(settings)]) == 30


@pytest.mark.kafka
async def test_a_redrive_that_was_cut_off_in_a_transaction_sent_nothing_of_it(settings: Settings) -> None:
    await die(settings, *(a_death(n) for n in range(3)))
    assert settings.kafka is not None
    killed = AIOKafkaProducer(
        bootstrap_servers=settings.kafka, transactional_id=f"{settings.topic_prefix}redrive", acks="all"
    )
    await killed.start()
    await killed.begin_transaction()
    await (await killed.send(settings.topic("events.usage"), b"half", partition=1))
    try:
        made = await run(settings, an_order())
        assert made.redriven == 3
        assert sorted(r.value or b"" for r in await origin(settings)) == [b"\xff0", b"\xff1", b"\xff2"]
    finally:
        await killed.stop()


@pytest.mark.kafka
async def test_letters_end_where_the_topic_ended(settings: Settings) -> None:
    """A redrive whose rows die again at once does not chase its own tail."""
    await die(settings, *(a_death(n) for n in range(3)))
    seen = 0
    async for letter in letters(settings, Filter()):
        seen += 1
        await die(settings, a_death(100 + letter.origin_offset))
    assert seen == 3


@pytest.mark.kafka
async def test_letters_about_whom_to_forget_are_neither_shown_nor_sent_again(settings: Settings) -> None:
    named = a_death(7, key=None, value=b'{"tenant": "acme", "user": "u1"}')
    await die(settings, *(a_death(n) for n in range(3)), named, a_death(8, key=b"other|u1"))
    await forget(settings, "acme", "user:u1", by="ann", now=NOW)
    assert sorted([one.origin_offset async for one in letters(settings, Filter())]) == [0, 2, 8]
    made = await run(settings, an_order())
    assert (made.matched, made.redriven, dict(made.refused)) == (3, 3, {})
    assert {r.value for r in await origin(settings)} == {b"\xff0", b"\xff2", b"\xff8"}

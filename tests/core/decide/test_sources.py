"""DECIDE waits for every source of clocks, the other events topics among them, and reads state of before it knew them."""

from __future__ import annotations

import msgspec

from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import DeadLetter, Emit
from core.workflows.task import RunsTask
from schemas.definitions import CommandTemplate, OnInactivity, Rule
from schemas.registers import HOT, OTHERS, SOURCES, Clock, RegisterRecord, Registers, Signal, encode
from tests.helpers.words import a_batch

T0 = 1_767_225_600_000


def catalogue() -> Catalogue:
    made = Catalogue()
    trigger = OnInactivity(topic="events.commerce", after_s=60)
    command = CommandTemplate(type="product.note.write", title="t", text="x")
    made.put(Rule(tenant="acme", name="r", id="r", trigger=trigger, command=command))
    return made


def word(source: str, clock: int, replay: bool = False) -> Registers:
    return Registers(
        source=source,
        partition=0,
        tenant="acme",
        product="shop",
        names=[],
        columns=[],
        patches=[],
        clock=clock,
        act=True,
        replay=replay,
    )


def clock(source: str, at: int, replaying: bool = False) -> Clock:
    return Clock(source=source, partition=0, at=at, replaying=replaying)


def told(task: RegistersTask, *records: RegisterRecord, broker: int = T0) -> list[int]:
    """Event times that `signals` hear of."""
    effects = list(task.step(a_batch("meter.registers", [encode(r) for r in records], at=broker)))
    assert not [e for e in effects if isinstance(e, DeadLetter)]
    found = [e for e in effects if isinstance(e, Emit) and e.topic == "signals"]
    return [msgspec.json.decode(e.value or b"", type=Signal).at for e in found]


def test_event_time_waits_for_the_other_topics() -> None:
    task = RegistersTask(0, 1, catalogue(), sources=SOURCES)
    hot = [word(HOT[0], T0 + 60_000), clock(HOT[1], T0 + 60_000)]
    assert told(task, *hot) == []
    assert told(task, clock(OTHERS, T0 + 30_000)) == [T0 + 30_000]
    assert told(task, word(OTHERS, T0 + 50_000)) == [T0 + 50_000]


def test_a_product_that_only_the_other_topics_know_has_an_event_time() -> None:
    task = RegistersTask(0, 1, catalogue(), sources=SOURCES)
    clocks = [clock(source, T0 + 60_000) for source in SOURCES]
    assert told(task, word(OTHERS, T0), *clocks) == [T0, T0 + 60_000]


def test_state_of_before_is_read_and_the_new_source_is_waited_for() -> None:
    known = catalogue()
    before = RegistersTask(0, 1, known)
    assert told(before, word(HOT[0], T0, True), word(HOT[1], T0, True)) == [T0]
    runs = RunsTask(0, 1, known)
    runs.step(a_batch("meter.registers", [encode(clock(HOT[0], T0))], at=T0))
    task, later = RegistersTask(0, 1, known, sources=SOURCES), RunsTask(0, 1, known, SOURCES)
    for one, rows in ((task, before.drain()), (later, runs.drain())):
        for key, value in rows:
            one.load(key, value)
        one.loaded()
    assert told(task, *(clock(source, T0 + 90_000) for source in HOT)) == [T0], "what was heard before, again"
    assert told(task, clock(OTHERS, T0 + 80_000)) == [T0 + 80_000]


def test_a_replay_that_leaves_the_other_topics_alone_needs_no_markers_there() -> None:
    now = T0 + 86_400_000
    task = RegistersTask(0, 1, catalogue(), sources=SOURCES)
    told(task, clock(OTHERS, now - 2_000), broker=now)
    hot = [word(source, T0 + 60_000, True) for source in HOT]
    assert told(task, *hot, broker=now) == [], "a replay may be on its way there too"
    assert told(task, clock(OTHERS, now + 100), broker=now + 2_100) == [T0 + 60_000]


def test_a_replay_of_the_other_topics_holds_event_time_back() -> None:
    now = T0 + 86_400_000
    task = RegistersTask(0, 1, catalogue(), sources=SOURCES)
    told(task, *(clock(source, now - 2_000) for source in SOURCES), broker=now)
    assert told(task, word(OTHERS, T0, True), broker=now) == []
    hot = [clock(source, now + 5_000) for source in HOT]
    assert told(task, *(word(s, T0 + 60_000, True) for s in HOT), *hot, broker=now) == [T0]
    assert told(task, word(OTHERS, T0 + 50_000, True), broker=now) == [T0 + 50_000]
    assert told(task, word(OTHERS, now - 1_000, True), clock(OTHERS, now + 6_000), broker=now) == [
        now - 5_000,
        now + 5_000,
    ]

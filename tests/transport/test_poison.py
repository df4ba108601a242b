"""Rows on which a task raises: found on intact state only, set aside alone; the rest passes, once and in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kafka import Record
from app.kafka import read as read_records
from core.batch import Batch
from core.effects import DeadLetter, Effect
from core.task import Task
from tests.helpers.settings import settings_for
from tests.transport.counting import CountingTask, spec
from tests.transport.kit import counting_topics, produce, read_all, state_of, until
from tests.transport.test_life import Figures, options, ready, running
from transport.blocks import Block
from transport.intake import Intake
from transport.options import Options
from transport.poison import Hunt, place

OPTIONS = Options(bootstrap="nowhere:1", role="r", data_dir=Path())


class Broken(Exception):
    """What the planted defect raises."""


class Keyless:
    def key(self, row: int) -> bytes | None:
        return None


@dataclass
class World:
    """A runner without Kafka: lives, checkpoints at chosen moments, blocks cut at chosen places."""

    offsets: list[int]
    poison: set[int]
    blocks: list[int]
    """Rows of a block, in turn."""
    commits: list[bool]
    """Whether a checkpoint follows a piece, in turn."""
    hunt: Hunt = field(default_factory=Hunt)
    folded: list[int] = field(default_factory=list)
    """Committed."""
    dead: list[tuple[int, str]] = field(default_factory=list)
    position: int = 0
    lives: int = 0
    aside: list[tuple[int, int]] = field(default_factory=list)
    pieces: int = 0

    def run(self) -> None:
        while not self._live():
            self.lives += 1
            assert self.lives < 200 + 60 * len(self.offsets)

    def _live(self) -> bool:
        """Work until the end (True) or until the task raises."""
        state, intake = list(self.folded), Intake(0, OPTIONS, {"t": self.position})
        intake.sought({"t": 1})
        left = [o for o in self.offsets if o >= self.position]
        while left:
            size = self.blocks[self.lives % len(self.blocks)]
            rows, left = left[:size], left[size:]
            following = left[0] if left else self.offsets[-1] + 1
            array = np.array(rows, dtype=np.int64)
            values: list[bytes | None] = [b"%d" % o for o in rows]
            given = Block("t", 0, intake.expected["t"], following, 1, 10**6, values, array, array, Keyless())
            assert intake.accept(given)
            while (block := intake.block) is not None:
                stop, doing = self.hunt.cut("t", block.offsets, intake.row)
                if doing == "survey":
                    if not self._survey(block, intake.row):
                        return False
                    raise AssertionError("a survey ends a life")
                if doing == "work":
                    batch = intake.cut(stop)
                    if not self._step(state, batch):
                        return False
                    intake.finish(batch, ())
                else:
                    intake.set_aside(stop, "r", doing, "")
                if self._commits():
                    self._commit(state, intake)
        self._commit(state, intake)
        return True

    def _step(self, state: list[int], batch: Batch) -> bool:
        for offset in batch.offsets.tolist():
            state.append(offset)  # the state is touched before it raises
            if offset in self.poison:
                case = self.hunt.raised("t", batch.offsets, f"on {offset}")
                if case is not None:
                    self._aside(case)
                return False
        return True

    def _survey(self, block: Block, row: int) -> bool:
        case = self.hunt.surveyed("t", int(block.offsets[row]))
        assert case is not None
        for offset in case.untried(block.offsets[row:]):
            case.tried[offset] = offset not in self.poison
            if not case.tried[offset]:
                return False
        if self.hunt.over(case):
            self._aside(case)
        return False

    def _aside(self, case: Any) -> None:
        self.hunt.set_aside("t", case)
        self.aside.append((case.begin, case.end))

    def _commits(self) -> bool:
        self.pieces += 1
        return self.commits[self.pieces % len(self.commits)]

    def _commit(self, state: list[int], intake: Intake) -> None:
        self.folded, self.position = list(state), intake.next["t"]
        for effect in intake.take().effects:
            assert isinstance(effect, DeadLetter)
            self.dead.append((effect.offset, effect.reason))
        self.hunt.forget({"t": self.position})


@st.composite
def worlds(draw: st.DrawFn, density: float) -> World:
    count = draw(st.integers(1, 150))
    holes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=7))
    offsets = np.cumsum([holes[i % len(holes)] for i in range(count)]).tolist()
    chance = draw(st.floats(0, density))
    poison = set(draw(st.lists(st.sampled_from(offsets), max_size=int(chance * count), unique=True)))
    blocks = draw(st.lists(st.integers(1, 300), min_size=1, max_size=4))
    return World(offsets, poison, blocks, draw(st.lists(st.booleans(), min_size=1, max_size=5)))


@settings(deadline=None, max_examples=60)
@given(worlds(0.3))
def test_good_rows_pass_once_in_order_and_bad_ones_are_set_aside(world: World) -> None:
    world.run()
    assert sorted([*world.folded, *(offset for offset, _ in world.dead)]) == world.offsets
    assert world.folded == sorted(set(world.folded) - world.poison)
    condemned = {offset for offset, why in world.dead if why == "condemned"}
    assert condemned <= world.poison
    if not world.aside:
        assert condemned == world.poison
        assert world.lives <= 12 * len(world.poison) + 26 * (len(world.poison) // 8 + 1)
    assert not world.hunt


@settings(deadline=None, max_examples=60)
@given(worlds(1.0))
def test_only_the_rest_of_a_poisonous_batch_is_set_aside_with_it(world: World) -> None:
    world.run()
    lost = [offset for offset, why in world.dead if why == "aside"]
    assert all(any(begin <= offset < end for begin, end in world.aside) for offset in lost)
    assert sorted([*world.folded, *(offset for offset, _ in world.dead)]) == world.offsets
    assert not set(world.folded) & world.poison


def test_a_bug_that_hits_every_row_costs_few_recoveries() -> None:
    offsets = list(range(20_000))
    world = World(offsets, set(offsets), [20_000], [False])
    world.run()
    assert world.folded == [] and len(world.dead) == 20_000 and world.lives < 60


def test_rows_beside_a_run_of_bad_ones_pass() -> None:
    """The first rows met are all bad, the batch is not."""
    offsets = list(range(5_000))
    world = World(offsets, set(range(40)), [5_000], [True])
    world.run()
    assert world.folded == offsets[40:] and world.aside == []


def test_the_place_names_no_content() -> None:
    try:
        int("secret")
    except ValueError as error:
        said = place(error)
    assert said.startswith("ValueError in transport/test_poison.py:") and "secret" not in said


# --- on Kafka -----------------------------------------------------------------------------------------------------------


class Choking(CountingTask):
    """A defect: some rows make the step raise, with the state already half-changed."""

    def step(self, batch: Batch) -> Iterable[Effect]:
        effects = super().step(batch)
        if any(value and value.startswith(b"poison") for value in batch.values):
            raise Broken("planted")
        return effects


async def letters(kafka: str, prefix: str, path: Path) -> list[Record]:
    settings = settings_for(kafka, prefix, path)
    return sorted(
        [r async for r in read_records(settings, ["dead-letters"])], key=lambda r: dict(r.headers)["uptake-offset"]
    )


async def check(kafka: str, prefix: str, good: list[bytes]) -> None:
    assert Counter((await read_all(kafka, f"{prefix}out", 2))[0]) == Counter(good)
    assert await state_of(kafka, f"{prefix}state.counter", 0) == {v: b"%d" % n for v, n in Counter(good).items()}


@pytest.mark.kafka
async def test_a_poisonous_row_is_set_aside_and_its_neighbours_pass(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, 2)
    figures = Figures()
    bad = {700, 2_100, 2_101}
    rows = [b"poison-%d" % n if n in bad else b"row-%d" % (n % 50) for n in range(3_000)]
    async with running(options(kafka, prefix, tmp_path), spec(make=Choking), figures) as wires:
        await until(lambda: ready(wires))
        await produce(kafka, f"{prefix}in", [(0, value) for value in rows])
        await until(lambda: wires.status()[0].positions.get("in") == 3_000 and ready(wires))
        await produce(kafka, f"{prefix}in", [(0, b"after"), (1, b"beside")])
        await until(lambda: wires.status()[0].positions.get("in") == 3_001)
        assert not wires.status()[0].error
    await check(kafka, prefix, [*(v for v in rows if not v.startswith(b"poison")), b"after"])
    found = await letters(kafka, prefix, tmp_path)
    assert sorted(r.value or b"" for r in found) == [b"poison-2100", b"poison-2101", b"poison-700"]
    for record in found:
        told = dict(record.headers)
        assert (told["uptake-reason"], told["uptake-step"], record.key) == (b"poison", b"counter", b"k")
        assert told["uptake-offset"] in (b"700", b"2100", b"2101")
        assert told["uptake-detail"].startswith(b"Broken in transport/test_poison.py:")
    assert figures.counts["uptake_dead_letters_total", "counter", "poison"] == 3
    assert figures.counts["uptake_poison_total", "counter", "in", "set_aside"] == 0


@pytest.mark.kafka
@pytest.mark.parametrize("chosen", ["set_aside", "stop"])
async def test_a_batch_more_than_half_poisonous(kafka: str, prefix: str, tmp_path: Path, chosen: Any) -> None:
    await counting_topics(kafka, prefix, 2)
    figures = Figures()
    rows = [b"good-%d" % n if n < 10 or n % 4 == 0 else b"poison-%d" % n for n in range(400)]
    producer = AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=1_000, max_batch_size=1 << 20)
    given_options = options(kafka, prefix, tmp_path, on_poison=chosen)
    async with running(given_options, spec(make=Choking), figures) as wires:
        await until(lambda: ready(wires))
        await producer.start()
        sent = [await producer.send(f"{prefix}in", value, key=b"k", partition=0) for value in rows]
        await producer.flush()
        assert all(s.done() for s in sent)
        if chosen == "stop":
            await until(lambda: wires.status()[0].state == "stuck")
            assert "UPTAKE_ON_POISON=set_aside" in wires.status()[0].error
            assert wires.status()[1].state == "ready"
        else:
            await producer.send_and_wait(f"{prefix}in", b"after", key=b"k", partition=0)
            await until(lambda: wires.status()[0].positions.get("in") == 401)
    await producer.stop()
    outcome = "stopped" if chosen == "stop" else "set_aside"
    assert figures.counts["uptake_poison_total", "counter", "in", outcome] == 1
    if chosen == "stop":
        return
    found = await letters(kafka, prefix, tmp_path)
    reasons = Counter(dict(r.headers)["uptake-reason"] for r in found)
    assert reasons[b"poison"] == 8 and set(reasons) == {b"poison", b"poisoned_batch"}
    gone = {r.value for r in found}
    assert {v for v in rows if v.startswith(b"poison")} <= gone
    await check(kafka, prefix, [*(v for v in rows if v not in gone), b"after"])
    assert len(gone) < 400 and {v for v in rows[:10]}.isdisjoint(gone)


@pytest.mark.kafka
async def test_a_task_that_raised_once_condemns_nobody(kafka: str, prefix: str, tmp_path: Path) -> None:
    """A fault that passes is no row's: the batch comes again and passes."""
    await counting_topics(kafka, prefix, 2)
    faults = {"left": 1}

    class Once(CountingTask):
        def step(self, batch: Batch) -> Iterable[Effect]:
            effects = super().step(batch)
            if faults["left"]:
                faults["left"] -= 1
                raise Broken("planted")
            return effects

    rows = [b"row-%d" % n for n in range(100)]
    async with running(options(kafka, prefix, tmp_path), spec(make=Once)) as wires:
        await until(lambda: ready(wires))
        await produce(kafka, f"{prefix}in", [(0, value) for value in rows])
        await until(lambda: wires.status()[0].positions.get("in") == 100)
        assert faults["left"] == 0
        tasks: list[Task] = wires.live(spec())
        assert len(tasks) == 2
    await check(kafka, prefix, rows)
    assert await letters(kafka, prefix, tmp_path) == []

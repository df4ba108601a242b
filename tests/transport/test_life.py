"""One process on a real broker: recovery, exactly once, what fails, what is lost, what is idle."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError

from core.batch import Batch
from core.effects import Count, DeadLetter, Effect, Emit, Observe
from core.task import Task, TaskSpec
from schemas.delivery import CHECKPOINT_HEADER
from tests.transport.counting import CountingTask, build, spec
from tests.transport.kit import counting_topics, create, produce, read_all, state_of, until
from transport.app import make_app
from transport.checkpoint import Checkpoint, Committer, Fenced
from transport.options import Options
from transport.state import POSITIONS, Positions, StateReader, decode_positions, read_checkpoint
from transport.wires import KafkaWires

pytestmark = pytest.mark.kafka
FAST: dict[str, Any] = {"partitions": 2, "checkpoint_interval_ms": 50}


class Figures:
    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.observed: dict[tuple[str, ...], list[float]] = {}

    def count(self, name: str, n: float = 1, labels: Sequence[str] = ()) -> None:
        self.counts[name, *labels] += int(n)

    def observe(self, name: str, value: float, labels: Sequence[str] = ()) -> None:
        self.observed.setdefault((name, *labels), []).append(value)


def options(kafka: str, prefix: str, path: Path, **more: Any) -> Options:
    return Options(bootstrap=kafka, role="counter", prefix=prefix, data_dir=path, **{**FAST, **more})


@asynccontextmanager
async def running(given: Options, made: TaskSpec | None = None, metrics: Any = None) -> AsyncIterator[KafkaWires]:
    app, wires = build(given, made, metrics)
    await app.start()
    try:
        yield wires
    finally:
        await app.stop()


def read(wires: KafkaWires, topic: str = "in") -> int:
    return sum(status.positions.get(topic, 0) for status in wires.status() if status.state == "ready")


def ready(wires: KafkaWires, count: int = 2) -> bool:
    return [status.state for status in wires.status()] == ["ready"] * count


def numbered(count: int, begin: int = 0) -> list[tuple[int, bytes]]:
    return [(n % 2, b"row-%d" % n) for n in range(begin, begin + count)]


async def _some(consumer: AIOKafkaConsumer, count: int) -> AsyncIterator[Any]:
    for _ in range(count):
        yield await consumer.getone()


async def all_of_state(kafka: str, topic: str) -> AsyncIterator[tuple[bytes, bytes | None]]:
    async with StateReader(kafka, topic, 0) as reader:
        async for record in reader.records():
            yield record


async def check_once(kafka: str, prefix: str, rows: list[tuple[int, bytes]], partitions: int = 2) -> None:
    """State is the fold of the log, and every row came out once."""
    out = await read_all(kafka, f"{prefix}out", partitions)
    for partition in range(partitions):
        mine = Counter(value for at, value in rows if at == partition)
        assert Counter(out[partition]) == mine
        state = await state_of(kafka, f"{prefix}state.counter", partition)
        assert state == {value: str(times).encode() for value, times in mine.items()}


async def test_goes_on_where_the_checkpoint_stands(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, 2)
    rows = numbered(3_000)
    await produce(kafka, f"{prefix}in", rows, compression_type="lz4")
    async with running(options(kafka, prefix, tmp_path)) as wires:
        await until(lambda: read(wires) == 3_000)
    await check_once(kafka, prefix, rows)
    more = numbered(2_000, 2_500)  # 500 of them are repeated values
    await produce(kafka, f"{prefix}in", more, compression_type="gzip")
    async with running(options(kafka, prefix, tmp_path, framing="records")) as wires:
        await until(lambda: read(wires) == 5_000)
        (task, _) = wires.live(spec())
        assert isinstance(task, CountingTask) and task.loads == 1_500 and task.rows == 1_000
    await check_once(kafka, prefix, rows + more)


async def test_transactions_upstream(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Markers at the end of the log, aborted rows, and an open transaction that holds the end back."""
    await counting_topics(kafka, prefix, 2)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{prefix}up", compression_type="zstd")
    await producer.start()
    try:
        kept: list[tuple[int, bytes]] = []
        for turn in range(6):
            await producer.begin_transaction()
            for partition, value in numbered(20, turn * 20):
                await producer.send(f"{prefix}in", value, partition=partition)
            if turn % 3 == 2:
                await producer.abort_transaction()
            else:
                await producer.commit_transaction()
                kept += numbered(20, turn * 20)
        async with running(options(kafka, prefix, tmp_path)) as wires:
            await until(lambda: read(wires) == 2 * 66)  # 60 rows and 6 markers a partition
            await until(lambda: [status.lag for status in wires.status()] == [{"in": 0}] * 2)
            tasks = [task for task in wires.live(spec()) if isinstance(task, CountingTask)]
            await until(lambda: all(task.ticks and task.ticks[-1][1] == [("in", task.partition)] for task in tasks))
            await producer.begin_transaction()
            await (await producer.send(f"{prefix}in", b"late", partition=0))
            await until(lambda: tasks[0].ticks[-1][1] == [])
            assert tasks[1].ticks[-1][1] == [("in", 1)]
            await producer.commit_transaction()
            await until(lambda: read(wires) == 2 * 66 + 2)
    finally:
        await producer.stop()
    await check_once(kafka, prefix, [*kept, (0, b"late")])


async def test_an_agent_that_fails_loses_the_task_not_the_batch(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, 2)
    failures = {"left": 2}

    class Failing(CountingTask):
        def step(self, batch: Batch) -> Iterable[Effect]:
            effects = super().step(batch)  # the state is already touched
            if batch.partition == 0 and failures["left"]:
                failures["left"] -= 1
                raise RuntimeError("planted")
            return effects

    rows = numbered(200)
    async with running(options(kafka, prefix, tmp_path), spec(make=Failing)) as wires:
        await until(lambda: ready(wires))
        await produce(kafka, f"{prefix}in", rows)
        await until(lambda: read(wires) == 200)
        assert failures["left"] == 0 and ready(wires)
    await check_once(kafka, prefix, rows)


async def test_a_new_owner_fences_the_old_one(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, 2)
    given, made = options(kafka, prefix, tmp_path), spec()
    zombie, owner = Committer(given, made, 0), Committer(given, made, 0)
    await zombie.start()
    place = Positions(partitions=2, next={"in": 0}, at=0)
    await zombie.commit(Checkpoint([(b"a", b"1")], [Emit("out", b"k", b"first", 0)], place, {}))
    producer = zombie._producer
    await producer.begin_transaction()
    await (await producer.send(f"{prefix}out", b"never seen", partition=0))
    await owner.start()
    await owner.commit(Checkpoint([(b"a", b"2")], [Emit("out", b"k", b"second", 0)], place, {}))
    with pytest.raises(KafkaError):
        await producer.commit_transaction()
    late = Committer(given, made, 0)
    await late.start()
    with pytest.raises(Fenced):
        await owner.commit(Checkpoint([(b"a", b"3")], [Emit("out", b"k", b"zombie", 0)], place, {}))
    for one in (zombie, owner, late):
        await one.close()
    assert (await read_all(kafka, f"{prefix}out", 2))[0] == [b"first", b"second"]
    assert await state_of(kafka, f"{prefix}state.counter", 0) == {b"a": b"2"}


async def test_a_fenced_runner_recovers(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Somebody else commits for our partition: what we held is thrown away, and we go on from what he wrote."""
    await counting_topics(kafka, prefix, 2)
    figures = Figures()
    given = options(kafka, prefix, tmp_path)
    rows = numbered(100)
    await produce(kafka, f"{prefix}in", rows)
    async with running(given, metrics=figures) as wires:
        await until(lambda: read(wires) == 100 and all(s.checkpoint_age_s is not None for s in wires.status()))
        other = Committer(given, spec(), 0)
        await other.start()
        await other.commit(Checkpoint([(b"theirs", b"7")], [], Positions(partitions=2, next={"in": 50}, at=0), {}))
        await other.close()
        await produce(kafka, f"{prefix}in", [(0, b"more")])
        await until(lambda: figures.counts["uptake_checkpoints_total", "counter", "fenced"] == 1)
        await until(lambda: ready(wires) and read(wires) == 101)
    state = await state_of(kafka, f"{prefix}state.counter", 0)
    assert state.pop(b"theirs") == b"7" and state.pop(b"more") == b"1" and len(state) == 50
    assert Counter((await read_all(kafka, f"{prefix}out", 2))[0])[b"more"] == 1


async def test_a_log_that_lost_rows_is_an_alarm_not_a_jump(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, 2)
    figures = Figures()
    await produce(kafka, f"{prefix}in", numbered(100))
    async with running(options(kafka, prefix, tmp_path)) as wires:
        await until(lambda: read(wires) == 100)
    await produce(kafka, f"{prefix}in", numbered(100))
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_records({TopicPartition(f"{prefix}in", 1): RecordsToDelete(before_offset=70)})
    await admin.close()
    async with running(options(kafka, prefix, tmp_path), metrics=figures) as wires:
        await until(lambda: {s.partition: s.state for s in wires.status()} == {0: "ready", 1: "stuck"})
        await until(lambda: read(wires) == 100)
        error = wires.status()[1].error
        assert "rows 50 to 69 are lost" in error and "uptake reset" in error
        assert figures.counts["uptake_log_range_lost_total", "counter", "in"] == 20


async def test_another_partition_count_is_refused(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, 2)
    given = options(kafka, prefix, tmp_path)
    before = Committer(given, spec(), 0)
    await before.start()
    await before.commit(Checkpoint([(b"a", b"1")], [], Positions(partitions=3, next={"in": 0}, at=0), {}))
    await before.close()
    async with running(given) as wires:
        await until(lambda: {s.partition: s.state for s in wires.status()} == {0: "stuck", 1: "ready"})
        assert "3 partitions" in wires.status()[0].error and "uptake topics resize" in wires.status()[0].error


async def test_a_state_of_a_newer_version_is_refused_and_left_as_it_is(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Also where its rows cannot even be read: what is said is which version to run."""
    await counting_topics(kafka, prefix, 2)
    given = options(kafka, prefix, tmp_path)
    for partition, newer in ((0, {"state": 2}), (1, {"format": 2})):
        before = Committer(given, spec(), partition)
        await before.start()
        place = Positions(partitions=2, next={"in": 0}, at=0, number=9, **newer)
        await before.commit(Checkpoint([(b"a", b"not a number")], [], place, {}))
        await before.close()
    await produce(kafka, f"{prefix}in", numbered(10))
    async with running(given) as wires:
        await until(lambda: {s.partition: s.state for s in wires.status()} == {0: "stuck", 1: "stuck"})
        rows, positions = (status.error for status in wires.status())
    assert "rows of format 2, this version reads 1: run the version that wrote it" in rows
    assert "format 2, this version reads 1: run the version that wrote it" in positions
    for partition in range(2):
        assert await state_of(kafka, f"{prefix}state.counter", partition) == {b"a": b"not a number"}
    assert await read_all(kafka, f"{prefix}out", 2) == [[], []]


async def test_outputs_carry_the_number_of_their_checkpoint(kafka: str, prefix: str, tmp_path: Path) -> None:
    """It counts on over owners, and is what the state beside them says."""
    await counting_topics(kafka, prefix, 2)
    numbers: list[int] = []
    for turn in range(2):
        await produce(kafka, f"{prefix}in", [(0, b"row-%d" % turn)])
        async with running(options(kafka, prefix, tmp_path)) as wires:
            await until(lambda turn=turn: read(wires) == turn + 1)  # type: ignore[misc]
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka, isolation_level="read_committed")
        await consumer.start()
        try:
            out = TopicPartition(f"{prefix}out", 0)
            consumer.assign([out])
            await consumer.seek_to_beginning(out)
            headers = [dict(record.headers) async for record in _some(consumer, turn + 1)]
        finally:
            await consumer.stop()
        task, number = read_checkpoint(headers[-1][CHECKPOINT_HEADER])
        assert task == "counter|counting|0"
        numbers.append(number)
        records = [r async for r in all_of_state(kafka, f"{prefix}state.counter")]
        assert (
            max(decode_positions(value).number for key, value in records if value and key.startswith(POSITIONS))
            >= number
        )
    assert 0 < numbers[0] < numbers[1]


async def test_effects(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Emits by key, dead letters with the original bytes, figures once committed."""
    await counting_topics(kafka, prefix, 2)
    figures = Figures()

    class Sorting(CountingTask):
        def step(self, batch: Batch) -> Iterable[Effect]:
            for row, value in enumerate(batch.values):
                yield Count("rows", 1, ("seen",))
                yield Observe("size", len(value or b""))
                if value and value.startswith(b"bad"):
                    yield DeadLetter(
                        batch.topic, batch.partition, int(batch.offsets[row]), "sort", "bad", "starts with bad",
                        batch.rows.key(row), value, int(batch.timestamps[row]), batch.headed.get(row, ()),
                    )  # fmt: skip
                else:
                    yield Emit("out", b"some-key", value, None, (("h", b"1"),))

    async with running(options(kafka, prefix, tmp_path), spec(make=Sorting), figures) as wires:
        producer = AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        await producer.send_and_wait(f"{prefix}in", b"good", key=b"k0", partition=0)
        await producer.send_and_wait(
            f"{prefix}in", b"bad \xff", key=b"k1", partition=1, headers=[("own", b"x"), ("uptake-replays", b"2")]
        )
        await producer.stop()
        await until(lambda: figures.counts["rows", "seen"] == 2)
        assert read(wires) == 2
    assert figures.counts["uptake_dead_letters_total", "sort", "bad"] == 1 and sorted(figures.observed["size",]) == [
        4,
        5,
    ]
    consumer = AIOKafkaConsumer(f"{prefix}dead-letters", bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    letter = await consumer.getone()
    await consumer.stop()
    assert (letter.key, letter.value) == (b"k1", b"bad \xff")
    headers = dict(letter.headers)
    assert read_checkpoint(headers.pop(CHECKPOINT_HEADER))[0] == "counter|counting|1"
    assert headers.pop("uptake-at").isdigit() and headers == {
        "uptake-step": b"sort", "uptake-reason": b"bad", "uptake-detail": b"starts with bad", "uptake-topic": b"in",
        "uptake-partition": b"1", "uptake-offset": b"0", "uptake-group": f"{prefix}counter".encode(),
        "uptake-replays": b"2", "own": b"x",
    }  # fmt: skip
    # murmur2 as in every Kafka client in Java, so that one partition owns a key everywhere
    assert [len(values) for values in await read_all(kafka, f"{prefix}out", 2)] == [1, 0]


async def test_state_outside_kafka(kafka: str, prefix: str, tmp_path: Path) -> None:
    """No state topic: starts at the given positions, makes no transactions, commits offsets for lag tools."""
    await counting_topics(kafka, prefix, 2)
    stored = {0: {"in": 10}, 1: {"in": 0}}

    async def positions(partition: int) -> Mapping[str, int]:
        return stored[partition]

    made = TaskSpec("counter", "outside", ("in",), lambda n: CountingTask(n, quiet=True), None, positions)
    given = options(kafka, prefix, tmp_path)
    await produce(kafka, f"{prefix}in", numbered(100))
    app = make_app(given, Figures())
    wires = KafkaWires(app, given, Figures())

    @app.agent(wires.channel(app, made), name="outside")
    async def outside(stream: Any) -> None:
        task: Task
        async for task, batch in wires.batches(stream):
            effects = task.step(batch)
            await asyncio.sleep(0.01)  # writes rows and positions somewhere
            stored[batch.partition] = {batch.topic: batch.next_offset}
            wires.perform(task, batch, effects)
            wires.hold(task, [Emit("out", None, b"wrote", batch.partition)])

    await app.start()
    await until(lambda: read(wires) == 100)
    tasks = [task for task in wires.live(made) if isinstance(task, CountingTask)]
    assert [task.rows for task in tasks] == [40, 50]
    await app.stop()
    assert stored == {0: {"in": 50}, 1: {"in": 50}}
    assert all(values and set(values) == {b"wrote"} for values in await read_all(kafka, f"{prefix}out", 2))
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    offsets = await admin.list_consumer_group_offsets(f"{prefix}counter")
    await admin.close()
    assert sorted(place.offset for place in offsets.values()) == [50, 50]


async def test_a_topic_that_is_made_later_is_found(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, 2)
    await produce(kafka, f"{prefix}in", numbered(10))
    made = spec(("in", "in.later"))
    async with running(options(kafka, prefix, tmp_path), made) as wires:
        await until(lambda: any("uptake topics create" in status.error for status in wires.status()))
        await create(kafka, {f"{prefix}in.later": 2})
        await produce(kafka, f"{prefix}in.later", numbered(10, 10))
        await until(lambda: read(wires) + read(wires, "in.later") == 20)
    await check_once(kafka, prefix, numbered(20))


async def test_a_worker_may_start_before_its_topics(kafka: str, prefix: str, tmp_path: Path) -> None:
    async with running(options(kafka, prefix, tmp_path)) as wires:
        await asyncio.sleep(1.5)
        assert wires.status() == []
        await counting_topics(kafka, prefix, 2)
        await until(lambda: ready(wires), 20)
        await produce(kafka, f"{prefix}in", numbered(10))
        await until(lambda: read(wires) == 10)
    await check_once(kafka, prefix, numbered(10))


async def test_two_topics_move_together_and_tick_without_rows(kafka: str, prefix: str, tmp_path: Path) -> None:
    await counting_topics(kafka, prefix, 2)
    await create(kafka, {f"{prefix}in.two": 2})
    made = spec(("in", "in.two"))
    async with running(options(kafka, prefix, tmp_path), made) as wires:
        await until(lambda: ready(wires))
        tasks = [task for task in wires.live(made) if isinstance(task, CountingTask)]
        await until(lambda: all(len(task.ticks) > 1 for task in tasks))
        expected = [[("in", n), ("in.two", n)] for n in (0, 1)]
        await until(lambda: [list(task.ticks[-1][1]) for task in tasks] == expected)
        await produce(kafka, f"{prefix}in", numbered(10))
        await produce(kafka, f"{prefix}in.two", numbered(10, 10))
        await until(lambda: read(wires) + read(wires, "in.two") == 20)
    await check_once(kafka, prefix, numbered(20))

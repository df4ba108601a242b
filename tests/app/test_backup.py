"""Backup and restore on a real Kafka: increments, the cut, what is refused, what is damaged; a folder and an S3 server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from app.backup import manifest as manifests
from app.backup.check import prune, verify
from app.backup.model import ModelNotEmpty
from app.backup.place import Place, PlaceError
from app.backup.refill import Moved
from app.backup.restore import NotEmpty, restore
from app.backup.run import backup
from app.definitions import load, publish
from app.kafka import consumer, producer, settle
from app.main import make_options
from app.probes import targets
from app.settings import Settings
from app.store import Writer
from app.topics import create
from core.effects import Emit
from core.task import TaskSpec
from schemas.definitions import Product, Source
from tests.helpers.kafka import delete_topics, fresh_prefix, make_topic
from tests.helpers.settings import settings_for
from tests.helpers.shown import all_shown, rows_in
from transport.checkpoint import Checkpoint, Committer
from transport.state import POSITIONS, Positions, decode_positions

kafka_test = pytest.mark.kafka
NOW = 10**15


def _spec(role: str, group: str, state: str, *topics: str) -> TaskSpec:
    def make(partition: int) -> Any:
        raise AssertionError("nobody runs here")

    return TaskSpec(role, group, topics, make, state)


METER = _spec("meter", "events", "state.meter", "events.usage", "events.performance")
DECIDE = _spec("decide", "registers", "state.decide.registers", "meter.registers")


async def commit(
    settings: Settings, spec: TaskSpec, number: int, place: dict[str, int], out: list[Emit], state: dict[bytes, bytes]
) -> None:
    """One checkpoint of partition 0 of a role."""
    committer = Committer(make_options(settings, spec.role), spec, 0)  # type: ignore[arg-type]
    await committer.start()
    try:
        positions = Positions(partitions=2, next=place, at=1, number=number)
        await committer.commit(Checkpoint(list(state.items()), out, positions, {}))
    finally:
        await committer.close()
    await all_shown(settings)


async def events(settings: Settings, *values: bytes) -> None:
    async with producer(settings) as made:
        for value in values:
            await made.send_and_wait(
                settings.topic("events.usage"), value, key=b"k", partition=0, headers=[("h", b"1")]
            )


@pytest.fixture
def elsewhere(kafka: str) -> Iterator[str]:
    name = fresh_prefix("restored")
    yield name
    delete_topics(kafka, name)


async def system(settings: Settings) -> None:
    """METER has read two of three events and told DECIDE, who has read one of two registers."""
    await create(settings)
    await publish(settings, [Product(name="editor")])
    await events(settings, b"one", b"two", b"three")
    out = [Emit("meter.registers", b"k", f"r{n}".encode(), 0) for n in (1, 2)]
    await commit(settings, METER, 7, {"events.usage": 2, "events.performance": 0}, out, {b"delta|1": b"d1"})
    await commit(settings, DECIDE, 3, {"meter.registers": 1}, [Emit("commands.product", b"k", b"c1", 0)], {b"x": b"1"})


@kafka_test
async def test_what_was_backed_up_comes_back_with_positions_that_fit(
    kafka: str, prefix: str, elsewhere: str, tmp_path: Path
) -> None:
    settings, place = settings_for(kafka, prefix, tmp_path / "a"), Place(str(tmp_path / "backups"))
    await system(settings)
    writer = Writer(settings.store_url)
    row = {"id": "x", "tenant": "t", "product": "p", "subject": "s", "kind": "k", "at": 1, "act": True}
    row |= {"recorded_at": 1, "body": "{}"}
    await writer.write({"detections": [row]}, role="project", topic="commands.product", partition=0, next_offset=2)
    await writer.close()
    made = await backup(settings, place)
    before = await rows_in(settings, "events.usage")

    target = settings_for(kafka, elsewhere, tmp_path / "b")
    found = await restore(target, place, made.manifest)
    after = await rows_in(target, "events.usage")
    assert [(r.partition, r.timestamp, r.key, r.value, r.headers) for r in after] == [
        (r.partition, r.timestamp, r.key, r.value, r.headers) for r in before
    ]
    assert [definition.name for definition in (await load(target)).heads()] == ["editor"]
    state = {r.key: r.value for r in await rows_in(target, "state.meter")}
    assert state[b"delta|1"] == b"d1"
    positions = decode_positions(state[POSITIONS + b"events"] or b"")
    assert (positions.next, positions.number) == ({"events.usage": 2, "events.performance": 0}, 7)
    # a transaction's marker takes an offset in the old log; in the new one there is none
    reader = Writer(target.store_url)
    assert await reader.positions("project", 0) == {"commands.product": 1}
    await reader.close()
    assert (found.waiting, found.dropped, found.overtaken, found.model_rows) == (2, 0, 0, 2)
    async with consumer(target) as told:
        ends = await told.end_offsets([TopicPartition(target.topic("commands.product"), 0)])
    assert list(ends.values()) == [1]


@kafka_test
async def test_what_was_written_behind_the_cut_is_left_out(
    kafka: str, prefix: str, elsewhere: str, tmp_path: Path
) -> None:
    """States are copied before logs: between the two, METER has gone on by a checkpoint."""
    settings, place = settings_for(kafka, prefix, tmp_path / "a"), Place(str(tmp_path / "backups"))
    await system(settings)
    first = (await backup(settings, place)).manifest
    behind = [Emit("meter.registers", b"k", b"r3", 0), Emit("signals", b"k", b"s1", 0)]
    # somebody copies a record with its headers into another topic: that one is nobody's to make again
    behind.append(Emit("events.market", b"k", b"copied", 0))
    await commit(settings, METER, 8, {"events.usage": 3, "events.performance": 0}, behind, {b"delta|2": b"d2"})
    second = (await backup(settings, place)).manifest
    torn = second.model_copy(update={"states": first.states})

    target = settings_for(kafka, elsewhere, tmp_path / "b")
    found = await restore(target, place, torn)
    assert [r.value for r in await rows_in(target, "meter.registers")] == [b"r1", b"r2"]
    assert await rows_in(target, "signals") == []
    assert [r.value for r in await rows_in(target, "events.market")] == [b"copied"]
    assert b"delta|2" not in {r.key for r in await rows_in(target, "state.meter")}
    assert (found.dropped, found.overtaken) == (2, 0)

    # a reader who has seen what its writer's state does not know is told of
    stand = first.tasks["decide|registers|0"].model_copy(update={"next": {"meter.registers": 99}})
    state = first.states["state.decide.registers"]
    ahead = state.model_copy(update={"tasks": {"decide|registers|0": stand}})
    looped = torn.model_copy(update={"states": {**first.states, "state.decide.registers": ahead}})
    other = settings_for(kafka, f"{elsewhere}loop.", tmp_path / "c")
    assert (await restore(other, place, looped)).overtaken == 1


@kafka_test
async def test_a_source_of_others_is_backed_up_from_where_it_was_not_read(
    kafka: str, prefix: str, elsewhere: str, tmp_path: Path
) -> None:
    settings, place = settings_for(kafka, prefix, tmp_path / "a"), Place(str(tmp_path / "backups"))
    await create(settings)
    theirs = f"{prefix}theirs"  # a full name: the prefix is there so that the fixture deletes it
    await make_topic(settings, theirs)
    await publish(settings, [Source(name="s", topic=theirs, target="events.usage", fields={"user": "u"})])
    async with producer(settings) as made:
        for value in (b"1", b"2", b"3"):
            await made.send_and_wait(theirs, value)
    ingest = _spec("meter", f"sources.{theirs}", "state.ingest", theirs)
    await commit(settings, ingest, 1, {theirs: 1}, [Emit("events.usage", b"k", b"one", 0)], {})
    manifest = (await backup(settings, place)).manifest
    assert manifest.sources[theirs].rows == 2

    # where the topic still stands, it is left alone, and so is the position in it
    target = settings_for(kafka, elsewhere, tmp_path / "b")
    await restore(target, place, manifest)
    assert await _position(target, theirs) == 1
    delete_topics(kafka, theirs)
    other = settings_for(kafka, f"{elsewhere}other.", tmp_path / "c")
    await restore(other, place, manifest)
    assert await _position(other, theirs) == 0
    assert [r.value for r in await rows_in(other, "events.usage")] == [b"one"]
    unprefixed = other.model_copy(update={"topic_prefix": ""})
    assert [r.value for r in await rows_in(unprefixed, theirs)] == [b"2", b"3"]


async def _position(settings: Settings, topic: str) -> int:
    state = {r.key: r.value for r in await rows_in(settings, "state.ingest")}
    return decode_positions(state[POSITIONS + f"sources.{topic}".encode()] or b"").next[topic]


@kafka_test
async def test_increments_hold_only_what_is_new_and_a_topic_made_anew_is_copied_anew(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    settings, place = settings_for(kafka, prefix, tmp_path / "a"), Place(str(tmp_path / "backups"))
    await system(settings)
    full = await backup(settings, place)
    again = await backup(settings, place)
    assert again.new_rows == 0 and again.manifest.written == 0 and again.manifest.parent == full.manifest.id
    assert again.manifest.tasks == full.manifest.tasks
    await events(settings, b"four")
    more = await backup(settings, place)
    assert more.new_rows == 1 and more.manifest.topics["events.usage"].rows == 4
    assert len(more.manifest.topics["events.usage"].segments) == 2
    assert more.manifest.topics["definitions"] == full.manifest.topics["definitions"]

    delete_topics(kafka, settings.topic("events.usage"), gone=True)
    await create(settings)
    await events(settings, b"new 1", b"new 2", b"new 3", b"new 4", b"new 5")
    anew = await backup(settings, place)
    assert anew.manifest.topics["events.usage"].rows == 5
    assert anew.manifest.topics["meter.registers"] == full.manifest.topics["meter.registers"]
    assert len(await manifests.ids(place)) == 4


@kafka_test
async def test_a_restore_makes_the_next_backup_a_full_one(
    kafka: str, prefix: str, elsewhere: str, tmp_path: Path
) -> None:
    settings, place = settings_for(kafka, prefix, tmp_path / "a"), Place(str(tmp_path / "backups"))
    await create(settings)
    made = await backup(settings, place)
    await restore(settings_for(kafka, elsewhere, tmp_path / "b"), place, made.manifest)
    assert (await backup(settings, place)).manifest.parent is None


@kafka_test
async def test_refusals_name_the_next_move(kafka: str, prefix: str, elsewhere: str, tmp_path: Path) -> None:
    settings, place = settings_for(kafka, prefix, tmp_path / "a"), Place(str(tmp_path / "backups"))
    await create(settings)
    await events(settings, b"one")
    made = (await backup(settings, place)).manifest
    with pytest.raises(NotEmpty, match=r"events\.usage.*uptake reset --everything"):
        await restore(settings, place, made)
    with pytest.raises(NotEmpty, match="UPTAKE_PARTITIONS=2"):
        await restore(settings_for(kafka, elsewhere, tmp_path / "b", partitions=3), place, made)
    with pytest.raises(NotEmpty, match="version 99"):
        await restore(
            settings_for(kafka, elsewhere, tmp_path / "b"), place, made.model_copy(update={"model_version": 99})
        )
    target = settings_for(kafka, elsewhere, tmp_path / "b")
    writer = Writer(target.store_url)
    await writer.write({}, role="project", topic="sink", partition=0, next_offset=2)
    await writer.close()
    with pytest.raises(ModelNotEmpty, match="positions"):
        await restore(target, place, made)
    with pytest.raises(PlaceError, match="another place"):
        await backup(settings_for(kafka, elsewhere, tmp_path / "a"), place)


@kafka_test
async def test_only_a_finished_backup_is_one_and_damage_is_found(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings, folder = settings_for(kafka, prefix, tmp_path / "a"), tmp_path / "backups"
    place = Place(str(folder))
    await create(settings)
    await events(settings, b"one")
    with pytest.raises(PlaceError, match="uptake backup --to"):
        await manifests.load(place)
    first = (await backup(settings, place)).manifest
    assert await verify(place, first) == sum(file.size for file in first.files)
    # what an interrupted backup leaves is files without a manifest
    await place.put("segments/events.usage/interrupted-000000.parquet", b"half")
    assert await manifests.ids(place) == [first.id]
    second = (await backup(settings, place, full=True)).manifest
    assert await prune(place, 1, NOW) == (1, 2)
    assert await manifests.ids(place) == [second.id] and await verify(place, second)

    file = folder / second.topics["events.usage"].segments[0].name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(PlaceError, match=r"damaged.*uptake backup ls"):
        await verify(place, second)
    file.unlink()
    with pytest.raises(PlaceError, match="cannot read"):
        await verify(place, second)


@kafka_test
async def test_the_commands_back_up_on_a_schedule_and_restore(
    kafka: str, prefix: str, elsewhere: str, tmp_path: Path
) -> None:
    settings, url = settings_for(kafka, prefix, tmp_path / "a"), str(tmp_path / "backups")
    await system(settings)
    process = uptake(settings, "backup", "--to", url, "--every", "1s", "--keep", "2")
    try:
        found: dict[str, tuple[str, str]] = {}

        def twice() -> bool:
            found.update(targets(settings.run_dir / "targets"))
            assert process.poll() is None
            return bool(found) and 'uptake_backups_total{outcome="whole"} 3.0' in _metrics(found["backup-0"][1])

        assert await settle(twice, within_s=60)
        assert "uptake_backup_last_seconds 1." in _metrics(found["backup-0"][1])
        assert len(await manifests.ids(Place(url))) == 2
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0
    target = settings_for(kafka, elsewhere, tmp_path / "b")
    refused = uptake(settings, "restore", "--from", url, "--yes")
    assert refused.wait(120) == 1
    assert uptake(target, "restore", "--from", url, "--yes").wait(120) == 0
    assert [r.value for r in await rows_in(target, "events.usage")] == [b"one", b"two", b"three"]


def uptake(settings: Settings, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "app.cli", *arguments], env={**os.environ, **settings.environment()})


def _metrics(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


async def test_a_manifest_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    await place.put("manifests/20300101T000000.000Z.json", b'{"format": 2, "something": "else"}')
    with pytest.raises(PlaceError, match="has format 2, this version reads 1"):
        await manifests.load(place)


@given(
    st.lists(st.tuples(st.integers(0, 200), st.booleans()), unique_by=lambda row: row[0], max_size=60),
    st.lists(st.integers(0, 210), min_size=1, max_size=5),
    st.integers(1, 60),
)
def test_a_new_offset_is_the_count_of_rows_before_the_old_one(
    log: list[tuple[int, bool]], wanted: list[int], cut: int
) -> None:
    """However the rows are split into files, and whatever holes their offsets have."""
    import numpy as np

    log.sort()
    moved = Moved([(0, offset) for offset in wanted])
    for start in range(0, len(log), cut):
        part = log[start : start + cut]
        kept = np.array([offset for offset, keep in part if keep], np.int64)
        dropped = np.array([offset for offset, keep in part if not keep], np.int64)
        moved.see(0, kept, dropped)
    for offset in wanted:
        assert moved.to(0, offset) == sum(keep for at, keep in log if at < offset)
    assert moved.overtaken == sum(not keep for at, keep in log if at < max(wanted))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server on loopback with one bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=settings["AWS_ENDPOINT_URL"], region_name="us-east-1").create_bucket(
        Bucket="uptake"
    )
    yield "s3://uptake/backups"
    server.stop()


@kafka_test
async def test_an_object_store_by_url(s3: str, kafka: str, prefix: str, elsewhere: str, tmp_path: Path) -> None:
    settings, place = settings_for(kafka, prefix, tmp_path / "a"), Place(s3)
    await system(settings)
    await backup(settings, place)
    await events(settings, b"four")
    made = (await backup(settings, place)).manifest
    assert await verify(place, made) and made.parent is not None
    target = settings_for(kafka, elsewhere, tmp_path / "b")
    await restore(target, place, await manifests.load(place))
    assert [r.value for r in await rows_in(target, "events.usage")] == [b"one", b"two", b"three", b"four"]
    with pytest.raises(PlaceError, match="is there already"):
        await place.put(f"manifests/{made.id}.json", b"{}")

"""State that an earlier version wrote goes on as if nothing had happened; what a later one wrote is refused."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from app.definitions import FORMAT_HEADER, Definitions, DefinitionsNewer, load, publish
from app.kafka import producer
from app.store import StoreError, open_store
from app.store.tables import SCHEMA_VERSION
from app.topics import create
from schemas.definitions import Product
from tests.fixtures.state.record import HERE, record, rest, version
from tests.fixtures.state.story import Roles, batches
from tests.helpers.settings import settings_for
from transport.state import POSITIONS, decode_positions

VERSIONS = sorted(path.name for path in HERE.iterdir() if (path / "rest.parquet").exists())


def test_this_version_has_its_fixture() -> None:
    assert version() in VERSIONS


@pytest.mark.parametrize("name", VERSIONS)
def test_every_role_goes_on_from_a_recorded_state(name: str) -> None:
    folder = HERE / name
    roles = Roles()
    states = {}
    for topic, spec in roles.specs.items():
        records = list(pl.read_parquet(folder / f"{topic}.parquet").iter_rows())
        [positions] = [decode_positions(value) for key, value in records if key.startswith(POSITIONS)]
        assert positions.state <= spec.state_format and positions.next.keys() == set(spec.topics)
        states[topic] = [(key, value) for key, value in records if not key.startswith(POSITIONS)]
    roles.load(states)
    kept = json.loads((folder / "offsets.json").read_text())
    roles.next, roles.attempts = Counter(kept["next"]), Counter(kept["attempts"])
    for part in batches(rest(folder)):
        roles.feed(part)
    expected = pl.read_parquet(folder / "expected.parquet").rows()
    assert len(expected) > 1_000
    assert {topic.partition(".")[0] for topic, _, _ in expected} >= {"tables", "detections", "commands", "receipts"}
    assert _by_topic(roles.public) == _by_topic(expected)


def test_the_recorded_state_has_every_kind_of_record_in_it() -> None:
    folder = HERE / version()

    def kinds(topic: str) -> set[bytes]:
        keys = pl.read_parquet(folder / f"{topic}.parquet")["key"].to_list()
        return {key.split(b"|")[0] for key in keys}

    assert {b"delta", b"base"} <= kinds("state.meter")
    registers = pl.read_parquet(folder / "state.decide.registers.parquet")["key"].to_list()
    assert any(key.startswith(b'["series"') for key in registers)
    assert {b"ledger", b"counters"} <= kinds("state.dispatch")
    assert {b"row", b"counters"} <= kinds("state.deliver")
    assert any(key.endswith(b"|end") for key in pl.read_parquet(folder / "state.meter.parquet")["key"].to_list())


def test_the_fixture_is_what_this_version_records(tmp_path: Path) -> None:
    """A change of what is written shows here: record the unreleased version's fixture anew, or raise the format."""
    record(tmp_path)
    here, now = (pl.read_parquet(folder / "expected.parquet") for folder in (HERE / version(), tmp_path))
    assert _by_topic(now.rows()) == _by_topic(here.rows())


@pytest.mark.kafka
async def test_definitions_of_a_newer_version_are_refused(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = settings_for(kafka, prefix, tmp_path)
    await create(settings)
    await publish(settings, [Product(name="editor")])
    assert len(list((await load(settings)).heads())) == 1
    async with producer(settings) as made:
        headers = [(FORMAT_HEADER, b"2")]
        await made.send_and_wait(settings.topic("definitions"), b"{}", key=b"all|gadget|x", headers=headers)
    following = Definitions(settings)
    with pytest.raises(DefinitionsNewer, match="format 2, this version reads 1: run the version that wrote them"):
        await following.start()
    await following.stop()
    # nothing is written on top of what cannot be read
    with pytest.raises(DefinitionsNewer):
        await publish(settings, [Product(name="other")])


async def test_a_read_model_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.db"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        made.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION + 1),))
    newer = f"version {SCHEMA_VERSION + 1}, this Uptake writes {SCHEMA_VERSION}: run the version that made it"
    with pytest.raises(StoreError, match=newer):
        await open_store(f"sqlite:///{path}")
    with sqlite3.connect(path) as found:
        assert found.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("meta",)]


def _by_topic(records: list[tuple[str, bytes, bytes]]) -> dict[str, list[tuple[bytes, object]]]:
    found: dict[str, list[tuple[bytes, object]]] = {}
    for topic, key, value in records:
        found.setdefault(topic, []).append((key, json.loads(value)))
    return found

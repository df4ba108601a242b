"""`send`: every row once, however often it runs or is stopped."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from app import topics
from app.kafka import read
from app.send import BadFile, FileRows, Mapping, SendOptions, send
from app.send.files import PERFORMANCE, USAGE, when
from app.settings import Settings
from tests.helpers.settings import settings_for

START = 1_760_000_000_000


def usage(n: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"e{n}",
        "tenant": "acme",
        "product": "studio",
        "type": "feature.used",
        "feature": "board",
        "user": f"u{n % 7}",
        "occurred_at": START + n * 1000,
        **more,
    }


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_bytes(b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows))
    return path


@pytest.fixture
async def settings(kafka: str, prefix: str, tmp_path: Path) -> Settings:
    made = settings_for(kafka, prefix, tmp_path)
    await topics.create(made)
    return made


async def written(settings: Settings, *names: str) -> list[tuple[str, int, bytes | None, Any]]:
    found = []
    async for record in read(settings, names or (USAGE, PERFORMANCE)):
        try:
            value = json.loads(record.value or b"null")
        except ValueError:
            value = record.value
        found.append((record.topic, record.partition, record.key, value))
    return sorted(found, key=lambda row: row[:2])


def rows_of(found: list[tuple[str, int, bytes | None, Any]]) -> list[Any]:
    return [v for _, _, _, v in found if not (isinstance(v, dict) and str(v.get("type")).startswith("uptake."))]


@pytest.mark.kafka
async def test_each_row_goes_to_its_topic_under_its_key_between_markers(settings: Settings, tmp_path: Path) -> None:
    request = {
        "id": "r1",
        "tenant": "acme",
        "product": "studio",
        "type": "request.completed",
        "service": "checkout",
        "latency_ms": 12.5,
        "occurred_at": "2025-10-09T10:00:00.250Z",
    }
    file = lines(tmp_path / "f.jsonl", [usage(0), request, usage(1), b"not json", usage(2)])
    sent = await send(settings, FileRows(file, Mapping()), SendOptions(act=True))
    assert (sent.rows, sent.new, sent.unreadable) == (5, 5, 1)

    found = await written(settings)
    keys = {(t, k): v for t, _, k, v in found if k is not None}
    assert keys[PERFORMANCE, b"acme|checkout"] == request
    assert keys[USAGE, b"acme|u1"] == usage(1)
    assert b"not json" in [v for _, _, _, v in found]
    for topic in (USAGE, PERFORMANCE):
        for partition in range(2):
            here = [v for t, p, _, v in found if (t, p) == (topic, partition)]
            kinds = [v["type"].rpartition(".")[2] for v in here if isinstance(v, dict) and "replay" in v]
            assert kinds[0] == "begun" and kinds[-2:] == ["progressed", "ended"]
            assert here[0]["at"] == START and here[0]["act"] is True
            assert here[-1]["at"] == max(START + 2000, 1_760_004_000_250)


def test_a_survey_names_every_product_and_the_earliest_time(tmp_path: Path) -> None:
    cloud = {"specversion": "1.0", "id": "c", "source": "/s", "type": "feature.used", "product": "cloud"}
    cloud |= {"time": "2025-01-01T00:00:00Z", "data": {"tenant": "acme", "user": "u", "feature": "f"}}
    bad = [b"not json", usage(1, tenant="No Tenant"), usage(2, product="timeless", occurred_at="noon"), [1]]
    file = lines(tmp_path / "f.jsonl", [usage(9), usage(3, product="other"), *bad, cloud])
    named = [("acme", "cloud"), ("acme", "other"), ("acme", "studio")]
    assert FileRows(file, Mapping()).survey() == (named, 1_735_689_600_000)
    assert FileRows(lines(tmp_path / "e.jsonl", [b"no"]), Mapping()).survey() == ([], None)
    csv = tmp_path / "f.csv"
    csv.write_text("who,when,what\na,2025-01-02,p\nb,2025-01-01,\nc,,q\n")
    rows = FileRows(
        csv, Mapping({"user": "who", "occurred_at": "when", "product": "what"}, {"tenant": "t", "product": "d"})
    )
    assert rows.survey() == ([("t", "d"), ("t", "p")], 1_735_689_600_000)


@pytest.mark.kafka
async def test_the_begun_marker_names_the_products_in_every_partition_of_both_topics(
    settings: Settings, tmp_path: Path
) -> None:
    file = lines(tmp_path / "f.jsonl", [usage(5), usage(0, product="other"), usage(1)])
    await send(settings, FileRows(file, Mapping(topic=USAGE)), SendOptions())
    begun = [(t, p, v) for t, p, _, v in await written(settings) if str(v.get("type")).endswith("begun")]
    assert [(t, p) for t, p, _ in begun] == [(t, p) for t in (PERFORMANCE, USAGE) for p in range(2)]
    for _, _, marker in begun:
        assert marker["products"] == [["acme", "other"], ["acme", "studio"]] and marker["at"] == START


@pytest.mark.kafka
async def test_a_second_send_writes_nothing_also_under_another_name(settings: Settings, tmp_path: Path) -> None:
    file = lines(tmp_path / "f.jsonl", [usage(n) for n in range(50)])
    await send(settings, FileRows(file, Mapping()), SendOptions())
    before = await written(settings)
    copy = tmp_path / "other.jsonl"
    copy.write_bytes(file.read_bytes())
    again = await send(settings, FileRows(copy, Mapping()), SendOptions())
    assert (again.rows, again.new) == (50, 0)
    assert await written(settings) == before


@pytest.mark.kafka
async def test_a_stopped_send_goes_on_without_loss_or_doubling(settings: Settings, tmp_path: Path) -> None:
    file = lines(tmp_path / "f.jsonl", [usage(n) for n in range(3000)])
    moved = asyncio.Event()
    paced = asyncio.create_task(
        send(settings, FileRows(file, Mapping()), SendOptions(rate=2000), lambda p: moved.set() if p.rows else None)
    )
    await asyncio.wait_for(moved.wait(), 60)
    paced.cancel()
    await asyncio.gather(paced, return_exceptions=True)
    half = len(rows_of(await written(settings)))
    assert 0 < half < 3000

    rest = await send(settings, FileRows(file, Mapping()), SendOptions())
    assert rest.rows == 3000 and rest.new < 3000
    ids = [r["id"] for r in rows_of(await written(settings))]
    assert sorted(ids) == sorted(f"e{n}" for n in range(3000))


@pytest.mark.kafka
async def test_columns_are_mapped_ordered_and_given_ids(settings: Settings, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "who": ["b", "a", "a"],
            "when": ["2025-01-03", "2025-01-01", "2025-01-02"],
            "what": ["x", "y", "x"],
            "n": [1, 2, 3],
        }
    )
    csv, parquet = tmp_path / "f.csv", tmp_path / "f.parquet"
    frame.write_csv(csv)
    frame.write_parquet(parquet)
    mapping = Mapping({"user": "who", "occurred_at": "when", "feature": "what"}, {"tenant": "acme", "product": "shop"})
    for file in (csv, parquet):
        rows = list(FileRows(file, mapping))
        assert [json.loads(r.value)["user"] for r in rows] == ["a", "a", "b"]
        assert [r.at for r in rows] == [1735689600000, 1735776000000, 1735862400000]
        first = json.loads(rows[0].value)
        assert first["properties"] == {"n": 2} and first["type"] == "feature.used" and rows[0].key == b"acme|a"
        assert first["id"].endswith(":2") and len({json.loads(r.value)["id"] for r in rows}) == 3
        assert [r.value for r in FileRows(file, mapping)] == [r.value for r in rows]
    await send(settings, FileRows(csv, mapping), SendOptions())
    assert len(rows_of(await written(settings))) == 3


def test_a_wrong_file_or_mapping_names_the_next_move(tmp_path: Path) -> None:
    csv = tmp_path / "f.csv"
    csv.write_text("who,when\na,2025-01-01\n")
    with pytest.raises(BadFile, match="no file"):
        FileRows(tmp_path / "none.jsonl", Mapping())
    with pytest.raises(BadFile, match="no column 'x'; it has who, when"):
        FileRows(csv, Mapping({"user": "x"}))
    with pytest.raises(BadFile, match="no field 'usr'"):
        FileRows(csv, Mapping({"usr": "who"}))
    with pytest.raises(BadFile, match="does not say tenant"):
        FileRows(csv, Mapping({"user": "who", "occurred_at": "when"}))
    other = tmp_path / "f.xlsx"
    other.write_text("")
    with pytest.raises(BadFile, match="send reads"):
        FileRows(other, Mapping())


def test_times_are_read_as_files_write_them() -> None:
    assert when("2025-10-09T10:00:00+02:00", "auto") == 1_759_996_800_000
    assert when("2025-10-09 08:00:00", "auto") == 1_759_996_800_000
    assert when("1759996800000", "auto") == 1_759_996_800_000
    assert when(1_759_996_800, "s") == 1_759_996_800_000
    with pytest.raises(ValueError):
        when("yesterday", "auto")

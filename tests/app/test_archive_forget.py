"""A forgotten person's rows leave the archive's files, and nothing else does."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from agents.rooms import Unavailable
from app.archive import Archived, Writer
from app.archive.files import unpack
from app.settings import Settings
from core.archive import Chunk
from core.definitions import Catalogue
from core.forgetting import Forgetting, digest
from schemas.definitions import DEFINITION, Definition, Forgotten, Segment, Silence, head_key
from schemas.registers import Clock, encode
from tests.helpers.words import a_command, a_receipt

SALT = "5a" * 32
WHO, BOB = "ann-who-wants-to-go", "bob"
DAY_S = 86_400


def asked(*subjects: str, tenant: str = "acme") -> Forgetting:
    catalogue = Catalogue()
    for subject in subjects:
        of: Any = subject.partition(":")[0]
        record = Forgotten(tenant=tenant, name=digest(SALT, tenant, subject), of=of, salt=SALT, asked_at=1)
        catalogue.put(record)
    return Forgetting(catalogue)


def event(n: int, user: str, tenant: str = "acme") -> tuple[bytes, bytes]:
    body = {"id": f"e{n}", "tenant": tenant, "product": "shop", "type": "feature.used", "user": user, "occurred_at": n}
    return f"{tenant}|{user}".encode(), json.dumps(body).encode()


def usage(first: int, *users: str, tenant: str = "acme") -> Chunk:
    chunk = Chunk("events.usage", 0)
    for n, user in enumerate(users, first):
        chunk.add(n, 1_000 + n, *event(n, user, tenant), [("ce-id", b"%d" % n)] if n % 2 else ())
    return chunk


def others() -> list[Chunk]:
    """One of every topic in which somebody may stand, by another key than an event's, by the JSON alone, and in what it carries."""
    signals, commands, receipts = Chunk("signals", 0), Chunk("commands.product", 0), Chunk("receipts", 0)
    contacts, clocks = Chunk("events.contacts", 0), Chunk("meter.registers", 0)
    for n, user in enumerate((WHO, BOB)):
        subject = f"user:{user}"
        by_hand = {"kind": "trigger", "tenant": "acme", "product": "shop", "subject": subject, "rule": "r", "at": 5}
        signals.add(n, n, None, json.dumps(by_hand).encode())
        commands.add(
            n, n, f"acme|{subject}".encode(), a_command(tenant="acme", subject=subject).model_dump_json().encode()
        )
        receipt = a_receipt(a_command(tenant="acme", subject=subject))
        receipts.add(n, n, None, receipt.model_dump_json().encode())
        carried = {"specversion": "1.0", "data": {"tenant": "acme", "user": user, "type": "contact.updated"}}
        contacts.add(n, n, b"acme|somewhere", json.dumps(carried).encode())
        clocks.add(n, n, None, encode(Clock(source="events.usage", partition=0, at=n, replaying=False)))
    return [signals, commands, receipts, contacts, clocks]


def definitions(*some: Definition) -> Chunk:
    chunk = Chunk("definitions", 0)
    for n, definition in enumerate(some):
        chunk.add(n, n, head_key(definition), definition.model_dump_json().encode())
    return chunk


def written(folder: Path, *chunks: Chunk, days: int = 400) -> Writer:
    writer = Writer(Settings(archive_url=str(folder), archive_days=days))
    asyncio.run(writer.write(0, chunks, {"events.usage": 1}))
    return writer


def forget(writer: Writer, *subjects: str, partition: int = 0) -> int:
    return asyncio.run(writer.forget(partition, asked(*subjects)))


def rows(folder: Path, topic: str) -> pl.DataFrame:
    return pl.concat(list(Archived.open(str(folder)).frames(topic, 0)))


def everything(folder: Path) -> str:
    """All files, unpacked, and what lies beside them."""
    found = ""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        found += repr(unpack(content).rows() if path.suffix == ".parquet" else content)
    return found


def test_rows_about_somebody_leave_every_topic_and_the_others_stay_as_they_are(tmp_path: Path) -> None:
    writer = written(tmp_path, usage(0, WHO, BOB, WHO, "cleo"), usage(4, BOB, WHO), *others())
    before = {topic: rows(tmp_path, topic) for topic in ("events.usage", "receipts", "meter.registers")}
    assert everything(tmp_path).count(WHO) > 8
    assert forget(writer, f"user:{WHO}") == 3 + 4
    assert WHO not in everything(tmp_path)
    assert rows(tmp_path, "events.usage").rows() == [
        r for r, keep in zip(before["events.usage"].rows(), (0, 1, 0, 1, 1, 0), strict=True) if keep
    ]
    assert rows(tmp_path, "receipts").rows() == before["receipts"].rows()[1:]
    assert rows(tmp_path, "meter.registers").rows() == before["meter.registers"].rows()
    for topic in ("signals", "commands.product", "events.contacts"):
        assert rows(tmp_path, topic)["offset"].to_list() == [1]


def test_another_tenant_another_kind_and_another_partition_keep_theirs(tmp_path: Path) -> None:
    writer = written(tmp_path, usage(0, WHO, tenant="beta"), usage(1, BOB))
    before = everything(tmp_path)
    assert forget(writer, f"user:{WHO}", f"contact:{BOB}") == 0
    assert everything(tmp_path).startswith(before[:200]) and rows(tmp_path, "events.usage")["offset"].to_list() == [
        0,
        1,
    ]
    assert forget(writer, f"user:{BOB}", partition=1) == 0
    assert rows(tmp_path, "events.usage")["offset"].to_list() == [0, 1]


def test_a_file_of_which_nothing_is_left_keeps_its_name_and_those_behind_it_are_read(tmp_path: Path) -> None:
    writer = written(tmp_path, usage(0, WHO, WHO), usage(2, BOB))
    names = {f.name for f in Archived.open(str(tmp_path)).files["events.usage", 0]}
    assert forget(writer, f"user:{WHO}") == 2
    assert {f.name for f in Archived.open(str(tmp_path)).files["events.usage", 0]} == names
    assert rows(tmp_path, "events.usage")["offset"].to_list() == [2]


def test_who_was_taken_out_is_not_looked_for_again_and_the_next_one_is(tmp_path: Path) -> None:
    writer = written(tmp_path, usage(0, WHO, BOB, "cleo"))
    assert forget(writer, f"user:{WHO}") == 1
    path = next(tmp_path.rglob("events.usage-*.parquet"))
    whole = path.read_bytes()
    path.write_bytes(b"nothing would read this now")
    later = Writer(Settings(archive_url=str(tmp_path)))  # another process: the place remembers
    assert forget(later, f"user:{WHO}") == 0
    path.write_bytes(whole)
    assert forget(later, f"user:{WHO}", f"user:{BOB}") == 1
    assert rows(tmp_path, "events.usage")["offset"].to_list() == [2]


def test_a_file_that_cannot_be_read_is_tried_again_until_it_can(tmp_path: Path) -> None:
    writer = written(tmp_path, usage(0, WHO, BOB), usage(2, WHO, BOB))
    path = sorted(tmp_path.rglob("events.usage-*.parquet"))[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(Unavailable, match="cannot be read"):
        forget(writer, f"user:{WHO}")
    path.write_bytes(whole)
    assert forget(writer, f"user:{WHO}") == 1  # the first file's went before
    assert WHO not in everything(tmp_path)


def test_a_file_is_deleted_by_the_age_of_its_first_writing(tmp_path: Path) -> None:
    writer = written(tmp_path, usage(0, WHO, BOB), usage(2, BOB), days=10)
    for path in tmp_path.rglob("events.usage-*.parquet"):
        age = 11 if "000-0" in path.name and WHO in repr(unpack(path.read_bytes()).rows()) else 9
        os.utime(path, (path.stat().st_mtime - age * DAY_S,) * 2)
    assert forget(writer, f"user:{WHO}") == 1
    assert asyncio.run(writer.prune()) == 1
    assert rows(tmp_path, "events.usage")["offset"].to_list() == [2]


def test_segments_and_silences_lose_the_name(tmp_path: Path) -> None:
    some = [
        Segment(tenant="acme", name="vips", product="shop", users=[WHO, BOB]),
        Segment(tenant="beta", name="vips", product="shop", users=[BOB]),
        Silence(tenant="acme", name="one", subjects=[f"user:{WHO}"], ends_at=1),
        Silence(tenant="acme", name="two", subjects=[f"user:{WHO}", f"user:{BOB}"], ends_at=1),
        Silence(tenant="acme", name="everybody", ends_at=1),
    ]
    writer = written(tmp_path, definitions(*some))
    assert forget(writer, f"user:{WHO}") == 1  # the silence of nobody but her
    assert WHO not in everything(tmp_path)
    left = [DEFINITION.validate_json(value) for value in rows(tmp_path, "definitions")["value"].to_list()]
    assert left == [
        some[0].model_copy(update={"users": [BOB]}),
        some[1],
        some[3].model_copy(update={"subjects": [f"user:{BOB}"]}),
        some[4],
    ]

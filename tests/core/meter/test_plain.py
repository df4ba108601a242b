"""Rows that the kernel reads are the rows that decoding gives: the same numbers, dead letters and signals, whatever the bytes are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.batch import Batch, Piece, Values
from core.definitions import Catalogue
from core.effects import DeadLetter
from core.meter import chunk, lexicon
from core.meter.read import Reader, Reading
from core.meter.source import Source
from core.meter.task import MeterTask
from tests.core.meter.logs import PERFORMANCE, T0, USAGE, Record, batch, request, usage
from tests.core.meter.test_parity import PERFORMANCE_FIELDS, USAGE_FIELDS
from tests.core.meter.test_signals import catalogue, equal, rule

MORE: dict[str, list[Any]] = {
    "feature": ["f1", "*", "f€", 'f"1', "f" * 129, "f" * 256],
    "user": ["u1", "u2", "ü", "u" * 128, "u" * 129, "u\\1"],
    "tenant": ["acme", "globex"],
    "id": ["e1", "e2", "e" * 64, "e" * 200, "é"],
    "occurred_at": [
        T0,
        T0 + 1,
        "2023-11-15T00:00:00.123456789Z",
        "2023-11-15t00:00:00z",
        1.7e12,
        T0 + 10**8,
        "2023-11-15 00:00:00Z",
    ],
    "latency_ms": [
        0,
        1.5,
        0.1 + 0.2,
        1e-7,
        123456789.12345678,
        1e9,
        1e9 + 1,
        12345678901234567,
        1e400,
        -0.0,
        100.10000000000001,
    ],
    "status": [200, 404, 500, 599, 600, 99, None, 2.5e2],
    "error": [None, False, True, "", "x", "é", 0],
    "attribution": ["organic", None, "campaign:é", "command:c1", "organic ", "campaigns:1", "", "command:", "x" * 200],
    "schema_version": ["1", 1, "2", None, 1.0, "", 11],
    "source": ["/here", None, ""],
    "specversion": ["1.0", None],
    "data": [None, {}, {"user": "u9"}],
    "time": [None, "2023-11-15T00:00:00Z"],
    "properties": [{"plan": "pro"}, {"plan": {"a": [1, {"b": None}]}}, {"é": "é"}, {'"': 1}, [1], None, {"n": 1e999}],
    "service": ["api", "", None, "web", 5],
    "extra": [1, -1.5e-3, "x", "é", "\n", None, True, [[]], {"a": {}}, [1, "x", {"b": [False]}]],
    "": [1],
    "a_key_of_sixteen": [1],
    "another_key_of_more_than_sixteen": [{}],
}


SPOILERS = [b"", b" ", b'"', b"\\", b"}", b",", b"\xff", b"9", b"\0", b"e"]


def written(topic: str) -> st.SearchStrategy[bytes]:
    """Events as producers write them, and as they should not."""
    fields = {k: [*v, *MORE.get(k, ())] for k, v in (USAGE_FIELDS if topic == USAGE else PERFORMANCE_FIELDS).items()}
    odd = {k: v for k, v in MORE.items() if k not in fields}
    usual = st.fixed_dictionaries(
        {k: st.one_of(*[st.just(v[0])] * 8, st.sampled_from(v), st.just(...)) for k, v in fields.items()},
        optional={k: st.sampled_from(v) for k, v in odd.items()} if odd else {},
    )

    @st.composite
    def made(draw: st.DrawFn) -> bytes:
        body = {k: v for k, v in draw(usual).items() if v is not ...}
        if draw(st.integers(0, 3)):
            for k in odd:
                body.pop(k, None)
        items = draw(st.permutations(list(body.items()))) if draw(st.booleans()) else list(body.items())
        if draw(st.integers(0, 9)) == 0 and items:
            items = [*items, draw(st.sampled_from(items))]
        comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), ("\n,", " :\t")]))
        parts = [json.dumps(k) + colon + json.dumps(v, ensure_ascii=draw(st.booleans())) for k, v in items]
        text = bytearray(("{" + comma.join(parts) + "}").encode())
        if draw(st.integers(0, 3)) == 0:
            for _ in range(draw(st.integers(1, 2))):
                at = draw(st.integers(0, len(text)))
                text[at : at + draw(st.integers(0, 3))] = draw(st.sampled_from(SPOILERS))
        return bytes(text)

    return made()


RULES = (
    rule("checkout", equal("feature", "f1")),
    rule("one", equal("account", "a1"), "account"),
    rule("campaign", equal("attribution", "campaign:x")),
    rule("viewed", equal("type", "page.viewed")),
    rule("globex", None, tenant="globex"),
    rule("broken", equal("status", 503), "product", topic=PERFORMANCE),
    rule("api", equal("service", "api"), "product", topic=PERFORMANCE),
)


def read(batches: Sequence[Batch], topic: str, *, plain: bool, known: Catalogue) -> list[Any]:
    """What the reader makes of the batches, with names in place of numbers."""
    task = MeterTask(0, 1, known)
    reader, out = task._readers[topic], list[Any]()
    if not plain:
        reader.scanner = None
    for one in batches:
        out.append(said(reader, reader.read(one, known.generation, task._signals[topic].watch())))
    return out


def said(reader: Reader, reading: Reading) -> Any:
    source, rows = reader.source, reading.rows
    columns = {name: column.tolist() for name, column in rows.columns.items()}
    columns["cell"] = [named(source, c) for c in columns["cell"]]
    for name in columns.keys() & {"bucket", "all_bucket"}:
        columns[name] = [named(source, c) for c in columns[name]]
    if "user" in columns:
        columns["user"] = [source.users.names[n] for n in columns["user"]]  # type: ignore[attr-defined]
    return (
        [source.groups[g] for g in rows.group.tolist()],
        rows.time.tolist(),
        rows.pace.tolist(),
        rows.key.tolist(),
        columns,
        rows.turns,
        [(*mark[:-1], [source.groups[g] for g in mark[-1]]) for mark in rows.markers],
        reading.accepted.tolist(),
        [repr(e) for e in reading.effects if "uptake_decoded_rows_total" not in repr(e)],
        {i: repr(row) for i, row in sorted(reading.kept.items()) if i in set(reading.accepted.tolist())},
    )


def named(source: Source, cell: int) -> tuple[str, str] | None:
    return (source.groups[int(source.cell_group[cell])].product, source.cell_names[cell]) if cell else None


@pytest.mark.parametrize("topic", [USAGE, PERFORMANCE])
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_the_same_rows_either_way(topic: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(written(topic), min_size=1, max_size=8))
    headers = [data.draw(st.sampled_from([(), (), (("trace", b"1"),), (("ce_specversion", b"1.0"),)])) for _ in values]
    records = [Record(v, T0 + 1_000, headers=h) for v, h in zip(values, headers, strict=True)]
    cut = data.draw(st.integers(0, len(records)))
    batches = [batch(part, topic, at) for part, at in ((records[:cut], 0), (records[cut:], cut)) if part]
    known = catalogue(*(RULES if data.draw(st.booleans()) else ()))
    assert read(batches, topic, plain=True, known=known) == read(batches, topic, plain=False, known=known)


ORDINARY = {
    USAGE: [
        usage(
            "e1",
            T0,
            properties={"plan": "pro", "n": 1.5, "deep": {"list": [1, None, "x"]}},
            account="a",
            attribution="campaign:x",
        ),
        usage("e2", T0 + 1, feature=None, session="0af3", latency_ms=5, platform="web", country="NL"),
        usage("e3", T0, "u2", "f2", schema_version="1", properties=None),
        Record(json.dumps(json.loads(usage("e5", T0, "ü", "検索").value or b""), ensure_ascii=False).encode(), T0),
        Record(
            json.dumps(
                {**json.loads(usage("e4", T0).value or b""), "occurred_at": "2023-11-15T00:00:00.123+02:00"}
            ).encode(),
            T0,
        ),
    ],
    PERFORMANCE: [
        request("r1", T0, 12.25, status=200, user="u1"),
        request("r2", T0, 0.1 + 0.2, status=503, error="timed out"),
        request("r3", T0, 3, error=False, feature="search", service=None),
    ],
}


@pytest.mark.parametrize("topic", [USAGE, PERFORMANCE])
def test_ordinary_rows_are_not_decoded(topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/producers.md promises: nothing that stands there makes a row slow."""
    task, records = MeterTask(0, 1, Catalogue()), ORDINARY[topic]
    reader = task._readers[topic]
    assert reader.scanner is not None
    piece = Values.of([r.value for r in records]).pieces[0]
    assert reader.scanner.scan(piece).plain.tolist() == [True] * len(records)
    reading = reader.read(batch(records, topic), 0)
    assert len(reading.rows) == len(records)
    assert [e for e in reading.effects if "decoded" in repr(e)] == []


def test_rows_that_are_decoded_are_counted() -> None:
    records = [usage("e1", T0), usage("e2", T0, "u\\"), usage("e3", T0, 'a"b')]
    reading = MeterTask(0, 1, Catalogue())._readers[USAGE].read(batch(records), 0)
    assert len(reading.rows) == 3
    [count] = [e for e in reading.effects if "uptake_decoded_rows_total" in repr(e)]
    assert (count.n, count.labels) == (2, (USAGE,))  # type: ignore[union-attr]


def test_a_row_is_read_wherever_it_stands() -> None:
    """At the end of a payload nothing can be read behind a row; in its middle what stands there is not the row's."""
    value = usage("e1", T0).value or b""
    for behind in (b"", b"x", b'"' * 15, b"9" * 16, b"}" * 200):
        for before in (b"", b"{", b'"' * 7):
            piece = Piece(before + value + behind, np.array([[len(before), len(before) + len(value)]]))
            reader = MeterTask(0, 1, Catalogue())._readers[USAGE]
            assert reader.scanner is not None
            assert reader.scanner.scan(piece).plain.tolist() == [True]
            for cut in range(1, len(value)):
                short = Piece(piece.payload, np.array([[len(before), len(before) + cut]]))
                assert reader.scanner.scan(short).plain.tolist() == [False], value[:cut]


def test_names_beyond_those_that_are_kept_are_names_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexicon, "MOST", 5)
    records = [usage(f"e{i}", T0, "u1", f"feature-{i % 40}", product=f"p{i % 7}") for i in range(300)]
    batches = [batch(records[:200]), batch(records[200:], offset=200)]
    known = Catalogue()
    assert read(batches, USAGE, plain=True, known=known) == read(batches, USAGE, plain=False, known=known)


def test_many_names_and_several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "CHUNK", 64)
    monkeypatch.setattr("core.meter.read.CHUNK", 64)
    records = [usage(f"e{i}", T0 + i, f"u{i % 90}", f"feature-{i % 700}") for i in range(1_500)]
    records[70] = Record(b"{", T0)
    records[130] = usage("odd", T0, "ü")  # written with an escape
    whole = batch(records)
    parts = [Values.of(whole.values[:10]), Values.of(whole.values[10:700]), Values.of(whole.values[700:])]
    whole.values = Values([piece for part in parts for piece in part.pieces])
    known = Catalogue()
    told, decoded = (read([whole], USAGE, plain=plain, known=known) for plain in (True, False))
    assert told == decoded
    assert sum("not_json" in effect for effect in told[0][8]) == 1


def test_a_dead_row_keeps_its_bytes() -> None:
    records = [usage("e1", T0), Record(b'{"id": 5}', T0), Record(None, T0), Record(b"", T0)]
    reading = MeterTask(0, 1, Catalogue())._readers[USAGE].read(batch(records), 0)
    dead = [e for e in reading.effects if isinstance(e, DeadLetter)]
    assert [(d.offset, d.value) for d in dead] == [(1, b'{"id": 5}'), (2, None), (3, b"")]

"""Events of an older version: lifted one by one, in the midst of today's, in every form a row can have."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from core.definitions import Catalogue
from core.meter import hot, wire
from core.meter.task import MeterTask
from schemas import upcast
from schemas.upcast import Body, History
from tests.core.meter.logs import T0, USAGE, Published, Record, batch, usage

NOW = {"id": "n1", "tenant": "acme", "product": "app", "type": "feature.used", "feature": "f1", "user": "u1"}


def test_the_version_that_is_read_fast_is_the_newest_and_that_of_rows_that_say_none() -> None:
    history = upcast.HISTORIES["event"]
    assert history.field in hot.Usage.__struct_fields__
    assert history.field in hot.Performance.__struct_fields__
    assert set(get_args(wire.Version)) == {wire.VERSION, int(wire.VERSION)}
    assert history.versions[-1] == history.default == wire.VERSION


def test_rows_that_say_todays_version_are_today_s_rows() -> None:
    records = [usage("a", T0, schema_version="1"), usage("b", T0, "u2", schema_version=1), usage("c", T0, "u3")]
    told = Published().take(MeterTask(0, 1, Catalogue()).step(batch(records)))
    assert told.dead == []
    assert told.counts["uptake_rows_total", (USAGE, "accepted")] == 3


def from_0(body: Body) -> Body:
    """A version 0 that never was: the user was called `who`, and the time came in seconds."""
    body["user"] = body.pop("who")
    if "when" in body:
        body["occurred_at"] = int(str(body.pop("when"))) * 1000
    return body


def a_value(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def test_older_rows_are_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    older = History("schema_version", ("0", "1"), {"0": from_0}, default="1")
    monkeypatch.setattr(upcast, "HISTORIES", {**upcast.HISTORIES, "event": older})
    old = {k: v for k, v in NOW.items() if k != "user"} | {"schema_version": "0", "when": T0 // 1000}
    ce = {"specversion": "1.0", "id": "c1", "source": "/s", "type": "feature.used", "time": "2023-11-15T00:00:00Z"}
    data = {"tenant": "acme", "product": "app", "feature": "f1", "who": "cara", "schema_version": 0}
    headers = tuple((f"ce_{k}", v.encode()) for k, v in ce.items())
    records = [
        usage("g1", T0, "gus"),
        Record(a_value(old | {"id": "o1", "who": "ann"}), T0),
        Record(a_value(ce | {"data": data}), T0),
        Record(a_value(data | {"who": "dan"}), T0, headers=(*headers[:1], ("ce_id", b"c2"), *headers[2:])),
        usage("g2", T0, "hal"),
        Record(a_value(old | {"id": "o2"}), T0),  # the step itself finds it broken
        Record(a_value(old | {"id": "o3", "who": 5}), T0),
        Record(a_value(ce | {"id": "c3", "data": data | {"who": 5}}), T0),
    ]
    task = MeterTask(0, 1, Catalogue())
    told = Published().take(task.step(batch(records)))
    assert task.members("acme", "app", "f1", T0 // 86_400_000 * 86_400_000 + 86_400_000) == [
        "ann",
        "cara",
        "dan",
        "gus",
        "hal",
    ]
    assert [(d.reason, d.offset) for d in told.dead] == [("invalid", 5), ("invalid", 6), ("invalid", 7)]
    assert told.dead[1].value == records[6].value, "the original bytes, not the lifted ones"

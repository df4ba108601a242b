"""Peers do W right on a few events of a real Kafka; a wrong result is found."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import oracle
from bench.events import Shape, ensure
from bench.kafka import Cluster
from bench.peers.registry import PEERS
from bench.throughput import run_peer

ROWS = 1_000
QUICK = [p for p in PEERS if p.name in ("faust", "bytewax")]


def test_there_are_peers() -> None:
    assert {p.name for p in PEERS} == {"faust", "bytewax", "kafka_streams"}
    assert len(QUICK) == 2


@pytest.mark.kafka
@pytest.mark.timeout(240)
@pytest.mark.parametrize("peer", QUICK, ids=lambda p: p.name)
def test_a_peer_equals_the_oracle(peer: object, kafka: str, tmp_path: Path) -> None:
    chosen = next(p for p in QUICK if p is peer)
    if chosen.name == "bytewax" and find_spec("bytewax") is None:
        pytest.skip("Bytewax has no wheel for this Python (it has them up to 3.12)")
    path = ensure(Shape(rows=ROWS, users=200, features=5), tmp_path)
    row = run_peer(Cluster(kafka), chosen, path, ROWS, tmp_path)
    assert row["rows"] == ROWS
    assert row["keys_checked"] > 100
    assert row["cpu_s_per_million"] > 0


@pytest.mark.kafka
@pytest.mark.long
@pytest.mark.timeout(300)
def test_kafka_streams_equals_the_oracle(kafka: str, tmp_path: Path) -> None:
    """Long: resolves and downloads its jars, RocksDB among them."""
    [peer] = [p for p in PEERS if p.name == "kafka_streams"]
    path = ensure(Shape(rows=ROWS, users=200, features=5), tmp_path)
    assert run_peer(Cluster(kafka), peer, path, ROWS, tmp_path)["keys_checked"] > 100


def _result(path: Path) -> dict[str, object]:
    groups, users = oracle.work(path)
    return {"groups": [[*k, *v] for k, v in groups.items()], "users": [[k, *v] for k, v in users.items()]}


def test_one_wrong_key_is_found(tmp_path: Path) -> None:
    path = ensure(Shape(rows=500, users=20, features=3), tmp_path)
    right = _result(path)
    assert oracle.differences(right, path) == []
    wrong = json.loads(json.dumps(right))
    wrong["groups"][0][2] += 1
    wrong["users"].pop()
    assert len(oracle.differences(wrong, path)) == 2


def test_the_oracle_by_hand(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "feature": "a", "user": "u", "occurred_at": 60_000, "latency_ms": 5},
        {"id": "2", "feature": "a", "user": "v", "occurred_at": "1970-01-01T00:01:59.999+00:00", "latency_ms": 7},
        {"id": "2", "feature": "a", "user": "v", "occurred_at": 119_999, "latency_ms": 7},
        {"id": "3", "feature": "b", "user": "u", "occurred_at": 120_000, "latency_ms": 1},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    groups, users = oracle.work(path)
    assert groups == {("a", 1): (3, 2, 19, 7), ("b", 2): (1, 1, 1, 1)}
    assert users == {"u": (2, 120_000), "v": (2, 119_999)}
    # Windows of METER: without the duplicate, half open.
    assert oracle.windows(path, 60_000, 60_000, range(60_000, 240_000, 60_000)) == {
        ("a", 120_000): (2, 2),
        ("*", 120_000): (2, 2),
        ("b", 180_000): (1, 1),
        ("*", 180_000): (1, 1),
    }


def test_events_are_the_same_each_time_and_as_they_were_asked_for(tmp_path: Path) -> None:
    shape = Shape(rows=3_000, users=50, features=7, rfc3339_share=0.5, duplicate_share=0.1)
    first = ensure(shape, tmp_path / "one").read_bytes()
    assert first == ensure(shape, tmp_path / "two").read_bytes()
    rows = [json.loads(line) for line in first.splitlines()]
    assert len(rows) == 3_000
    textual = sum(isinstance(r["occurred_at"], str) for r in rows)
    assert 0.4 < textual / len(rows) < 0.6
    assert 0.05 < 1 - len({r["id"] for r in rows}) / len(rows) < 0.15
    assert {r["feature"] for r in rows} <= {f"feature-{i:04d}" for i in range(7)}

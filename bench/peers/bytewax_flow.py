"""W with Bytewax: its Kafka source, keyed stateful operators with recovery into SQLite, one worker."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from confluent_kafka import OFFSET_BEGINNING

from bench.peers.clock import Clock

clock = Clock()
started = False


@dataclass
class Group(StatefulBatchLogic[dict[str, Any], list[Any], Any]):
    """One (feature, minute); tells its figures at the end of input."""

    count: int = 0
    total: int = 0
    most: int = 0
    users: set[str] = field(default_factory=set)

    def on_batch(self, values: list[dict[str, Any]]) -> tuple[Iterable[list[Any]], bool]:
        for event in values:
            self.count += 1
            self.total += event["latency_ms"]
            self.most = max(self.most, event["latency_ms"])
            self.users.add(event["user"])
        return (), StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[list[Any]], bool]:
        return ([self.count, len(self.users), self.total, self.most],), StatefulBatchLogic.RETAIN

    def snapshot(self) -> Any:
        return self.count, self.total, self.most, frozenset(self.users)


@dataclass
class User(StatefulBatchLogic[dict[str, Any], list[Any], Any]):
    """One user; tells count and last seen at the end of input."""

    count: int = 0
    last: int = 0

    def on_batch(self, values: list[dict[str, Any]]) -> tuple[Iterable[list[Any]], bool]:
        self.count += len(values)
        self.last = max(self.last, max(event["occurred_at"] for event in values))
        return (), StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[list[Any]], bool]:
        return ([self.count, self.last],), StatefulBatchLogic.RETAIN

    def snapshot(self) -> Any:
        return self.count, self.last


def parse(messages: list[KafkaSourceMessage[bytes, bytes]]) -> Iterable[dict[str, Any]]:
    global started
    if not started:
        started = True
        clock.start()
    return [orjson.loads(m.value) for m in messages]


class Collect(DynamicSink[tuple[str, list[Any]]], StatelessSinkPartition[tuple[str, list[Any]]]):
    """Keeps in memory what comes out at the end."""

    def __init__(self, into: list[list[Any]]) -> None:
        self.into = into

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Collect:
        return self

    def write_batch(self, items: list[tuple[str, list[Any]]]) -> None:
        for key, value in items:
            feature, _, minute = key.partition("|")
            self.into.append([feature, int(minute), *value] if minute else [key, *value])


def flow(address: str, topic: str, groups: list[list[Any]], users: list[list[Any]]) -> Dataflow:
    made = Dataflow("w")
    source = KafkaSource([address], [topic], starting_offset=OFFSET_BEGINNING, tail=False, batch_size=10_000)
    events = op.flat_map_batch("parse", op.input("in", made, source), parse)
    by_group = op.key_on("by_group", events, lambda e: f"{e['feature']}|{e['occurred_at'] // 60_000}")
    by_user = op.key_on("by_user", events, lambda e: e["user"])
    kept = op.stateful_batch("groups", by_group, lambda s: Group(s[0], s[1], s[2], set(s[3])) if s else Group())
    last = op.stateful_batch("users", by_user, lambda s: User(*s) if s else User())
    op.output("groups_out", kept, Collect(groups))
    op.output("users_out", last, Collect(users))
    return made


def main() -> None:
    arguments = argparse.ArgumentParser()
    for name in ("address", "topic", "name", "out", "data"):
        arguments.add_argument(f"--{name}", required=True)
    arguments.add_argument("--rows", type=int, required=True)
    arguments.add_argument("--partitions", type=int, required=True)
    options = arguments.parse_args()
    recovery = Path(options.data) / "recovery"
    recovery.mkdir(parents=True)
    init_db_dir(recovery, 1)
    groups: list[list[Any]] = []
    users: list[list[Any]] = []
    cli_main(
        flow(options.address, options.topic, groups, users),
        workers_per_process=1,
        epoch_interval=timedelta(seconds=10),
        recovery_config=RecoveryConfig(str(recovery)),
    )
    clock.stop()
    clock.write(Path(options.out), sum(u[1] for u in users), groups, users)


if __name__ == "__main__":
    main()

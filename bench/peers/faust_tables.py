"""W as one writes it with Faust: records as models, tables, one event at a time.

Distinct users are a table of (feature, minute, user) marks: kinder than a set per group, which would be written back whole
for every event.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import faust

from bench.peers.clock import Clock

arguments = argparse.ArgumentParser()
for name in ("address", "topic", "name", "out", "data"):
    arguments.add_argument(f"--{name}", required=True)
arguments.add_argument("--rows", type=int, required=True)
arguments.add_argument("--partitions", type=int, required=True)
options = arguments.parse_args()

app = faust.App(
    options.name,
    broker=f"kafka://{options.address}",
    store="memory://",
    topic_partitions=options.partitions,
    consumer_auto_offset_reset="earliest",
    datadir=options.data,
    web_enabled=False,
)


class Event(faust.Record, serializer="json"):
    id: str
    feature: str
    user: str
    occurred_at: int
    latency_ms: int


topic = app.topic(options.topic, value_type=Event)
groups = app.Table("groups", partitions=options.partitions)
marks = app.Table("marks", partitions=options.partitions)
users = app.Table("users", partitions=options.partitions)
clock = Clock()


@app.agent(topic)
async def work(stream: faust.StreamT[Event]) -> None:
    done = 0
    async for event in stream:
        if not done:
            clock.start()
        group = f"{event.feature}|{event.occurred_at // 60_000}"
        mark = f"{group}|{event.user}"
        count, distinct, total, most = groups.get(group) or (0, 0, 0, 0)
        if mark not in marks:
            marks[mark] = 1
            distinct += 1
        groups[group] = (count + 1, distinct, total + event.latency_ms, max(most, event.latency_ms))
        seen, last = users.get(event.user) or (0, 0)
        users[event.user] = (seen + 1, max(last, event.occurred_at))
        done += 1
        if done == options.rows:
            await app.producer.flush()
            await app.consumer.commit()
            clock.stop()
            clock.write(
                Path(options.out),
                done,
                [[*_split(key), *value] for key, value in groups.items()],
                [[user, *value] for user, value in users.items()],
            )
            os._exit(0)


def _split(key: str) -> tuple[str, int]:
    feature, minute = key.split("|")
    return feature, int(minute)


if __name__ == "__main__":
    faust.Worker(app, loglevel="WARN").execute_from_commandline()

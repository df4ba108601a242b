"""Neighbours: what one tenant's flood costs another's commands, and whether an urgent command overtakes a queue.

flood   One tenant sends at its quota, the other at 50 times as much: to the gateway, whose quota it is, or straight to Kafka, where
        none holds it back. The quiet tenant's latency from event to command (an open model, as in `bench.latency`), alone and
        beside the flood.
urgent  100,000 digests wait for a connection that takes 100 a second. From writing an urgent command to its delivery: while
        the digests still stand in front of it in the log, and once all of them wait as rows.
"""

from __future__ import annotations

import json
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, Producer

from app.api.access import hashed, new_key
from bench.kafka import Cluster
from bench.overtaking import urgent
from bench.process import Child, wait_for
from bench.tenants import CLIENT, LOUD, QUIET, RARE, deployed, event_of, figures, from_now_on, sender
from bench.uptake import Deployment, a_rule
from schemas.definitions import ApiKey

QUOTA: Final = 1_000
"""Events a second of one tenant."""
TIMES: Final = 50
QUIET_EVERY: Final = 20
"""One event in this many of the quiet tenant's matches the rule."""
WARM_S: Final = 5.0


def produce(address: str, topic: str, tenant: str, rate: int, every: int, seconds: float, start_s: float) -> None:
    """Sends the tenant's event i at start + i / rate; one in `every` matches the rule."""
    producer = Producer({"bootstrap.servers": address, **CLIENT})
    total, sent = int(rate * seconds), 0
    while sent < total:
        due = min(total, int((time.time() - start_s) * rate))
        while sent < due:
            user, row = event_of(tenant, f"l{sent:010d}", sent, every, int((start_s + sent / rate) * 1000))
            producer.produce(topic, row.encode(), f"{tenant}|{user}".encode())
            sent += 1
        producer.poll(0)
        if sent >= due:
            time.sleep(0.001)
    if producer.flush(60):
        raise RuntimeError("events were not acknowledged")


def flood(
    cluster: Cluster, data: Path, *, seconds: float, loud_every: int | None, gateway: bool = False
) -> dict[str, Any]:
    """The quiet tenant's latencies (ms). `loud_every`: one in so many of the loud tenant's events matches the rule, which has
    no ceiling; None: there is no loud tenant. `gateway`: it posts to one that grants it its quota, instead of writing to Kafka.
    """
    answers: dict[str, int] = {}
    key = new_key()
    granted = ApiKey(tenant=LOUD, name="flood", hash=hashed(key), role="development", created_at=0)
    with deployed(cluster, data, "flood") as deployment:
        deployment.prepare([a_rule("bench-rare", RARE), granted])
        with ExitStack() as processes:
            meter, decide = (processes.enter_context(deployment.process(role)) for role in ("meter", "decide"))
            wait_for("METER ready", lambda: deployment.ready("meter"), meter, 60, 0.1)
            wait_for("DECIDE ready", lambda: deployment.ready("decide"), decide, 60, 0.1)
            port = processes.enter_context(_gateway(deployment)) if gateway else 0
            reader = from_now_on(cluster, deployment.settings.topic("commands.product"))
            start = time.time() + 2.0
            topic = deployment.settings.topic("events.usage")
            commands: list[tuple[str | float, ...]] = [
                ("bench.neighbours", cluster.address, topic, QUIET, QUOTA, QUIET_EVERY, seconds, start)
            ]
            if loud_every is not None:
                rate = QUOTA * TIMES
                posting: tuple[str | float, ...] = (
                    "bench.posting",
                    port,
                    key,
                    LOUD,
                    rate,
                    loud_every,
                    seconds,
                    start,
                )
                writing: tuple[str | float, ...] = (
                    "bench.neighbours",
                    cluster.address,
                    topic,
                    LOUD,
                    rate,
                    loud_every,
                    seconds,
                    start,
                )
                commands.append(posting if gateway else writing)
            wanted = range(QUIET_EVERY // 2, int(QUOTA * seconds), QUIET_EVERY)
            with ExitStack() as stack:
                children = [
                    stack.enter_context(
                        Child([sys.executable, "-m", *map(str, command)], deployment.data / f"sender-{n}.log")
                    )
                    for n, command in enumerate(commands)
                ]
                received, others = _commands(reader, len(wanted), start + seconds + 30)
                for child in children:
                    if child.wait(60):
                        raise RuntimeError(f"a producer failed: {child.last_words()}")
                if gateway:
                    answers = json.loads(children[-1].last_words())
            reader.close()
    missing = [i for i in wanted if i not in received]
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(wanted)} commands of the quiet tenant did not come")
    ms = [(received[i] - (start + i / QUOTA)) * 1000 for i in wanted if i >= QUOTA * WARM_S]
    answered = {"answers": answers} if gateway else {}
    return {"commands": len(ms), "loud_commands": others, **answered, **figures(ms)}


@contextmanager
def _gateway(deployment: Deployment) -> Iterator[int]:
    """Its port. It grants a tenant `QUOTA` events a second, and lets its key ask as often as it likes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    limits = {"UPTAKE_TENANT_EVENTS_PER_S": str(QUOTA), "UPTAKE_API_REQUESTS_PER_S": str(QUOTA)}
    command = [sys.executable, "-m", "app.cli", "api", "--port", str(port)]
    with Child(command, deployment.data / "gateway.out", deployment.settings.environment() | limits) as child:
        wait_for("the gateway", lambda: _answers(port), child, 60, 0.1)
        yield port


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _commands(reader: Consumer, wanted: int, deadline: float) -> tuple[dict[int, float], int]:
    """When each of the quiet tenant's commands was readable, by its event's number; and how many others there were."""
    received: dict[int, float] = {}
    others = 0
    while len(received) < wanted and time.time() < deadline:
        for message in reader.consume(1, 0.05):
            now, value = time.time(), message.value()
            if message.error() is not None or value is None:
                continue
            command = json.loads(value)
            if command["tenant"] == QUIET:
                cause = command["cause"]
                place = cause.rindex("l0")
                received.setdefault(int(cause[place + 1 : place + 11]), now)
            else:
                others += 1
    return received, others


def measure(cluster: Cluster, data: Path, *, quick: bool) -> dict[str, Any]:
    """Both questions. A match of the loud tenant's in 1,000 is a product's usual share; one in 50 is a rule gone wild."""
    seconds = 12.0 if quick else 45.0
    answer: dict[str, Any] = {"quota": QUOTA, "times": TIMES, "seconds": seconds}
    flood(
        cluster, data, seconds=seconds / 2, loud_every=1_000
    )  # nobody looks: a broker's first seconds compile its code
    for name, every, gateway in (
        ("alone", None, False),
        ("beside_gateway", 50, True),
        ("beside", 1_000, False),
        ("beside_wild", 50, False),
    ):
        answer[name] = flood(cluster, data, seconds=seconds, loud_every=every, gateway=gateway)
        print(f"    {name}: {answer[name]}", flush=True)
    answer["urgent"] = urgent(cluster, data, digests=20_000 if quick else 100_000, tries=20 if quick else 100)
    print(f"    urgent: {answer['urgent']}", flush=True)
    return answer


if __name__ == "__main__":
    given = sender("address", "topic", "tenant")
    produce(given.address, given.topic, given.tenant, given.rate, given.every, given.seconds, given.start)

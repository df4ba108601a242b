"""A tenant that posts events to the gateway at a fixed rate, whatever it answers: run as a process of its own."""

from __future__ import annotations

import argparse
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

BATCH: Final = 500
"""Events of one request."""
CONNECTIONS: Final = 4


def post(
    port: int, key: str, tenant: str, feature: str, rate: int, every: int, seconds: float, start_s: float
) -> Mapping[int, int]:
    """Request i is to be sent at start + i * BATCH / rate; one in `every` events is of the feature. Requests by answer."""
    answers: Counter[int] = Counter()
    lock = threading.Lock()

    def send(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        for i in range(first, int(rate * seconds) // BATCH, CONNECTIONS):
            time.sleep(max(0.0, start_s + i * BATCH / rate - time.time()))
            connection.request("POST", "/api/v1/products/app/events", _body(i * BATCH, tenant, feature, every), headers)
            answer = connection.getresponse()
            answer.read()
            with lock:
                answers[answer.status] += 1
        connection.close()

    threads = [threading.Thread(target=send, args=(first,)) for first in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _body(first: int, tenant: str, feature: str, every: int) -> bytes:
    at = int(time.time() * 1000)
    rows = (
        f'{{"id":"g{n:010d}","tenant":"{tenant}","product":"app","type":"feature.used",'
        f'"feature":"{feature if n % every == every // 2 else f"feature-{n % 40:04d}"}",'
        f'"user":"user-{n * 7919 % 20_000:06d}","occurred_at":{at},"platform":"web","country":"NL","build":"2026.11"}}'
        for n in range(first, first + BATCH)
    )
    return f"[{','.join(rows)}]".encode()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    for name in ("key", "tenant", "feature"):
        parser.add_argument(name)
    for name in ("rate", "every"):
        parser.add_argument(name, type=int)
    for name in ("seconds", "start"):
        parser.add_argument(name, type=float)
    given = parser.parse_args()
    print(
        json.dumps(
            post(
                given.port, given.key, given.tenant, given.feature, given.rate, given.every, given.seconds, given.start
            )
        )
    )

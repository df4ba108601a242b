"""A tenant that posts events to the gateway at a fixed rate, whatever it answers: run as a process of its own."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

from bench.tenants import event_of, sender

BATCH: Final = 500
"""Events of one request."""
CONNECTIONS: Final = 4


def post(port: int, key: str, tenant: str, rate: int, every: int, seconds: float, start_s: float) -> Mapping[int, int]:
    """Request i is to be sent at start + i * BATCH / rate; one in `every` events is of the rare feature. Requests by answer."""
    answers: Counter[int] = Counter()
    lock = threading.Lock()

    def send(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        for i in range(first, int(rate * seconds) // BATCH, CONNECTIONS):
            time.sleep(max(0.0, start_s + i * BATCH / rate - time.time()))
            connection.request("POST", "/api/v1/products/app/events", _body(i * BATCH, tenant, every), headers)
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


def _body(first: int, tenant: str, every: int) -> bytes:
    at = int(time.time() * 1000)
    rows = (event_of(tenant, f"g{n:010d}", n, every, at)[1] for n in range(first, first + BATCH))
    return f"[{','.join(rows)}]".encode()


if __name__ == "__main__":
    given = sender("port", "key", "tenant")
    answers = post(int(given.port), given.key, given.tenant, given.rate, given.every, given.seconds, given.start)
    print(json.dumps(answers))

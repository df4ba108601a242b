"""Doors of what others send: CloudEvents, rows of the events topics, signed webhooks."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from random import Random
from typing import Any

from standardwebhooks import Webhook

from app.receiver import Receiver
from core.batch import Batch
from core.definitions import Catalogue
from core.effects import Count, DeadLetter
from core.meter.task import MeterTask
from schemas import cloudevents
from tests.core.meter.logs import PERFORMANCE, T0, USAGE, Record, batch
from tests.core.meter.test_plain import read
from tests.fuzz.mutate import damaged, encoded, nasty, spoiled
from tests.fuzz.samples import CLOUD, EVENT, MARKER, REQUEST, Outcome, ce_headers

ROWS = 64
SECRET = "whsec_ZXhhbXBsZS1zZWNyZXQtb2YtdXB0YWtlLTAwMDE="


def events(random: Random, held: list[Any]) -> Outcome:
    """CloudEvents in all forms: an event that survives being written and read, or `CloudEventError`."""
    try:
        match random.randrange(3):
            case 0:
                held += [headers := ce_headers(random), value := encoded(random, damaged(random, EVENT))]
                event = cloudevents.from_headers(headers, value)
            case 1:
                held.append(value := encoded(random, damaged(random, CLOUD)))
                event = cloudevents.from_structured(value)
            case _:
                held.append(body := damaged(random, CLOUD))
                if not isinstance(body, dict):
                    return {"refused": 1}
                event = cloudevents.from_object(body)
    except cloudevents.CloudEventError:
        return {"refused": 1}
    cloudevents.event_fields(event)
    try:
        headers, value = cloudevents.to_structured(event)
    except cloudevents.CloudEventError:
        return {"refused": 1}
    again = cloudevents.from_structured(value)
    assert (again.id, again.source, again.type) == (event.id, event.source, event.type)
    return {"accepted": 1}


def _record(random: Random, number: int) -> Record:
    base = random.choice((EVENT, EVENT, REQUEST, CLOUD, MARKER))
    if random.random() < 0.4:
        base = {**base, "id": f"i{number}"}
    value = (
        None
        if random.random() < 0.01
        else encoded(random, damaged(random, base, random.choice((0, 0, 0, 1, 1, 2))), 0.1)
    )
    headers = ce_headers(random) if random.random() < 0.15 else ()
    return Record(value, T0 + number, spoiled(random, b"acme|u1") if random.random() < 0.1 else b"acme|u1", headers)


def meter(random: Random, held: list[Any]) -> Outcome:
    """Rows of either topic through METER's own task: accepted + duplicate + dead + control is what came in, state is kept, and rows
    that a kernel reads are what decoding makes of them.
    """
    catalogue = Catalogue()
    task = MeterTask(0, 1, catalogue)
    task.loaded()
    topic = random.choice((USAGE, PERFORMANCE))
    records = [_record(random, n) for n in range(ROWS)]
    held += [topic, *((r.value, r.headers) for r in records)]
    made: Batch = batch(records, topic)
    effects = [*task.step(made), *task.tick(T0 + 10_000, [(topic, 0)])]
    counted: Counter[str] = Counter()
    for effect in effects:
        if isinstance(effect, Count) and effect.metric == "uptake_rows_total":
            counted[effect.labels[1]] += int(effect.n)
    dead = [e for e in effects if isinstance(e, DeadLetter)]
    assert len(dead) == counted["dead"] and all(d.reason and d.value == records[d.offset].value for d in dead)
    assert read([made], topic, plain=True, known=catalogue) == read([made], topic, plain=False, known=catalogue)
    again = MeterTask(0, 1, catalogue)
    for key, value in task.drain():
        again.load(key, value)
    again.loaded()
    return dict(counted)


def webhooks(random: Random, held: list[Any]) -> Outcome:
    """Signed requests, damaged: taken only if not one signed byte changed."""
    body = encoded(random, damaged(random, {"type": "x", "data": EVENT}, times=1), spoil=0.2)
    now = datetime.now(UTC)  # noqa: TID251 - the library compares with it
    text = body.decode("utf-8", "replace")
    good = {
        "webhook-id": "m1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("m1", now, text),
    }
    headers, sent = dict(good), text.encode()
    for _ in range(random.choice((0, 1, 1, 2))):
        name = random.choice(list(good))
        match random.randrange(5):
            case 0:
                headers.pop(name, None)
            case 1:
                headers[name] = str(nasty(random))
            case 2:
                headers[name] = spoiled(random, headers.get(name, "x").encode("utf-8", "replace")).decode("latin-1")
            case 3:
                sent = spoiled(random, sent)
            case _:
                headers["webhook-signature"] = (
                    f"{headers.get('webhook-signature', '')} v1,{random.choice(('', '%', 'AAAA', 'é'))} v2 ,"
                )
    held += [headers, sent]
    status = Receiver(SECRET).take(headers, sent)
    # The library reads the time as a number: `1.5` is the same second as `1`.
    unchanged = sent == text.encode() and headers.get("webhook-id") == good["webhook-id"]
    assert status in (204, 400, 401) and (status != 204 or unchanged), (status, unchanged)
    return {"accepted" if status == 204 else "refused": 1}

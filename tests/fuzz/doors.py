"""The doors that need no server. Each takes a source of chance and a place to leave its input, and says what became of it."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import orjson
import yaml
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from pydantic import ValidationError
from standardwebhooks import Webhook

from app.receiver import Receiver
from core.batch import Batch
from core.definitions import Catalogue
from core.effects import Count, DeadLetter
from core.meter.task import MeterTask
from core.rulebook import RulebookError, load_rulebook
from core.rules.columns import Columns
from core.rules.conditions import fields, flatten, holds
from core.rules.lint import rule_findings
from core.rules.matching import RuleIndex
from core.rules.render import MAX_OUTPUT_CHARS, Renderer, RenderError
from integrations.hands import Hands
from schemas import cloudevents
from schemas.definitions import DEFINITION, Connection, OnEvent, Rule, head_key
from tests.core.meter.logs import PERFORMANCE, T0, USAGE, Record, batch
from tests.fuzz.mutate import NASTY, damaged, encoded, nasty, spoiled
from transport.fetching import Fetching, PartitionBlocks
from transport.framing import HEADER, frame, read_header
from transport.inflate import refuse_too_large

RULEBOOK = Path(__file__).resolve().parents[2] / "rulebook"
Outcome = dict[str, int]
ROWS = 64


# --- stored batches -----------------------------------------------------------------------------------------------------


@cache
def _stored() -> list[bytes]:
    """Real batches: every codec, with and without keys, values and headers, stamped by producer and by broker."""
    random, made = Random(1), []
    for codec in range(5):
        for rows in (1, 3, 40):
            builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
            for offset in range(rows):
                value = (
                    None
                    if random.random() < 0.1
                    else orjson.dumps({**EVENT, "id": str(offset)}) * random.choice((1, 1, 5))
                )
                headers = [("h", b"v"), ("", None)] if random.random() < 0.3 else []
                builder.append(offset, T0 + offset, random.choice((None, b"acme|u1")), value, headers)
            stored = bytearray(builder.build())
            if rows == 3:
                struct.pack_into(">h", stored, 21, codec | 0x08)
            made.append(bytes(_signed(stored)))
    return made


def _signed(stored: bytearray) -> bytearray:
    if len(stored) >= HEADER.size:
        struct.pack_into(">I", stored, 17, calc_crc32c(stored[21:]))
    return stored


_FIELDS = ((0, ">q"), (8, ">i"), (16, ">b"), (21, ">h"), (23, ">i"), (27, ">q"), (35, ">q"), (43, ">q"), (57, ">i"))
_NUMBERS = (-(2**31), -1, 0, 1, 2, 13, 60, 61, 127, 128, 10**6, 2**31 - 1)


def _damaged_batch(random: Random) -> bytes:
    stored = bytearray(random.choice(_stored()))
    for _ in range(random.choice((0, 1, 1, 2))):
        at, form = random.choice(_FIELDS)
        number = random.choice(_NUMBERS)
        struct.pack_into(form, stored, at, number if form in (">i", ">q") else number % 128)
    if random.random() < 0.8:
        head, body = stored[: HEADER.size], stored[HEADER.size :]
        stored = bytearray(head + spoiled(random, bytes(body)))
    if random.random() < 0.2:
        stored = bytearray(spoiled(random, bytes(stored)))
    return bytes(_signed(stored)) if random.random() < 0.8 else bytes(stored)


def framing(random: Random, held: list[Any]) -> Outcome:
    """One stored batch, fast way and twin: columns of one length, or the two errors that are promised."""
    stored = _damaged_batch(random)
    held.append(stored)
    if len(stored) < HEADER.size:
        return {"refused": 1}
    header = read_header(stored)
    try:
        refuse_too_large(
            stored[HEADER.size :], header.attributes & 0x07
        )  # as `fetching` does before it hands a batch on
        columns = frame(stored, header)
    except (CorruptRecordException, UnsupportedCodecError):
        return {"refused": 1}
    assert len(columns.offsets) == len(columns.timestamps) == len(columns.values) == max(0, header.count)
    for row in range(len(columns.values)):
        columns.keys.key(row)
    return {"accepted": 1}


def fetching(random: Random, held: list[Any]) -> Outcome:
    """A fetch of up to three stored batches: whatever they hold, the position never goes back, and what is unreadable is set aside."""
    raw = b"".join(
        _damaged_batch(random) if random.random() < 0.7 else random.choice(_stored())
        for _ in range(random.randint(1, 3))
    )
    held.append(raw)
    shared = Fetching(batch_rows=20_000, refetches=random.choice((0, 2)), records=random.random() < 0.2)
    start = random.choice((0, 0, 1, 5))
    plain = SimpleNamespace(
        _tp=TopicPartition("t", 0),
        _aborted_transactions=[],
        next_fetch_offset=start,
        _check_crcs=True,
        _isolation_level=1,
    )
    parser = PartitionBlocks(plain, raw, 10**6, shared)
    rows = spoilt = 0
    position = start
    for block in parser._unpack_records():
        assert block.start >= position and block.next_offset >= block.start
        position = block.next_offset
        assert len(block.values) == len(block.offsets) == len(block.timestamps)
        for row in range(min(len(block.values), 50)):
            block.keys.key(row)
        rows += len(block.values)
        spoilt += len(block.spoiled)
    return {"accepted" if rows and not spoilt else "set aside" if spoilt else "refetched": 1}


# --- CloudEvents --------------------------------------------------------------------------------------------------------

EVENT = {
    "id": "e1", "tenant": "acme", "product": "shop", "type": "feature.used", "feature": "search", "user": "u1",
    "occurred_at": T0, "account": "globex", "attribution": "campaign:x", "properties": {"plan": "pro", "n": [1, 2.5]},
}  # fmt: skip
REQUEST = {
    "id": "r1", "tenant": "acme", "product": "shop", "type": "request.completed", "service": "cart", "latency_ms": 41.7,
    "status": 200, "occurred_at": "2023-11-15T12:00:00.123Z", "error": False, "user": "u1",
}  # fmt: skip
CLOUD = {
    "specversion": "1.0", "id": "c1", "source": "/shop", "type": "feature.used", "time": "2023-11-15T12:00:00Z",
    "subject": "s", "datacontenttype": "application/json", "tenant": "acme", "data": EVENT,
}  # fmt: skip
MARKER = {"type": "uptake.replay.begun", "replay": "r", "at": T0, "act": False, "products": [["acme", "shop"]]}


def _headers(random: Random) -> list[tuple[str, bytes]]:
    made = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"c1"),
        ("ce_source", b"/s"),
        ("ce_type", b"feature.used"),
        ("content-type", b"application/json"),
    ]
    for _ in range(random.choice((0, 1, 2))):
        name, value = random.choice(made)
        match random.randrange(4):
            case 0:
                made = [h for h in made if h[0] != name]
            case 1:
                made.append((name, value))
            case 2:
                made.append(
                    (random.choice(("ce_time", "ce_tenant", "ce_", "traceparent", name)), spoiled(random, value))
                )
            case _:
                made = [(n, spoiled(random, v)) if n == name else (n, v) for n, v in made]
        made = made or [("ce_id", b"x")]
    return made


def events(random: Random, held: list[Any]) -> Outcome:
    """CloudEvents in all forms: an event that survives being written and read, or `CloudEventError`."""
    try:
        match random.randrange(3):
            case 0:
                held += [headers := _headers(random), value := encoded(random, damaged(random, EVENT))]
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


# --- METER --------------------------------------------------------------------------------------------------------------


def _record(random: Random, number: int) -> Record:
    base = random.choice((EVENT, EVENT, REQUEST, CLOUD, MARKER))
    if random.random() < 0.4:
        base = {**base, "id": f"i{number}"}
    value = (
        None
        if random.random() < 0.01
        else encoded(random, damaged(random, base, random.choice((0, 0, 0, 1, 1, 2))), 0.1)
    )
    headers = _headers(random) if random.random() < 0.15 else ()
    return Record(value, T0 + number, spoiled(random, b"acme|u1") if random.random() < 0.1 else b"acme|u1", headers)


def meter(random: Random, held: list[Any]) -> Outcome:
    """Rows of either topic through METER's own task: accepted + duplicate + dead + control is what came in, and state is kept."""
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
    again = MeterTask(0, 1, catalogue)
    for key, value in task.drain():
        again.load(key, value)
    again.loaded()
    return dict(counted)


# --- webhooks -----------------------------------------------------------------------------------------------------------

SECRET = "whsec_ZXhhbXBsZS1zZWNyZXQtb2YtdXB0YWtlLTAwMDE="


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


# --- definitions --------------------------------------------------------------------------------------------------------


@cache
def _definitions() -> list[dict[str, Any]]:
    found = [
        {k: v for k, v in d.items() if k != "tests"}
        for file in sorted(RULEBOOK.rglob("*.yaml"))
        for d in yaml.safe_load(file.read_text())["definitions"]
    ]
    found.append(CONDITIONED)
    found += [
        {"kind": "product", "tenant": "acme", "name": "shop", "slo": 0.99, "features": ["a"], "weights": {"trend": 1}},
        {"kind": "segment", "tenant": "acme", "name": "s", "product": "shop", "users": ["u"]},
        {"kind": "source", "name": "s", "topic": "t", "target": "events.usage", "fields": {"user": "who"},
         "constants": {"tenant": "acme"}},
        {"kind": "connection", "tenant": "acme", "name": "c", "integration": "webhook",
         "config": {"url": "https://example.com/h", "secret": {"env": "UPTAKE_SECRET_ACME__X"}, "headers": {"x": {"file": "f"}}}},
        {"kind": "connection", "tenant": "acme", "name": "m", "integration": "email",
         "config": {"host": "h", "sender": "a@b.co", "recipients": ["c@d.co"], "username": "u", "password": {"env": "X"}}},
        {"kind": "pause", "tenant": "acme", "name": "rule:x", "scope": "rule", "of": "x"},
        {"kind": "silence", "tenant": "acme", "name": "s", "ends_at": 5, "types": ["a.*"]},
        {"kind": "api_key", "tenant": "acme", "name": "k", "hash": "0" * 64, "role": "quality", "created_at": 1},
    ]  # fmt: skip
    return found


CONDITIONED: dict[str, Any] = {
    "kind": "rule", "tenant": "acme", "name": "r", "id": "r",
    "trigger": {"kind": "event", "topic": "events.usage", "where": {"kind": "all", "of": [
        {"kind": "compare", "field": "feature", "op": "==", "value": "x"},
        {"kind": "not", "of": {"kind": "any", "of": [{"kind": "compare", "field": "properties.n", "op": ">", "value": 3}]}}]}},
    "command": {"type": "product.tutorial.deploy", "title": "{{ user }}", "text": "t", "payload": {"a": ["{{ feature }}"]}},
}  # fmt: skip


def definitions(random: Random, held: list[Any]) -> Outcome:
    """Definitions as JSON, as processes read them from their topic: in force and usable, or refused."""
    value = encoded(random, damaged(random, random.choice(_definitions())), spoil=0.1)
    held.append(value)
    catalogue = Catalogue()
    try:
        definition = DEFINITION.validate_json(value)
        catalogue.apply(head_key(definition), value)
    except ValidationError:
        return {"refused": 1}
    RuleIndex(catalogue).named("acme", "x")
    for found in catalogue.heads():
        if isinstance(found, Connection):
            Hands().problems(found)
        if isinstance(found, Rule):
            list(rule_findings(found))
        found.model_dump_json()
    return {"accepted": 1}


@cache
def _texts() -> list[str]:
    made = [yaml.safe_dump({"definitions": [d]}, sort_keys=False) for d in _definitions()]
    return [t for t in made if len(t) < 2_500]


_TANGLES = (
    "a: &a [x]\n", "b: &b [*a, *a]\n", "*a", "<<: *a", "? {a: b}\n: c\n", "!!python/object:os.system x", "!!binary x", "!!timestamp 1",
    "2001-99-99", "0x", "1e999", ".nan", "[" * 80, "{" * 200, "- " * 300, "\t", "%YAML 9.9\n---\n", "--- \n--- \n",
    "\u2028", "&a *a", "0b12", "1:99:99",
    "9" * 5_000, "<<: {definitions: []}", "!!set {a, b}", "!!omap [a: 1]",
)  # fmt: skip


def texts(random: Random, held: list[Any]) -> Outcome:
    """Rulebooks as YAML: definitions, or problems by the line."""
    text = random.choice(_texts())
    if random.random() < 0.3:
        text = encoded(random, {"definitions": [damaged(random, random.choice(_definitions()))]}, 0).decode(
            "utf-8", "replace"
        )
    if random.random() < 0.6:
        text = spoiled(random, text.encode("utf-8", "replace")).decode("utf-8", "replace")
    for _ in range(random.choice((0, 0, 1, 2))):
        at = random.randrange(len(text) + 1)
        text = text[:at] + random.choice(_TANGLES) + text[at:]
    held.append(text)
    try:
        load_rulebook({"f.yaml": text})
    except RulebookError as error:
        assert error.problems
        return {"refused": 1}
    return {"accepted": 1}


# --- conditions ---------------------------------------------------------------------------------------------------------

_OPS = ("==", "!=", "<", "<=", ">", ">=", "in", "contains", "starts_with", "missing")
_NAMES = ("feature", "user", "properties.plan", "properties.n", "nothing", "")


def _tree(random: Random, depth: int = 0) -> dict[str, Any]:
    kind = random.choice(("compare", "compare", "all", "any", "not")) if depth < 6 else "compare"
    if kind == "compare":
        scalars = [v for v in NASTY if not isinstance(v, (dict, list))]
        value = [random.choice(scalars) for _ in range(3)] if random.random() < 0.2 else random.choice(scalars)
        return {"kind": kind, "field": random.choice(_NAMES), "op": random.choice(_OPS), "value": value}
    if kind == "not":
        return {"kind": kind, "of": _tree(random, depth + 1)}
    return {"kind": kind, "of": [_tree(random, depth + 1) for _ in range(random.randrange(4))]}


def conditions(random: Random, held: list[Any]) -> Outcome:
    """Condition trees over facts: a verdict, twice the same, and the column form never narrower; or refused as a definition."""
    tree: Any = _tree(random)
    if random.random() < 0.4:
        tree = damaged(random, tree)
    if random.random() < 0.02:
        for _ in range(random.choice((12, 20, 300))):
            tree = {"kind": "not", "of": tree}
    facts = damaged(random, {"feature": "x", "user": "u", "properties": {"plan": "pro", "n": 3}}, times=2)
    held += [tree, facts]
    try:
        condition = OnEvent.model_validate({"topic": "events.usage", "where": tree}).where
    except ValidationError:
        return {"refused": 1}
    if condition is None:
        return {"accepted": 1}
    flat = flatten(facts) if isinstance(facts, dict) else {}
    verdict = holds(condition, flat)
    assert verdict is holds(condition, flat)
    fields(condition)
    assert not verdict or bool(Columns(1, {}).possible(condition)[0])
    return {"accepted": 1}


# --- templates ----------------------------------------------------------------------------------------------------------

_WORDS = (
    "a", "b.c", "deep", "big", "numbers", "a.b.c.d", "x[0]", "x[-1]", "x['k']", "1", "0", "-1", "1.5", "1e400",
    "9" * 30, "'t'", "'\\ud800'",
    "none", "true", "[1, 2]", "(1, 2)", "{}", "self", "loop", "_", "__class__", "a.__class__", "''.__class__.__mro__",
)  # fmt: skip
_JOINS = (
    " + ",
    " - ",
    " * ",
    " / ",
    " // ",
    " % ",
    " ** ",
    " ~ ",
    " and ",
    " or ",
    " if a else ",
    " == ",
    " < ",
    " in ",
    " is ",
    "|",
    ".",
    "(",
    ")",
    "[",
    "]",
    ", ",
    "=",
)
_FILTERS = (
    "upper", "lower", "round(2)", "round(999999999, 'ceil')", "round(1, 'floor')", "default('x')", "default(a, true)",
    "first", "last", "sum",
    "sum(start=[])", "length", "sort", "min", "max", "int", "int(1, 99)", "float", "truncate(5)",
    "truncate(10 ** 9)", "string", "title", "trim", "abs",
    "map('x')", "join(',')", "format(1)", "replace('a', 'b' * 9999)", "attr('__class__')", "tojson", "center(99999999)",
)  # fmt: skip
_BLOCKS = (
    "{% if a %}",
    "{% else %}",
    "{% elif b %}",
    "{% endif %}",
    "{% for i in x %}",
    "{% endfor %}",
    "{% set a = 1 %}",
    "{% raw %}",
    "{% include 'x' %}",
    "{# c #}",
    "{{",
    "}}",
    "text ",
    "{%- if a -%}",
)
FACTS: dict[str, Any] = {
    "a": 3, "b": {"c": "text", "k": None}, "x": [1, 2, "é"], "numbers": {"rate": 0.2, "big": 2**63 - 1,
    "inf": 1e308}, "big": ["word " * 50] * 500,
}  # fmt: skip
FACTS["deep"] = json.loads('{"a":' * 400 + "1" + "}" * 400)


@cache
def _templates() -> list[str]:
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, str) and "{" in value:
            found.append(value)
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(part)

    walk([d.get("command", {}) for d in _definitions()])
    assert len(found) > 50
    return found


def _expression(random: Random) -> str:
    text = random.choice(_WORDS)
    for _ in range(random.choice((0, 1, 2, 4, 12))):
        text += (
            f"|{random.choice(_FILTERS)}" if random.random() < 0.4 else random.choice(_JOINS) + random.choice(_WORDS)
        )
    if random.random() < 0.02:
        sign = random.choice(("(", "[", "-", "not ", "{'a':"))
        text = sign * random.choice((5, 50, 3_000)) + text
    return "{{ " + text + " }}"


def templates(random: Random, held: list[Any]) -> Outcome:
    """Templates and facts: a JSON value of bounded size, or `RenderError`."""
    if random.random() < 0.5:
        source = "".join(
            random.choice((_expression(random), random.choice(_BLOCKS))) for _ in range(random.choice((1, 1, 2, 5)))
        )
    else:
        source = random.choice(_templates())
        if random.random() < 0.8:
            source = spoiled(random, source.encode()).decode("utf-8", "replace")
    held.append(source)
    try:
        rendered = Renderer().payload({"a": source, "b": [source]}, FACTS)
    except RenderError as error:
        assert error.reason
        return {"refused": 1}
    assert len(orjson.dumps(rendered)) <= 8 * MAX_OUTPUT_CHARS
    return {"accepted": 1}


DOORS: dict[str, tuple[Callable[[Random, list[Any]], Outcome], int, int]] = {
    "framing": (framing, 1, 180_000),
    "fetching": (fetching, 1, 100_000),
    "cloudevents": (events, 1, 240_000),
    "meter": (meter, ROWS, 260_000),
    "webhooks": (webhooks, 1, 100_000),
    "definitions": (definitions, 1, 40_000),
    "yaml": (texts, 1, 25_000),
    "conditions": (conditions, 1, 120_000),
    "templates": (templates, 1, 60_000),
}
"""Name → (door, inputs a call, inputs of a whole run)."""

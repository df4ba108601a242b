"""Parked runs of workflows as ORCHESTRATE's checkpoints write them: a real run, begun by the engine, in a million copies."""

from __future__ import annotations

from collections.abc import Iterator

from core.decide.packing import key
from core.definitions import Catalogue
from core.meter.keys import partition_of
from core.workflows.desk import Desk, Occurrence
from core.workflows.run import Run, pack, unpack
from core.workflows.shelf import Shelf
from core.workflows.step import run_id
from schemas.definitions import DEFINITION, Product, Workflow
from schemas.envelope import key as topic_key

TENANT, PRODUCT, NAME = "acme", "app", "bench-reminder"
DISORDER_MS = 100
DAY_MS = 86_400_000


def workflow() -> Workflow:
    """Remind after a wait, unless the person came back; a purchase ends it."""
    typed = {"kind": "compare", "field": "type", "op": "=="}
    made = DEFINITION.validate_python(
        {
            "kind": "workflow",
            "name": NAME,
            "id": NAME,
            "tenant": TENANT,
            "trigger": {"kind": "event", "topic": "events.usage", "where": {**typed, "value": "cart.created"}},
            "events": {"bought": {"where": {**typed, "value": "purchase.completed"}, "same": ["cart"]}},
            "goals": ["bought"],
            "start": "wait",
            "nodes": [
                {"kind": "wait", "id": "wait", "until": {"kind": "span", "span": "30d"}, "next": "segment"},
                {"kind": "branch", "id": "segment", "otherwise": "remind",
                 "paths": [{"when": {"kind": "compare", "field": "plan", "op": "==", "value": "free"}, "next": None}]},
                {"kind": "act", "id": "remind",
                 "command": {"type": "product.bench.remind", "title": "Your cart {{ cart }}", "text": "It is still there, {{ user }}.",
                             "payload": {"cart": "{{ cart }}", "due": "{{ now }}"}}},
            ],
        }
    )  # fmt: skip
    assert isinstance(made, Workflow)
    return made


def product() -> Product:
    """Its events are at most so much out of order: what timers wait beyond their time."""
    return Product(tenant=TENANT, name=PRODUCT, disorder_ms=DISORDER_MS)


def event(number: int, at: int) -> dict[str, object]:
    """The trigger of run `number`."""
    user = f"user-{number:08d}"
    return {
        "id": f"event-{number:010d}",
        "type": "cart.created",
        "user": user,
        "cart": f"cart-{number:08d}",
        "plan": "pro",
        "occurred_at": at,
    }


def a_run(at: int) -> Run:
    """One that waits, as the engine leaves it."""
    catalogue = Catalogue()
    catalogue.put(workflow())
    desk = Desk(Shelf(catalogue))
    data = event(0, at)
    desk.happened(Occurrence(TENANT, PRODUCT, f"user:{data['user']}", str(data["id"]), at, "events.usage", data), at)
    [run] = desk.runs(TENANT, f"user:{data['user']}")
    return run


def rows(numbers: range, dues: Iterator[int], partitions: int) -> Iterator[tuple[int, bytes, bytes]]:
    """(partition, key, value) of the state rows of these runs, each due at the next of `dues`."""
    run = unpack(pack(a_run(1_767_603_600_000)))
    [token] = run.tokens
    for number, due in zip(numbers, dues, strict=False):
        began = due - 30 * DAY_MS
        data = event(number, began)
        run.subject, run.cause = f"user:{data['user']}", str(data["id"])
        run.id = run_id(TENANT, NAME, run.subject, run.cause)
        run.began = run.clock = token.since = began
        token.due = due
        run.facts = {name: data[name] for name in run.facts}
        yield partition_of(topic_key(TENANT, run.subject), partitions), key("run", run.id), pack(run)


def version_row() -> tuple[bytes, bytes]:
    """The version that they are pinned to, which every partition keeps."""
    return key("workflow", TENANT, NAME, "1"), DEFINITION.dump_json(workflow())

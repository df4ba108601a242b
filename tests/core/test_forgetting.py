"""Who is to be forgotten, and what every role behind METER does about it. METER's part: `tests/core/meter/test_forget.py`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.delivery.dispatch import DispatchTask
from core.effects import Count, Effect, Emit, Observe
from core.forgetting import Forgetting, digest, named
from core.project import definition_rows, project
from schemas.commands import Command
from schemas.definitions import CommandTemplate, Connection, Forgotten, OnEvent, Rule
from schemas.delivery import Delivered, Outcome, Rejected, Retry
from schemas.registers import Signal
from tests.core.decide.test_signals import a_batch as signals_batch
from tests.core.decide.test_signals import a_signal
from tests.core.delivery.rig import Rig
from tests.helpers.words import NOON, a_batch, a_command, a_receipt, a_sink_record

SALT, OTHER = "5a" * 32, "07" * 32
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


def forgotten(subject: str, tenant: str = "acme", salt: str = SALT) -> Forgotten:
    kind: Any = subject.partition(":")[0]
    return Forgotten(tenant=tenant, name=digest(salt, tenant, subject), of=kind, salt=salt, asked_at=NOON)


def forgotten_count(effects: list[Effect], step: str) -> float:
    found = [
        e.n for e in effects if isinstance(e, Count) and (e.metric, e.labels) == ("uptake_forgotten_total", (step,))
    ]
    return sum(found)


@given(name=names, other=names)
def test_a_subject_is_known_by_its_hash_of_its_tenant_alone(name: str, other: str) -> None:
    catalogue = Catalogue()
    asked = Forgetting(catalogue)
    assert not asked.holds("acme", f"user:{name}") and asked.version == 0 and asked.tenants == []
    catalogue.put(forgotten(f"user:{name}"))
    catalogue.put(forgotten("user:long ago", salt=OTHER))
    assert asked.holds("acme", f"user:{name}") and asked.holds("acme", "user:long ago")
    assert not asked.holds("beta", f"user:{name}") and not asked.holds("acme", f"contact:{name}")
    assert asked.holds("acme", f"user:{other}") == (other in (name, "long ago"))
    assert asked.holds_key(f"acme|{name}".encode()) and asked.holds_key(f"acme|user:{name}".encode())
    assert not asked.holds_key(f"beta|{name}".encode()) and not asked.holds_key(None)
    stored = b"".join(d.model_dump_json().encode() for d in catalogue.heads())
    anyway = forgotten("user:somebody else").model_dump_json()  # "user", "0000" of a time: in the record of anybody
    assert len(name) < 4 or name in anyway or name.encode() not in stored


def test_the_version_grows_with_the_forgotten_only() -> None:
    catalogue = Catalogue()
    asked = Forgetting(catalogue)
    catalogue.put(Connection(name="hook", integration="webhook", config={}))
    assert asked.version == 0
    catalogue.put(forgotten("user:ann"))
    assert asked.version == 1
    catalogue.put(Connection(name="other", integration="webhook", config={}))
    assert asked.version == 1


@pytest.mark.parametrize(
    ("row", "subjects"),
    [
        ({"tenant": "acme", "user": "ann"}, {"user:ann"}),
        ({"tenant": "acme", "contact": "ann", "user": 5}, {"contact:ann"}),
        ({"specversion": "1.0", "data": {"tenant": "acme", "user": "ann"}}, {"user:ann"}),
        ({"tenant": "acme", "command": {"subject": "contact:ann"}}, {"contact:ann"}),
        ({"tenant": "acme", "subject": "feature:export", "data": {"user": "ann"}}, {"feature:export", "user:ann"}),
        (
            {"tenant": "acme", "contact": "ann", "former": "anon-1"},
            {"contact:ann", "contact:anon-1", "user:anon-1"},
        ),
        ({"tenant": "acme", "data": {"command": {"data": {"user": "ann"}}}}, {"user:ann"}),
    ],
)
def test_whom_a_record_names(row: dict[str, Any], subjects: set[str]) -> None:
    assert named(json.dumps(row).encode()) == ("acme", subjects)


@example(b'{"tenant": "acme", "user": "\xff"}')
@example(b'{"tenant": "acme", "data": ' + b'{"data": ' * 100_000)
@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda x: json.dumps(x).encode()))
def test_what_is_no_record_names_nobody(value: bytes) -> None:
    assert named(value) == (None, set())


def test_decide_forgets_cooldowns_and_decides_nothing_more() -> None:
    catalogue = Catalogue()
    command = CommandTemplate(type="success.user.help", title="t", text="t")
    trigger = OnEvent(topic="events.performance")
    catalogue.put(Rule(name="slow", id="slow", trigger=trigger, command=command, cooldown_s=3_600))
    task = SignalsTask(0, 1, catalogue)

    def commands(*subjects: str) -> tuple[list[str], list[Effect]]:
        effects = list(task.step(signals_batch(*(a_signal(subject=s, cause=f"{s}-{len(keys)}") for s in subjects))))
        made = [e for e in effects if isinstance(e, Emit) and e.topic.startswith("commands.")]
        return [Command.model_validate_json(e.value or b"").subject for e in made], effects

    keys: dict[bytes, bytes | None] = {}
    assert commands("user:ann", "user:bob")[0] == ["user:ann", "user:bob"]
    keys |= dict(task.drain())
    assert any(b"user:ann" in key for key in keys)
    catalogue.put(forgotten("user:ann"))
    effects = list(task.tick(NOON, ()))
    assert forgotten_count(effects, "decide") == 1
    assert Observe("uptake_accounting_difference", 0, ("matched",)) in effects
    keys |= dict(task.drain())
    assert [key for key, value in keys.items() if value is not None and b"user:ann" in key] == []
    made, effects = commands("user:ann", "user:cem")
    assert made == ["user:cem"] and forgotten_count(effects, "decide") == 1
    assert not any(b"user:ann" in (e.value or b"") for e in effects if isinstance(e, Emit))


def test_dispatch_suppresses_without_a_receipt() -> None:
    catalogue = Catalogue()
    catalogue.put(Connection(tenant="acme", name="hook", integration="webhook", config={}, enabled=True))
    catalogue.put(forgotten("user:ann"))
    task = DispatchTask(0, catalogue)
    about = [a_command(subject=s, cause=s) for s in ("user:ann", "contact:ann", "user:bob")]
    effects = list(task.step(a_batch("commands.product", about)))
    assert len([e for e in effects if isinstance(e, Emit)]) == 2
    assert Count("uptake_suppressed_total", 1, ("dispatch", "forgotten")) in effects
    assert (task.accounts.suppressed, task.accounts.routed, task.accounts.difference) == (1, 2, 0)


def hook() -> Connection:
    return Connection(tenant="acme", name="hook", integration="webhook", config={}, enabled=True, max_concurrency=1)


def test_deliveries_that_wait_end_and_later_ones_are_not_taken() -> None:
    rig = Rig(hook())
    for subject in ("user:bob", "user:ann", "user:ann"):
        rig.take(a_command(subject=subject, cause=f"{subject}-{rig.offset}"))
    rig.checkpoint()
    assert any(b"user:ann" in value for value in rig.state.values())
    rig.catalogue.put(forgotten("user:ann"))
    effects = rig.tick()
    assert forgotten_count(effects, "deliver") == 2
    rig.checkpoint()
    assert not any(b"user:ann" in value for value in rig.state.values())
    rig.take(a_command(subject="user:ann", cause="later"))
    rig.crash()
    assert rig.task.waiting == 1 and rig.task.accounts.difference(rig.task.waiting) == 0
    assert rig.receipts() == []


@pytest.mark.parametrize("outcome", [Delivered(), Retry(reason="http_503"), Rejected(reason="http_400")])
def test_what_is_in_the_air_ends_first_and_leaves_nothing(outcome: Outcome) -> None:
    rig = Rig(hook())
    rig.take(a_command(subject="user:ann"))
    [attempt] = rig.due()
    rig.catalogue.put(forgotten("user:ann"))
    assert forgotten_count(rig.tick(), "deliver") == 0
    also = [Emit("theirs", None, b"x")]
    effects = rig.finish(attempt, outcome, also)
    assert [e for e in effects if not isinstance(e, Count | Observe)] == (
        also if isinstance(outcome, Delivered) else []
    )
    assert forgotten_count(effects, "deliver") == 1
    assert rig.task.waiting == 0 and rig.task.accounts.difference(0) == 0
    assert forgotten_count(rig.tick(), "deliver") == 0


def test_the_projection_leaves_them_out_and_does_not_show_the_records() -> None:
    catalogue = Catalogue()
    catalogue.put(forgotten("user:ann"))
    asked = Forgetting(catalogue)
    ann, bob = a_command(subject="user:ann"), a_command(subject="user:bob")
    for topic, words in (
        ("commands.product", [ann, bob]),
        ("receipts", [a_receipt(ann), a_receipt(bob)]),
        ("sink", [a_sink_record(ann), a_sink_record(bob)]),
    ):
        made = project(a_batch(topic, words), asked)
        [table] = {"commands.product": "commands"}.get(topic, topic).split()
        assert len(made.rows[table]) == 1 and "user:ann" not in str(made.rows)
        assert forgotten_count(made.effects, "project") == 1
    letters: list[bytes | None] = [b"broken", json.dumps({"tenant": "acme", "user": "ann"}).encode(), b"broken"]
    made = project(a_batch("dead-letters", letters, keys=[b"acme|ann", b"nobody", b"acme|bob"]), asked)
    assert [row["key"] for row in made.rows["dead_letters"]] == ["acme|bob"]
    assert definition_rows(list(catalogue.heads())) == []


def test_signals_of_others_are_read_as_ever() -> None:
    """The record of one tenant's subject costs another tenant's rows nothing but a look-up."""
    catalogue = Catalogue()
    catalogue.put(forgotten("user:u1", tenant="beta"))
    command = CommandTemplate(type="success.user.help", title="t", text="t")
    catalogue.put(Rule(name="slow", id="slow", trigger=OnEvent(topic="events.performance"), command=command))
    task = SignalsTask(0, 1, catalogue)
    signal: Signal = a_signal()
    assert any(isinstance(e, Emit) and e.topic == "commands.success" for e in task.step(signals_batch(signal)))

"""Signals: single rows and triggers by hand become commands, once."""

from __future__ import annotations

import random

import msgspec
import numpy as np

from core.batch import Batch
from core.decide.signals import SignalsTask
from core.definitions import Catalogue
from core.effects import Count, DeadLetter, Effect, Emit
from schemas.commands import Command, command_id
from schemas.definitions import CommandTemplate, Compare, OnEvent, OnStage, Pause, Rule
from schemas.delivery import Receipt
from schemas.registers import Signal

AT = 1_767_225_600_000


class Keys:
    def key(self, row: int) -> bytes | None:
        return b"acme|user:u1"


def a_batch(*signals: Signal | bytes) -> Batch:
    values: list[bytes | None] = [s if isinstance(s, bytes) else msgspec.json.encode(s) for s in signals]
    n = len(values)
    return Batch("signals", 3, values, np.arange(n), np.full(n, AT + 1_000), n, Keys())


def a_signal(**more: object) -> Signal:
    fields: dict[str, object] = {
        "tenant": "acme",
        "product": "shop",
        "subject": "user:u1",
        "kind": "event",
        "cause": "acme::e1",
        "rules": ["slow"],
        "at": AT,
        "data": {"type": "request.completed", "latency_ms": 5000.0, "user": "u1", "service": "api"},
        "traceparent": "00-1-2-01",
        **more,
    }
    return msgspec.convert(fields, Signal)


def a_catalogue(**more: object) -> Catalogue:
    catalogue = Catalogue()
    fields: dict[str, object] = {
        "name": "slow",
        "id": "slow",
        "trigger": OnEvent(topic="events.performance", where=Compare(field="latency_ms", op=">", value=1000)),
        "condition": Compare(field="service", op="==", value="api"),
        "command": CommandTemplate(type="success.user.help", title="{{ user }} waited {{ latency_ms }} ms", text="t"),
        **more,
    }
    catalogue.put(Rule.model_validate(fields))
    return catalogue


def commands(effects: list[Effect]) -> list[Command]:
    found = [e for e in effects if isinstance(e, Emit) and e.topic.startswith("commands.")]
    return [Command.model_validate_json(e.value or b"") for e in found]


def step(task: SignalsTask, *signals: Signal | bytes) -> list[Effect]:
    return list(task.step(a_batch(*signals)))


def test_an_event_becomes_a_command() -> None:
    (command,) = commands(step(SignalsTask(3, 12, a_catalogue()), a_signal()))
    assert command.id == command_id("acme", "slow", "user:u1", "acme::e1")
    assert command.title == "u1 waited 5000.0 ms"
    assert command.traceparent == "00-1-2-01" and command.expires_at == AT + 1_000 + 86_400_000
    assert command.why.numbers["latency_ms"] == 5000


def test_what_does_not_meet_the_rule_is_silent() -> None:
    task = SignalsTask(3, 12, a_catalogue())
    fast = a_signal(data={"latency_ms": 10, "service": "api"})
    other = a_signal(data={"latency_ms": 5000, "service": "web"})
    about_another = a_signal(subject="account:a1")
    assert step(task, fast, other, about_another) == []


def test_one_bad_row_disturbs_nothing() -> None:
    effects = step(SignalsTask(3, 12, a_catalogue()), b"{", a_signal(), b'{"tenant": 5}')
    dead = [e for e in effects if isinstance(e, DeadLetter)]
    assert [(d.offset, d.reason, d.value) for d in dead] == [(0, "invalid", b"{"), (2, "invalid", b'{"tenant": 5}')]
    assert len(commands(effects)) == 1


def test_one_command_a_bucket_whatever_the_order() -> None:
    signals = [a_signal(cause=f"e{i}", at=AT + i * 20_000) for i in range(12)]
    ids = set()
    for seed in range(5):
        random.Random(seed).shuffle(signals)
        task = SignalsTask(3, 1, a_catalogue(cooldown_s=60))
        got = commands([e for s in signals for e in step(task, s)])
        assert len(got) == 4 and {c.cause for c in got} == {str(AT + i * 60_000) for i in range(4)}
        assert task.actor.books.difference == 0 and task.actor.books.suppressed == 8
        ids.add(frozenset(c.id for c in got))
    assert len(ids) == 1


def test_ceilings_are_shared_by_the_partitions() -> None:
    task = SignalsTask(3, 12, a_catalogue(ceiling_per_hour=24))
    effects = step(task, *(a_signal(cause=f"e{i}") for i in range(5)))
    assert len(commands(effects)) == 2
    reasons = [
        Receipt.model_validate_json(e.value or b"") for e in effects if isinstance(e, Emit) and e.topic == "receipts"
    ]
    assert [(r.status, r.reason, r.attempt, r.final) for r in reasons] == [("suppressed", "ceiling", 0, True)] * 3


def test_a_trigger_by_hand() -> None:
    catalogue = a_catalogue(
        name="A9",
        trigger=OnStage(stages=["low"]),
        condition=Compare(field="stage", op="==", value="growth"),
        cooldown_s=600,
        command=CommandTemplate(
            type="product.tutorial.deploy",
            title="{{ feature }}: {{ rate_text }}",
            text="{{ reason }}",
            segment="non_adopters",
            payload={"numbers": "{{ numbers }}", "left": "{{ non_adopters }}"},
        ),
    )
    task = SignalsTask(3, 12, catalogue)
    data = {"feature": "export", "stage": "low", "rate": None, "users": 3, "target_users": 10, "previous": "low"}
    by_hand = a_signal(kind="trigger", subject="feature:export", cause="key-1", rules=["A9", "gone"], data=data)
    effects = step(task, by_hand, msgspec.structs.replace(by_hand, cause="key-2"))
    one, two = commands(effects)
    assert one.id == command_id("acme", "slow", "feature:export", "key-1") and two.cause == "key-2"
    assert one.title == "export: no data" and one.payload["left"] == 7
    assert one.segment is not None and one.segment.size == 7
    assert Count("uptake_failed_total", 1, ("decide.signals.3", "unknown_rule")) in effects


def test_backfill_and_pause() -> None:
    catalogue = a_catalogue()
    task = SignalsTask(3, 12, catalogue)
    assert not commands(step(task, a_signal(act=False)))
    catalogue.put(Pause(tenant="acme", name="tenant:acme", scope="tenant", of="acme"))
    assert not commands(step(task, a_signal()))
    assert (task.actor.books.matched, task.actor.books.suppressed) == (2, 2)


def test_state_survives() -> None:
    catalogue = a_catalogue(cooldown_s=60, ceiling_per_hour=12)
    first = SignalsTask(3, 12, catalogue)
    assert len(commands(step(first, a_signal()))) == 1
    second = SignalsTask(3, 12, catalogue)
    for key, value in first.drain():
        second.load(key, value)
    second.loaded()
    assert first.drain() == [] == second.drain()
    effects = step(second, a_signal(cause="again"), a_signal(cause="later", at=AT + 60_000))
    reasons = [Receipt.model_validate_json(e.value or b"").reason for e in effects if isinstance(e, Emit)]
    assert reasons == ["cooldown", "ceiling"]

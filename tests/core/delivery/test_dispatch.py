"""A command → deliveries, or the reason why there are none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.delivery.dispatch import DispatchTask, delivery_topic
from core.delivery.ledger import HOUR_MS, REPLAY_HORIZON_MS
from core.effects import Count, DeadLetter, Effect, Emit, Observe
from schemas.commands import Command
from schemas.definitions import Pause, Silence
from schemas.delivery import Delivery, Receipt
from schemas.topics import BY_NAME, INTEGRATIONS_WITH_TOPICS
from tests.core.delivery.rig import hook as a_connection
from tests.helpers.words import NOON, a_batch, a_command


def a_task(*definitions: Any) -> DispatchTask:
    catalogue = Catalogue()
    for definition in definitions:
        catalogue.put(definition)
    return DispatchTask(0, catalogue)


def feed(task: DispatchTask, *commands: Command, at: int = NOON, first: int = 0) -> list[Effect]:
    return list(task.step(a_batch("commands.product", commands, at=at, first=first)))


def deliveries(effects: list[Effect]) -> list[Delivery]:
    return [
        Delivery.model_validate_json(e.value or b"")
        for e in effects
        if isinstance(e, Emit) and e.topic.startswith("deliveries.")
    ]


def receipts(effects: list[Effect]) -> list[Receipt]:
    return [
        Receipt.model_validate_json(e.value or b"") for e in effects if isinstance(e, Emit) and e.topic == "receipts"
    ]


def reasons(effects: list[Effect]) -> list[str | None]:
    return [r.reason for r in receipts(effects)]


def test_goes_to_every_connection_that_wants_it() -> None:
    task = a_task(
        a_connection("all"),
        a_connection("product", domains=["product"]),
        a_connection("marketing", domains=["marketing"]),
        a_connection("tutorials", types=["product.tutorial.*"]),
        a_connection("exact", types=["product.tutorial.deploy"]),
        a_connection("others", types=["product.tutorial.retire"]),
        a_connection("urgent", min_priority="urgent"),
        a_connection("everybody", tenant="all"),
        a_connection("foreign", tenant="globex"),
        a_connection("later", effective_from=NOON + 1),
    )
    assert [d.connection for d in deliveries(feed(task, a_command()))] == [
        "all", "everybody", "exact", "product", "tutorials",
    ]  # fmt: skip


def test_a_tenants_own_connection_hides_everybodys_of_the_same_name() -> None:
    task = a_task(a_connection("hook", tenant="all", integration="slack"), a_connection("hook"))
    [delivery] = deliveries(feed(task, a_command()))
    assert delivery.integration == "webhook"


def test_is_keyed_by_the_connections_owner_so_that_one_worker_holds_its_limits() -> None:
    task = a_task(a_connection("hook", tenant="all"))
    emits = [e for e in feed(task, a_command(), a_command(tenant="globex")) if isinstance(e, Emit)]
    assert [e.key for e in emits] == [b"all|hook", b"all|hook"]
    assert len({d.id for d in deliveries(list(emits))}) == 2


def test_ids_come_from_command_and_connection_alone() -> None:
    one = deliveries(feed(a_task(a_connection()), a_command(), first=3))
    other = deliveries(feed(a_task(a_connection(description="edited", version=2)), a_command(), first=99))
    assert [d.id for d in one] == [d.id for d in other]


def test_a_new_connection_is_sandboxed() -> None:
    task = a_task(a_connection("new", enabled=False), a_connection("on"))
    assert {d.connection: d.sandboxed for d in deliveries(feed(task, a_command()))} == {"new": True, "on": False}


@pytest.mark.parametrize("integration", [*INTEGRATIONS_WITH_TOPICS, "carrier-pigeon"])
@pytest.mark.parametrize("urgent", [True, False])
def test_every_integration_has_a_declared_topic(integration: str, urgent: bool) -> None:
    topic = delivery_topic(integration, urgent=urgent)
    assert topic in BY_NAME
    assert topic.endswith(".urgent") is urgent


def test_what_nobody_wants_is_left_to_other_consumers_and_says_so() -> None:
    task = a_task()
    effects = feed(task, a_command())
    assert reasons(effects) == ["no_connection"]
    assert Count("uptake_suppressed_total", 1, ("dispatch", "no_connection")) in effects
    assert task.accounts.left == 1


def test_the_expired_is_suppressed() -> None:
    task = a_task(a_connection())
    assert reasons(feed(task, a_command(expires_at=NOON), at=NOON)) == ["expired"]


def test_a_repeat_is_suppressed_and_its_receipt_is_another() -> None:
    task = a_task(a_connection())
    assert len(deliveries(feed(task, a_command()))) == 1
    again = feed(task, a_command(), a_command(), first=1)
    assert reasons(again) == ["duplicate", "duplicate"]
    assert len({r.id for r in receipts(again)}) == 2
    assert not deliveries(again)


def test_two_tenants_may_use_the_same_id() -> None:
    task = a_task(a_connection("hook", tenant="all"))
    assert len(deliveries(feed(task, a_command(id="x"), a_command(id="x", tenant="globex")))) == 2


@pytest.mark.parametrize(
    "pause",
    [
        Pause(tenant="acme", name="tenant:acme", scope="tenant", of="acme"),
        Pause(name="tenant:all", scope="tenant", of="all"),
        Pause(name="rule:A1.2", scope="rule", of="A1.2"),
        Pause(tenant="acme", name="rule:A1.2", scope="rule", of="A1.2"),
    ],
)
def test_what_is_paused_is_suppressed(pause: Pause) -> None:
    assert reasons(feed(a_task(a_connection(), pause), a_command())) == ["paused"]


@pytest.mark.parametrize(
    "pause",
    [
        Pause(tenant="globex", name="rule:A1.2", scope="rule", of="A1.2"),
        Pause(name="rule:A1.3", scope="rule", of="A1.3"),
        Pause(name="connection:hook", scope="connection", of="hook"),
    ],
)
def test_anothers_pause_changes_nothing_and_a_paused_connection_holds_back_later(pause: Pause) -> None:
    assert len(deliveries(feed(a_task(a_connection(), pause), a_command()))) == 1


@pytest.mark.parametrize(
    ("silence", "silent"),
    [
        ({}, True),
        ({"types": ["product.*"]}, True),
        ({"types": ["marketing.*"]}, False),
        ({"rules": ["A1.2"], "subjects": ["feature:sea*"]}, True),
        ({"rules": ["A1.2"], "subjects": ["feature:cart"]}, False),
        ({"ends_at": NOON}, False),
        ({"starts_at": NOON + 1}, False),
        ({"tenant": "globex"}, False),
    ],
)
def test_a_silence_suppresses_what_it_names_while_it_lasts(silence: dict[str, Any], silent: bool) -> None:
    values = {"name": "quiet", "ends_at": NOON + 1_000, **silence}
    effects = feed(a_task(a_connection(), Silence(**values)), a_command())
    assert reasons(effects) == (["silence"] if silent else [])


def test_definitions_that_change_take_effect_with_the_next_row() -> None:
    catalogue = Catalogue()
    task = DispatchTask(0, catalogue)
    assert reasons(feed(task, a_command(cause="1"))) == ["no_connection"]
    catalogue.put(a_connection())
    assert len(deliveries(feed(task, a_command(cause="2"), first=1))) == 1
    catalogue.apply(b"acme|connection|hook", None)
    assert reasons(feed(task, a_command(cause="3"), first=2)) == ["no_connection"]


@pytest.mark.parametrize(
    ("value", "reason"), [(None, "null_value"), (b"{", "invalid"), (b"[]", "invalid"), (b'{"id": 1}', "invalid")]
)
def test_a_bad_row_is_set_aside_and_its_neighbours_go_on(value: bytes | None, reason: str) -> None:
    task = a_task(a_connection())
    batch = a_batch("commands.product", [a_command(cause="1"), value, a_command(cause="2")], keys=[b"a", b"b", b"c"])
    effects = list(task.step(batch))
    [dead] = [e for e in effects if isinstance(e, DeadLetter)]
    assert (dead.reason, dead.value, dead.key, dead.offset, dead.step) == (reason, value, b"b", 1, "dispatch")
    assert len(deliveries(effects)) == 2
    assert task.accounts.commands == 2


def test_the_trace_travels_on() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    [emit] = [e for e in feed(a_task(a_connection()), a_command(traceparent=trace)) if isinstance(e, Emit)]
    assert ("traceparent", trace.encode()) in emit.headers


def test_ids_are_remembered_until_expiry_and_horizon_over_restarts_and_then_forgotten() -> None:
    task = a_task(a_connection())
    command = a_command(expires_at=NOON + HOUR_MS)
    feed(task, command)
    saved = dict(task.drain())
    restarted = a_task(a_connection())
    for key, value in saved.items():
        restarted.load(key, value)
    restarted.loaded()
    assert reasons(feed(restarted, command)) == ["duplicate"]
    assert restarted.accounts.commands == 2
    feed(restarted, a_command(cause="other"), at=NOON + REPLAY_HORIZON_MS + 3 * HOUR_MS)
    gone = {key for key, value in restarted.drain() if value is None}
    assert gone == {key for key in saved if key.startswith(b"ledger|")}
    # What is this old is suppressed all the same, by its expiry.
    assert reasons(feed(restarted, command, at=NOON + REPLAY_HORIZON_MS + 3 * HOUR_MS)) == ["expired"]


a_row = st.sampled_from(
    [
        a_command(cause="1"),
        a_command(cause="2"),
        a_command(cause="3", type="marketing.audience.build"),
        a_command(cause="4", rule="paused"),
        a_command(cause="5", expires_at=NOON - 1),
        a_command(cause="6", tenant="globex"),
    ]
)


@settings(max_examples=60)
@given(st.lists(a_row, max_size=20), st.lists(st.integers(1, 5), min_size=1))
def test_accounts_balance_and_any_split_gives_the_same(rows: list[Command], cuts: list[int]) -> None:
    def make() -> DispatchTask:
        return a_task(a_connection(domains=["product"]), Pause(name="rule:paused", scope="rule", of="paused"))

    whole = make()
    expected = feed(whole, *rows)
    split, found, at, turn = make(), [], 0, 0
    while at < len(rows):
        size = cuts[turn % len(cuts)]
        found += feed(split, *rows[at : at + size], first=at)
        at, turn = at + size, turn + 1
    assert [e for e in found if isinstance(e, Emit)] == [e for e in expected if isinstance(e, Emit)]
    assert split.accounts == whole.accounts
    assert dict(split.drain()) == dict(whole.drain())
    assert whole.accounts.commands == len(rows)
    assert list(whole.tick(NOON, ())) == [Observe("uptake_accounting_difference", 0, ("commanded",))]

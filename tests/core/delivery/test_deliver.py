"""Deliveries wait as rows, go out as attempts, end as receipts. The clock is the test's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.delivery.deliver import Attempt, DeliverTask
from core.delivery.dispatch import bind
from core.effects import Count, DeadLetter, Effect, Emit, Observe
from core.metrics import METRICS
from schemas.commands import Command
from schemas.definitions import Connection, Pause
from schemas.delivery import Delivered, Outcome, Receipt, Rejected, Retry
from tests.helpers.words import NOON, a_batch, a_command

OK = Delivered()
DAY = 86_400_000


class Rig:
    """One DELIVER task, its definitions, and a clock."""

    def __init__(self, *connections: Connection, max_waiting: int = 100_000, max_all: int = 400_000) -> None:
        self.catalogue = Catalogue()
        self.connections = {c.name: c for c in connections}
        for connection in connections:
            self.catalogue.put(connection)
        self.task = DeliverTask(0, self.catalogue, max_waiting=max_waiting, max_all=max_all)
        self.now = NOON
        self.effects: list[Effect] = []
        self.state: dict[bytes, bytes] = {}
        self.offset = 0

    def take(self, command: Command, connection: str = "hook") -> None:
        emit = bind(command, self.connections[connection])
        batch = a_batch(emit.topic, [emit.value], keys=[emit.key], first=self.offset, at=self.now)
        self.offset += 1
        self.effects += self.task.step(batch)

    def due(self, free: int = 1_000) -> list[Attempt]:
        return self.task.due(self.now, free)

    def finish(self, attempt: Attempt, outcome: Outcome, also: Sequence[Effect] = ()) -> list[Effect]:
        effects = self.task.finished(attempt, outcome, self.now, took_ms=5.0, also=also)
        self.effects += effects
        return effects

    def tick(self) -> list[Effect]:
        effects = list(self.task.tick(self.now, ()))
        self.effects += effects
        return effects

    def checkpoint(self) -> None:
        for key, value in self.task.drain():
            if value is None:
                del self.state[key]
            else:
                self.state[key] = value

    def crash(self) -> None:
        """Everything since the last checkpoint is lost."""
        self.task = DeliverTask(0, self.catalogue)
        for key, value in self.state.items():
            self.task.load(key, value)
        self.task.loaded()

    def receipts(self) -> list[Receipt]:
        return [
            Receipt.model_validate_json(e.value or b"")
            for e in self.effects
            if isinstance(e, Emit) and e.topic == "receipts"
        ]

    def dead(self) -> list[DeadLetter]:
        return [e for e in self.effects if isinstance(e, DeadLetter)]

    def difference(self) -> int:
        return self.task.accounts.difference(self.task.waiting)


def hook(name: str = "hook", **changed: Any) -> Connection:
    values: dict[str, Any] = {"tenant": "acme", "name": name, "integration": "webhook", "config": {}, "enabled": True}
    return Connection(**{**values, **changed})


def test_a_delivery_goes_out_once_and_ends() -> None:
    rig = Rig(hook())
    rig.take(a_command())
    [attempt] = rig.due()
    assert rig.due() == []
    assert (attempt.number, attempt.sandboxed) == (1, False)
    rig.finish(attempt, Delivered(remote_id="42"), also=[Emit("theirs", None, b"x")])
    [receipt] = rig.receipts()
    assert (receipt.status, receipt.final, receipt.attempt, receipt.remote_id) == ("delivered", True, 1, "42")
    assert receipt.delivery == attempt.delivery.id
    assert receipt.took_ms == 5.0
    assert any(isinstance(e, Emit) and e.topic == "theirs" for e in rig.effects)
    assert rig.task.waiting == 0
    assert rig.difference() == 0
    assert rig.due() == []


def test_what_came_and_went_between_two_checkpoints_leaves_no_row() -> None:
    rig = Rig(hook())
    rig.take(a_command())
    rig.finish(rig.due()[0], OK)
    assert [key for key, _ in rig.task.drain()] == [b"counters"]


def test_a_failed_attempt_is_parked_and_tried_again_under_the_same_id() -> None:
    rig = Rig(hook())
    rig.take(a_command())
    [first] = rig.due()
    rig.finish(first, Retry(reason="http_503"))
    [receipt] = rig.receipts()
    assert (receipt.status, receipt.final, receipt.reason) == ("retrying", False, "http_503")
    assert receipt.retry_at is not None
    rig.now = receipt.retry_at - 1
    assert rig.due() == []
    assert rig.task.next_at(rig.now) == receipt.retry_at
    rig.now += 1
    [second] = rig.due()
    assert (second.number, second.delivery.id) == (2, first.delivery.id)


def test_retry_after_is_honoured_for_the_whole_connection_but_for_no_other() -> None:
    rig = Rig(hook(max_concurrency=1), hook("other"))
    rig.take(a_command(cause="1"))
    rig.take(a_command(cause="2"))
    rig.take(a_command(cause="3"), "other")
    attempts = {a.delivery.connection: a for a in rig.due()}
    rig.finish(attempts["hook"], Retry(reason="http_429", after_s=30))
    rig.finish(attempts["other"], OK)
    rig.take(a_command(cause="4"), "other")
    rig.now += 29_999
    assert [a.delivery.connection for a in rig.due()] == ["other"]
    rig.now += 2
    assert [a.delivery.command.cause for a in rig.due()] == ["2"]


def test_budget_of_attempts_ends_in_a_receipt_and_a_dead_letter_with_the_original_bytes() -> None:
    rig = Rig(hook(max_attempts=3))
    rig.take(a_command())
    original = bind(a_command(), rig.connections["hook"]).value
    for _ in range(3):
        [attempt] = rig.due()
        rig.finish(attempt, Retry(reason="connect"))
        rig.now += 10_000
    assert [r.status for r in rig.receipts()] == ["retrying", "retrying", "rejected"]
    last = rig.receipts()[-1]
    assert (last.final, last.reason, last.attempt) == (True, "attempts_exhausted: connect", 3)
    [dead] = rig.dead()
    assert (dead.value, dead.reason, dead.topic, dead.offset) == (
        original,
        "attempts_exhausted",
        "deliveries.webhook",
        0,
    )
    assert rig.difference() == 0


def test_a_retry_that_would_come_too_late_is_final_now() -> None:
    rig = Rig(hook(max_age_s=60))
    rig.take(a_command())
    [attempt] = rig.due()
    rig.finish(attempt, Retry(reason="http_503", after_s=61))
    assert [d.reason for d in rig.dead()] == ["too_old"]
    rig.take(a_command(cause="2", expires_at=rig.now + 5_000))
    rig.finish(rig.due()[0], Retry(reason="http_503", after_s=6))
    assert [d.reason for d in rig.dead()] == ["too_old", "would_expire"]


def test_rejected_is_final_at_once_and_can_be_replayed() -> None:
    rig = Rig(hook())
    rig.take(a_command())
    [attempt] = rig.due()
    rig.finish(attempt, Rejected(reason="http_404"))
    [dead] = rig.dead()
    assert dead.detail == "http_404"
    batch = a_batch(dead.topic, [dead.value], keys=[dead.key], first=77)
    rig.effects += rig.task.step(batch)
    [again] = rig.due()
    assert (again.delivery.id, again.number) == (attempt.delivery.id, 1)
    rig.finish(again, OK)
    assert len({r.id for r in rig.receipts()}) == 2
    assert rig.difference() == 0


def test_the_same_delivery_read_twice_while_it_waits_is_one() -> None:
    rig = Rig(hook())
    rig.take(a_command())
    rig.take(a_command())
    assert len(rig.due()) == 1
    assert Count("uptake_suppressed_total", 1, ("deliver", "duplicate")) in rig.effects
    assert rig.difference() == 0


def test_what_waits_until_its_expiry_is_suppressed_and_never_sent() -> None:
    rig = Rig(hook())
    rig.catalogue.put(Pause(name="connection:hook", scope="connection", of="hook"))
    rig.take(a_command(expires_at=NOON + 10_000))
    rig.now += 10_000
    rig.tick()
    [receipt] = rig.receipts()
    assert (receipt.status, receipt.reason, receipt.final) == ("suppressed", "expired", True)
    assert rig.dead() == []
    rig.catalogue.apply(b"all|pause|connection:hook", None)
    assert rig.due() == []
    assert rig.difference() == 0


def test_an_attempt_in_flight_is_not_expired_under_its_feet() -> None:
    rig = Rig(hook())
    rig.take(a_command(expires_at=NOON + 10))
    [attempt] = rig.due()
    rig.now += 10
    rig.tick()
    assert rig.receipts() == []
    rig.finish(attempt, Retry(reason="timeout"))
    assert [r.reason for r in rig.receipts()] == ["would_expire: timeout"]
    assert rig.difference() == 0


@pytest.mark.parametrize(
    "pause",
    [
        Pause(tenant="acme", name="tenant:acme", scope="tenant", of="acme"),
        Pause(name="tenant:all", scope="tenant", of="all"),
        Pause(name="rule:A1.2", scope="rule", of="A1.2"),
        Pause(tenant="acme", name="connection:hook", scope="connection", of="hook"),
    ],
)
def test_a_pause_holds_what_waits_and_resume_lets_it_go_in_order(pause: Pause) -> None:
    rig = Rig(hook())
    for cause in "123":
        rig.take(a_command(cause=cause))
    rig.catalogue.put(pause)
    assert rig.due() == []
    rig.now += 3_600_000
    assert rig.due() == []
    assert rig.task.waiting == 3
    rig.catalogue.apply(f"{pause.tenant}|pause|{pause.name}".encode(), None)
    assert [a.delivery.command.cause for a in rig.due()] == ["1", "2", "3"]


def test_a_paused_rule_holds_up_no_other() -> None:
    rig = Rig(hook(max_concurrency=1))
    rig.catalogue.put(Pause(name="rule:A1.2", scope="rule", of="A1.2"))
    rig.take(a_command(cause="1"))
    rig.take(a_command(cause="2", rule="A1.3"))
    assert [a.delivery.command.cause for a in rig.due()] == ["2"]


def test_concurrency_bounds_one_connection_and_not_its_neighbour() -> None:
    rig = Rig(hook("dead", max_concurrency=4), hook("healthy", max_concurrency=8))
    for n in range(100):
        rig.take(a_command(cause=f"d{n}"), "dead")
        rig.take(a_command(cause=f"h{n}"), "healthy")
    stuck: list[Attempt] = []
    done = 0
    while attempts := rig.due():
        for attempt in attempts:
            if attempt.delivery.connection == "dead":
                stuck.append(attempt)
            else:
                rig.finish(attempt, OK)
                done += 1
    assert (len(stuck), done) == (4, 100)


def test_a_rate_is_kept_over_any_second() -> None:
    rig = Rig(hook(rate_per_s=5.0, max_concurrency=256))
    for n in range(100):
        rig.take(a_command(cause=str(n)))
    sent: list[int] = []
    for _ in range(600):
        for attempt in rig.due():
            sent.append(rig.now)
            rig.finish(attempt, OK)
        rig.now += 10
    for start in range(NOON, rig.now, 100):
        assert sum(start <= at < start + 1_000 for at in sent) <= 10  # a second's worth, and one saved up
    assert 5 * 6 <= len(sent) <= 5 * 6 + 5


def test_a_slow_rate_lets_one_by_every_so_often() -> None:
    rig = Rig(hook(rate_per_s=0.5))
    for n in range(5):
        rig.take(a_command(cause=str(n)))
    assert len(rig.due()) == 1
    at = rig.task.next_at(rig.now)
    assert at is not None
    assert 1_900 <= at - rig.now <= 2_001
    rig.now = at
    assert len(rig.due()) == 1


def test_urgent_goes_first() -> None:
    rig = Rig(hook(max_concurrency=1))
    rig.take(a_command(cause="low", priority="low"))
    rig.take(a_command(cause="normal"))
    rig.take(a_command(cause="urgent", priority="urgent"))
    order = []
    while attempts := rig.due():
        order.append(attempts[0].delivery.command.cause)
        rig.finish(attempts[0], OK)
    assert order == ["urgent", "normal", "low"]


def test_a_connection_that_is_no_longer_enabled_goes_to_the_sandbox() -> None:
    rig = Rig(hook())
    rig.take(a_command())
    rig.catalogue.put(hook(enabled=False))
    assert rig.due()[0].sandboxed


def test_a_delivery_made_for_the_sandbox_stays_there() -> None:
    rig = Rig(hook(enabled=False))
    rig.take(a_command())
    rig.catalogue.put(hook(enabled=True))
    assert rig.due()[0].sandboxed


def test_a_retired_connection_is_an_attempt_without_one() -> None:
    rig = Rig(hook())
    rig.take(a_command())
    rig.catalogue.apply(b"acme|connection|hook", None)
    [attempt] = rig.due()
    assert attempt.connection is None
    rig.finish(attempt, Rejected(reason="connection_retired"))
    assert [d.detail for d in rig.dead()] == ["connection_retired"]


def test_the_queue_is_bounded_and_what_is_over_is_set_aside() -> None:
    rig = Rig(hook(), hook("other"), max_waiting=2)
    for n in range(3):
        rig.take(a_command(cause=str(n)))
    rig.take(a_command(), "other")
    assert [d.reason for d in rig.dead()] == ["queue_full"]
    assert [r.reason for r in rig.receipts()] == ["queue_full"]
    assert rig.task.waiting == 3
    assert rig.difference() == 0


def test_all_queues_together_are_bounded() -> None:
    rig = Rig(*(hook(name) for name in ("hook", "b", "c")), max_all=2)
    for name in ("hook", "b", "c"):
        rig.take(a_command(), name)
    assert [d.reason for d in rig.dead()] == ["queue_full"] and rig.task.waiting == 2 and rig.difference() == 0


def test_a_delivery_that_was_sent_again_says_so_when_it_dies_again() -> None:
    """Also after a crash: the headers wait with the row."""
    rig = Rig(hook(max_attempts=1))
    emit = bind(a_command(), rig.connections["hook"])
    own = [("traceparent", b"00-1"), ("uptake-replays", b"1")]
    rig.effects += rig.task.step(a_batch(emit.topic, [emit.value], keys=[emit.key], headed={0: own}, at=rig.now))
    rig.checkpoint()
    rig.crash()
    [attempt] = rig.due()
    rig.finish(attempt, Retry(reason="http_500"))
    [dead] = rig.dead()
    assert list(dead.headers) == own and dead.key == emit.key and dead.value == emit.value


def test_a_dead_destination_uses_up_probes_and_not_its_deliveries() -> None:
    """Sixty deliveries with eight attempts each survive an hour of silence, and all arrive afterwards."""
    rig = Rig(hook(max_concurrency=8), hook("well"))
    for n in range(60):
        rig.take(a_command(cause=str(n), expires_at=NOON + 86_400_000))
    tries = 0
    until = rig.now + 3_600_000
    while rig.now < until:
        for attempt in rig.due():
            tries += 1
            rig.finish(attempt, Retry(reason="timeout"))
        rig.now = max(rig.now + 1, rig.task.next_at(rig.now) or until)
    assert rig.dead() == [] and rig.task.waiting == 60
    assert tries < 40  # eight, then one after 5, 10, 20 … 300 s
    assert {name: b.state for name, b in rig.task.breakers.items()} == {"acme|hook": "open"}
    rig.take(a_command(cause="other"), "well")
    rig.now += 400_000
    while rig.task.waiting:
        for attempt in rig.due():
            rig.finish(attempt, Delivered())
        rig.now = max(rig.now + 1, rig.task.next_at(rig.now) or rig.now + 1)
    assert rig.task.breakers == {} and rig.task.accounts.delivered == 61 and rig.difference() == 0


@pytest.mark.parametrize(("value", "reason"), [(None, "null_value"), (b"\xff", "invalid"), (b"{}", "invalid")])
def test_a_bad_row_is_set_aside_and_counts_nowhere_else(value: bytes | None, reason: str) -> None:
    rig = Rig(hook())
    [dead] = rig.task.step(a_batch("deliveries.webhook", [value]))
    assert isinstance(dead, DeadLetter)
    assert (dead.reason, dead.value) == (reason, value)
    assert rig.difference() == 0


def test_parked_retries_go_on_after_a_crash_where_they_stood() -> None:
    rig = Rig(hook())
    rig.take(a_command(cause="parked"))
    rig.take(a_command(cause="flying"))
    parked, flying = rig.due()
    rig.finish(parked, Retry(reason="http_503"))
    retry_at = rig.receipts()[-1].retry_at
    assert retry_at is not None
    rig.checkpoint()
    rig.finish(flying, OK)  # lost with the crash: its checkpoint never came
    rig.crash()
    assert rig.task.waiting == 2
    [again] = rig.due()
    assert (again.delivery.id, again.number) == (flying.delivery.id, 1)
    rig.now = retry_at
    [retried] = rig.due()
    assert (retried.delivery.id, retried.number) == (parked.delivery.id, 2)
    rig.finish(again, OK)
    rig.finish(retried, OK)
    assert rig.difference() == 0
    rig.checkpoint()
    assert list(rig.state) == [b"counters"]


def test_a_row_that_another_version_kept_is_set_aside_and_stops_nobody() -> None:
    rig = Rig(hook())
    for cause in "12":
        rig.take(a_command(cause=cause))
    rig.take(a_command(cause="late", expires_at=NOON + 1))
    rig.checkpoint()
    odd = sorted(k for k in rig.state if k.startswith(b"row|"))[0]
    kept = rig.state[odd]
    rig.state[odd] = kept.replace(b'"connection"', b'"konnection"')
    assert rig.state[odd] != kept
    rig.crash()
    rig.now += 2
    rig.tick()
    for attempt in rig.due():
        rig.finish(attempt, OK)
    rig.tick()
    assert [d.reason for d in rig.dead()] == ["unreadable"]
    assert len([r for r in rig.receipts() if r.final]) == 2
    assert (rig.task.waiting, rig.difference()) == (0, 0)


def test_tick_exports_the_difference_and_what_is_parked() -> None:
    rig = Rig(hook())
    rig.take(a_command())
    effects = rig.tick()
    assert Observe("uptake_accounting_difference", 0, ("deliveries",)) in effects
    assert Observe("uptake_parked", 1, ("webhook", "0")) in effects


outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.just(OK),
    st.just(Rejected(reason="http_400")),
    st.builds(Retry, reason=st.just("http_503"), after_s=st.none() | st.floats(0, 100)),
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_delivery_ends_exactly_once_within_its_budget_whatever_happens(data: st.DataObject) -> None:
    """Random outcomes, pauses, expiries, checkpoints and crashes; then everything is let go and must end."""
    rig = Rig(hook(max_attempts=4, max_concurrency=2), hook("other", rate_per_s=2.0))
    pause = Pause(name="rule:A1.2", scope="rule", of="A1.2")
    paused = False
    taken: list[str] = []
    flying: list[Attempt] = []
    effects_at = 0

    def commit() -> None:
        nonlocal effects_at
        rig.checkpoint()
        effects_at = len(rig.effects)

    def crash() -> None:
        del rig.effects[effects_at:]
        flying.clear()
        rig.crash()

    def take() -> None:
        name = data.draw(st.sampled_from(["hook", "other"]))
        rule = data.draw(st.sampled_from(["A1.2", "A1.3"]))
        rig.take(a_command(cause=str(len(taken)), rule=rule, expires_at=rig.now + data.draw(st.integers(1, DAY))), name)
        taken.append(name)
        commit()  # a source row is read again after a crash; here it is simply never lost

    def toggle() -> None:
        nonlocal paused
        paused = not paused
        if paused:
            rig.catalogue.put(pause)
        else:
            rig.catalogue.apply(b"all|pause|rule:A1.2", None)

    def look() -> None:
        flying.extend(rig.due(free=3))

    def finish() -> None:
        if flying:
            rig.finish(flying.pop(0), data.draw(outcomes))

    def wait() -> None:
        rig.now += data.draw(st.integers(0, 200_000))
        rig.tick()

    actions: list[Callable[[], None]] = [take, take, look, look, finish, finish, wait, toggle, commit, crash]
    for _ in range(data.draw(st.integers(0, 60))):
        data.draw(st.sampled_from(actions))()
        assert rig.difference() == 0
        assert len([a for a in flying if a.delivery.connection == "hook"]) <= 2
    if paused:
        toggle()
    for _ in range(2_000):
        if rig.task.waiting == 0:
            break
        look()
        while flying:
            rig.finish(flying.pop(), data.draw(outcomes))
        rig.now = max(rig.now + 1, rig.task.next_at(rig.now) or 0)
        rig.tick()
    assert rig.task.waiting == 0
    assert rig.difference() == 0
    final = [r for r in rig.receipts() if r.final]
    assert len(final) == len({r.delivery for r in final}) == len(taken)
    assert all(r.attempt <= 4 or r.connection == "other" for r in rig.receipts())
    assert len(rig.dead()) == sum(r.status == "rejected" for r in final)
    for effect in rig.effects:
        if isinstance(effect, Count | Observe):
            assert len(METRICS[effect.metric].labels) == len(effect.labels)
    commit()
    assert list(rig.state) in ([], [b"counters"])


def test_an_urgent_one_overtakes_whatever_waits_even_where_there_is_no_room_for_more() -> None:
    rig = Rig(hook(max_concurrency=2), max_waiting=50)
    for n in range(60):
        rig.take(a_command(cause=f"digest-{n}", priority="low"))
    assert rig.task.waiting == 50
    in_the_air = rig.due()
    assert {a.delivery.command.priority for a in in_the_air} == {"low"}
    rig.take(a_command(cause="fire", priority="urgent"))
    assert rig.task.waiting == 51
    rig.finish(in_the_air[0], OK)
    [attempt] = rig.due()
    assert attempt.delivery.command.priority == "urgent"
    for n in range(60):
        rig.take(a_command(cause=f"fire-{n}", priority="urgent"))
    # Bounded too: 49 digests, the urgent one in the air, and urgent ones up to as much again.
    assert rig.task.waiting == 100


def test_tenants_that_share_a_connection_take_turns() -> None:
    rig = Rig(hook(tenant="all", max_concurrency=1))
    for n in range(40):
        rig.take(a_command(tenant="loud", cause=f"l{n}"))
    gone: list[str] = []

    def send(count: int) -> None:
        for _ in range(count):
            [attempt] = rig.due()
            gone.append(f"{attempt.delivery.tenant} {attempt.delivery.command.cause}")
            rig.finish(attempt, OK)

    send(3)
    for n in range(3):
        rig.take(a_command(tenant="quiet", cause=f"q{n}"))
    send(8)
    assert gone[:3] == ["loud l0", "loud l1", "loud l2"]
    # Each tenant's own in their order, and the quiet one never behind more than one of the other's.
    assert [g for g in gone[3:] if g.startswith("quiet")] == ["quiet q0", "quiet q1", "quiet q2"]
    assert [g for g in gone if g.startswith("loud")] == [f"loud l{n}" for n in range(8)]
    assert gone.index("quiet q2") <= 8


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["low", "normal", "urgent"])), max_size=40))
def test_everything_that_waits_goes_once_urgent_first_and_each_tenants_in_order(rows: list[tuple[str, Any]]) -> None:
    rig = Rig(hook(tenant="all", max_concurrency=100))
    for n, (tenant, priority) in enumerate(rows):
        rig.take(a_command(tenant=tenant, cause=str(n), priority=priority))
    commands = [a.delivery.command for a in rig.due()]
    assert sorted(int(c.cause) for c in commands) == list(range(len(rows)))
    ranks = {"urgent": 0, "normal": 1, "low": 2}
    assert [ranks[c.priority] for c in commands] == sorted(ranks[c.priority] for c in commands)
    for tenant in "abc":
        for priority in ranks:
            causes = [int(c.cause) for c in commands if (c.tenant, c.priority) == (tenant, priority)]
            assert causes == sorted(causes)

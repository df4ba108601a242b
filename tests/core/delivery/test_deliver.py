"""Deliveries wait as rows, go out as attempts, end as receipts."""

from __future__ import annotations

import pytest

from core.delivery.dispatch import bind
from core.effects import Count, DeadLetter, Emit, Observe
from schemas.definitions import Pause
from schemas.delivery import Delivered, Rejected, Retry
from tests.core.delivery.rig import OK, Rig, hook
from tests.helpers.words import NOON, a_batch, a_command


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


def test_tick_exports_the_difference_and_what_is_parked() -> None:
    rig = Rig(hook())
    rig.take(a_command())
    effects = rig.tick()
    assert Observe("uptake_accounting_difference", 0, ("deliveries",)) in effects
    assert Observe("uptake_parked", 1, ("webhook", "0")) in effects

"""What waits: in which order it goes out, how much at once, how fast, how much of it there may be, and pauses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.delivery.deliver import Attempt
from schemas.definitions import Pause
from tests.core.delivery.rig import OK, Rig, hook
from tests.helpers.words import NOON, a_command


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

"""Deliveries over checkpoints and crashes: each ends once, within its budget, whatever happens."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from core.delivery.deliver import Attempt
from core.delivery.dispatch import bind
from core.effects import Count, Observe
from core.metrics import METRICS
from schemas.definitions import Pause
from schemas.delivery import Outcome, Rejected, Retry
from tests.core.delivery.rig import DAY, OK, Rig, hook
from tests.helpers.words import NOON, a_batch, a_command


def test_what_came_and_went_between_two_checkpoints_leaves_no_row() -> None:
    rig = Rig(hook())
    rig.take(a_command())
    rig.finish(rig.due()[0], OK)
    assert [key for key, _ in rig.task.drain()] == [b"counters"]


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

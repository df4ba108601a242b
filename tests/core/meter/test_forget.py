"""Users that were forgotten: no name left in the state, no figure changed, rows that come again dropped and counted."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.forgetting import digest
from core.meter.task import MeterTask
from schemas.definitions import CommandTemplate, Forgotten, OnEvent, Rule
from schemas.registers import Signal
from tests.core.meter.logs import PERFORMANCE, T0, USAGE, Published, Record, batch, batches, request, usage

SALT = "5a" * 32
SECOND, MINUTE = 1_000, 60_000
WHO = "ann-who-wants-to-go"


def forgotten(user: str = WHO, tenant: str = "acme") -> Forgotten:
    return Forgotten(tenant=tenant, name=digest(SALT, tenant, f"user:{user}"), of="user", salt=SALT, asked_at=T0)


class Kept:
    """The state topic as compaction leaves it."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def take(self, task: MeterTask) -> None:
        for key, value in task.drain():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value

    def recovered(self, catalogue: Catalogue) -> MeterTask:
        task = MeterTask(0, 1, catalogue)
        for key, value in self.rows.items():
            task.load(key, value)
        task.loaded()
        return task

    def names(self, catalogue: Catalogue) -> bool:
        """Whether the name stands anywhere, packed or not."""
        return any(WHO in str(_unpacked(value)) or WHO.encode() in value for value in self.rows.values())


def numbers(task: MeterTask) -> dict[str, int]:
    """What every name is found as, and the names of no number that are not found."""
    users = task.usage.users
    return {name: users.get(name, -1) for name in users.names}


def _unpacked(value: bytes) -> object:
    from core.meter import state

    return state.decode(value)


def history(seed: int, users: list[str], n: int = 120) -> list[Record]:
    rng = random.Random(seed)
    return [
        usage(f"e{i}", T0 + i * 20 * SECOND, user=rng.choice(users), feature=rng.choice(["f1", "f2"])) for i in range(n)
    ]


def settle(task: MeterTask, kept: Kept, published: Published, at: int) -> None:
    """Enough checkpoints for a whole base."""
    for second in range(40):
        published.take(task.tick(at + second * SECOND, [(USAGE, 0), (PERFORMANCE, 0)]))
        kept.take(task)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    cuts=st.lists(st.integers(0, 400), max_size=5),
    at=st.integers(0, 119),
    recover=st.booleans(),
)
def test_nothing_leads_back_to_a_name_and_no_figure_changes(seed: int, cuts: list[int], at: int, recover: bool) -> None:
    records = history(seed, [WHO, "bob", "cem", "dea"])
    rest = [r for r in records[at:] if WHO.encode() not in (r.value or b"")]
    plain, erased = Published(), Published()
    never, catalogue, kept = MeterTask(0, 1, Catalogue()), Catalogue(), Kept()
    task = MeterTask(0, 1, catalogue)
    for part in batches(records[:at], cuts):
        plain.take(never.step(part))
        erased.take(task.step(part))
        kept.take(task)
    catalogue.put(forgotten())
    for part in batches(rest, cuts):
        plain.take(never.step(part))
        erased.take(task.step(part))
        kept.take(task)
        if recover:
            task = kept.recovered(catalogue)
    end = records[-1].at + MINUTE
    settle(never, Kept(), plain, end)
    settle(task, kept, erased, end)
    assert erased.patches == plain.patches and erased.clocks == plain.clocks
    assert not kept.names(catalogue)
    back = kept.recovered(catalogue)
    for some in (task, back):
        assert WHO not in some.usage.users and WHO not in some.usage.users.names
        assert some.profile("acme", "app", WHO) is None
        members = some.members("acme", "app", None, T0 + 86_400_000)
        assert members == [u for u in never.members("acme", "app", None, T0 + 86_400_000) if u != WHO]
    assert back.usage.users.names == task.usage.users.names
    assert [back.profile("acme", "app", u) for u in ("bob", "cem")] == [
        task.profile("acme", "app", u) for u in ("bob", "cem")
    ]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 30), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_rows_that_come_again_are_as_if_they_had_not(seed: int, cuts: list[int]) -> None:
    records = history(seed, [WHO, "bob", "cem"])
    catalogue = Catalogue()
    catalogue.put(forgotten())
    task, told, kept = MeterTask(0, 1, catalogue), Published(), Kept()
    for part in batches(records, cuts):
        told.take(task.step(part))
        kept.take(task)
    others = [r for r in records if WHO.encode() not in (r.value or b"")]
    never, plain = MeterTask(0, 1, Catalogue()), Published()
    plain.take(never.step(batch(others)))
    end = records[-1].at + MINUTE
    settle(task, kept, told, end)
    settle(never, Kept(), plain, end)
    ends = {w: [e for e, _, _ in patches] for w, patches in plain.patches.items()}
    for (topic, product, window), at in ends.items():
        for end in at:
            for name in ("*", "f1", "f2"):
                wanted = plain.newest(topic, product, window, name, end)
                assert told.newest(topic, product, window, name, end) == wanted
    assert task.usage.users.names == never.usage.users.names  # no number is used up either
    assert not kept.names(catalogue)
    back = len(records) - len(others)
    assert told.counts.get(("uptake_rows_total", (USAGE, "forgotten")), 0) == back
    assert told.counts.get(("uptake_rows_total", (USAGE, "accepted")), 0) == len(others)
    assert told.counts.get(("uptake_forgotten_total", ("meter",)), 0) == back


@pytest.mark.parametrize("recover", [False, True])
def test_another_tenants_user_of_that_name_is_left_alone(recover: bool) -> None:
    catalogue, kept, told = Catalogue(), Kept(), Published()
    task = MeterTask(0, 1, catalogue)
    both = [usage(f"{t}{i}", T0 + i, user=WHO, tenant=t) for i in range(3) for t in ("acme", "beta")]
    told.take(task.step(batch(both)))
    kept.take(task)
    before = task.profile("beta", "app", WHO)
    catalogue.put(forgotten())
    told.take(task.tick(T0 + 10 * SECOND, ()))
    kept.take(task)
    if recover:
        task = kept.recovered(catalogue)
    later = [usage(f"{t}-later", T0 + MINUTE, user=WHO, tenant=t) for t in ("acme", "beta")]
    told.take(task.step(batch(later, offset=6)))
    assert before is not None and before.events == 3
    found = task.profile("beta", "app", WHO)
    assert found is not None and found.events == 4
    assert task.profile("acme", "app", WHO) is None
    assert task.members("acme", "app", None, T0 + 86_400_000) == []
    assert task.members("beta", "app", None, T0 + 86_400_000) == [WHO]
    assert told.counts["uptake_rows_total", (USAGE, "forgotten")] == 1
    settle(task, kept, told, T0 + 2 * MINUTE)
    # One user of acme in the window still, who has no name, and one of beta.
    assert [told.newest(USAGE, f"{t}|app", "5m", "*", T0 + 100 * SECOND)[0] for t in ("acme", "beta")] == [1, 1]
    again = kept.recovered(catalogue)
    assert again.usage.users.names == task.usage.users.names
    assert again.members("acme", "app", None, T0 + 86_400_000) == []
    assert again.members("beta", "app", None, T0 + 86_400_000) == [WHO]


def test_a_name_that_comes_again_before_the_erasure_is_drained_has_one_number() -> None:
    """The journal then tells of the name's second coming before it tells of its retirement."""
    catalogue, kept, told = Catalogue(), Kept(), Published()
    task = MeterTask(0, 1, catalogue)
    told.take(task.step(batch([usage("a", T0, user=WHO)])))
    kept.take(task)
    catalogue.put(forgotten())
    told.take(task.step(batch([usage("b", T0, user=WHO, tenant="beta")], offset=1)))
    kept.take(task)
    back = kept.recovered(catalogue)
    assert numbers(back) == numbers(task) and back.usage.users.names == task.usage.users.names
    for some in (task, back):
        told.take(some.step(batch([usage("c", T0 + 1, user=WHO, tenant="beta")], offset=2)))
        found = some.profile("beta", "app", WHO)
        assert found is not None and found.events == 2


def test_a_shared_name_stays_although_others_were_retired_before() -> None:
    catalogue, kept, told = Catalogue(), Kept(), Published()
    task = MeterTask(0, 1, catalogue)
    first = [usage("a", T0, user="bob"), *(usage(t, T0, user=WHO, tenant=t) for t in ("acme", "beta"))]
    told.take(task.step(batch(first)))
    for user in ("bob", WHO):
        catalogue.put(forgotten(user))
        told.take(task.tick(T0 + SECOND, ()))
    # a batch without rows of beta's user must not take the name for one that nobody uses
    told.take(task.step(batch([usage("c", T0 + 1, user="cem"), usage("d", T0 + 1, user="bob")], offset=3)))
    told.take(task.step(batch([usage("e", T0 + 2, user=WHO, tenant="beta")], offset=5)))
    kept.take(task)
    found = task.profile("beta", "app", WHO)
    assert found is not None and found.events == 2
    assert numbers(kept.recovered(catalogue)) == numbers(task)


def test_dead_letters_and_signals_of_the_forgotten_do_not_leave() -> None:
    catalogue, told = Catalogue(), Published()
    command = CommandTemplate(type="product.note.write", title="t", text="x")
    catalogue.put(Rule(name="r", id="r", trigger=OnEvent(topic="events.usage", subject="user"), command=command))
    catalogue.put(forgotten())
    task = MeterTask(0, 1, catalogue)
    bad = Record(b'{"user": "' + WHO.encode() + b'"}', T0, f"acme|{WHO}".encode())
    other = Record(b"nonsense", T0, b"acme|bob")
    rows = [usage("a", T0, user=WHO), bad, usage("b", T0, user="bob"), other]
    told.take(task.step(batch(rows)))
    told.take(task.step(batch([request("p", T0)], PERFORMANCE)))
    assert [letter.key for letter in told.dead] == [b"acme|bob"]
    assert [msgspec.json.decode(s.value or b"", type=Signal).subject for s in told.signals] == ["user:bob"]
    counts = {
        labels[1]: n for (name, labels), n in told.counts.items() if name == "uptake_rows_total" and USAGE in labels
    }
    assert counts == {"accepted": 1, "dead": 1, "forgotten": 2}

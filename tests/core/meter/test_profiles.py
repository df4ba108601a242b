"""Profiles against a plain fold over the accepted rows: any log, any split, recovery anywhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.meter.profiles import Profile
from core.meter.task import MeterTask
from tests.core.meter import reference
from tests.core.meter.logs import T0, Record, batches, usage
from tests.core.meter.test_usage import a_log, run

DAY = 86_400_000


def expected(records: Sequence[Record]) -> dict[tuple[str, str], Profile]:
    rows, watermarks, _ = reference.read(records)
    uses: dict[tuple[str, str], list[tuple[int, bool]]] = defaultdict(list)
    for row in rows:
        uses[row.product, row.user].append((row.at, row.organic))
    out = {}
    for (product, user), seen in uses.items():
        at, organic = min(seen)
        since = watermarks[product] // DAY - 27
        days = tuple(sorted({t // DAY * DAY for t, _ in seen if t // DAY >= since}))
        newest = max(t for t, _ in seen)
        out[product, user] = Profile(at, newest, len(seen), days, "organic" if organic else "attributed")
    return out


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.integers(1, 60), st.lists(st.integers(0, 60), max_size=12))
def test_profiles_are_those_of_a_plain_fold(seed: int, size: int, cuts: list[int]) -> None:
    records = a_log(seed, size)
    tasks: list[MeterTask] = []
    run(records, cuts, tasks)
    wanted = expected(records)
    for product in ("app", "web"):
        for user in ("u0", "u1", "u2", "u3"):
            found = tasks[0].profile("acme", product, user)
            assert found == wanted.get((f"acme|{product}", user)), (product, user)


def test_nobody_has_no_profile_and_asking_adds_nobody() -> None:
    task = MeterTask(0, 1, Catalogue())
    assert task.profile("acme", "app", "ann") is None
    list(task.step(batches([usage("1", T0, "ann"), usage("2", T0 + 5, "bob", None, product="web")], [])[0]))
    before = len(task.usage.users)
    assert task.profile("acme", "app", "bob") is None
    assert task.profile("other", "app", "ann") is None
    assert task.profile("acme", "app", "") is None
    assert task.profile("acme", "app", "carl") is None
    assert len(task.usage.users) == before
    assert task.profile("acme", "web", "bob") == Profile(T0 + 5, T0 + 5, 1, (T0 // DAY * DAY,), "organic")


def test_a_user_idle_for_a_month_keeps_first_last_and_frequency() -> None:
    task = MeterTask(0, 1, Catalogue())
    records = [
        usage("1", T0, "old", attribution="campaign:x"),
        usage("2", T0 + DAY, "old"),
        usage("3", T0 + 40 * DAY, "new"),
        usage("4", T0 - 90 * DAY, "old"),  # far beyond grace: no figure counts it, the profile does
    ]
    list(task.step(batches(records, [])[0]))
    assert task.profile("acme", "app", "old") == Profile(T0 - 90 * DAY, T0 + DAY, 3, (), "organic")

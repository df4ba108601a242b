"""Profiles inside runs: who enters, what runs see and when, whatever the order in which topics are read."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.meter.others import OthersTask
from core.people.asked import Asked, asked_by, picked
from core.people.profile import Profile
from core.workflows.graph import Library
from core.workflows.problems import problems
from core.workflows.publishing import with_earlier
from core.workflows.replay import replay
from core.workflows.testing import Failed, Journey, histories, travel
from schemas.definitions import Workflow
from tests.core.meter.logs import T0 as NOON
from tests.core.meter.logs import batch
from tests.core.meter.test_others import CONTACTS, event, signals
from tests.core.workflows.build import T0, H, S, act, workflow
from tests.core.workflows.test_publishing import Told, version

DAY = {"kind": "span", "span": "1d"}
LETTER = {
    "type": "sales.task.create",
    "title": "{{ contact.fields.name | default('you') }}",
    "text": "{{ contact.spent }} {{ segments }}",
}


def wait(id_: str, to: str | None) -> dict[str, Any]:
    return {"kind": "wait", "id": id_, "until": DAY, "next": to}


def letter(id_: str, to: str | None = None) -> dict[str, Any]:
    return {"kind": "act", "id": id_, "command": LETTER, "next": to}


RICH = {
    "kind": "branch",
    "id": "rich",
    "paths": [{"when": "contact.spent > 100", "next": "offer"}],
    "otherwise": "hello",
}
FLOW = workflow(letter("first", "a-day"), wait("a-day", "rich"), RICH, letter("offer"), letter("hello"))


class People(Told):
    """A task that reads what is said of people too."""

    def says(self, type_: str, at: int, topic: str = "events.contacts", subject: str = "user:u", **more: Any) -> None:
        data = {"type": type_, **more}
        cause = f"{type_}-{at}-{sorted(more)}"
        self.signal(type_, at, subject=subject, topic=topic, workflows=[], data=data, cause=cause)

    def buys(self, at: int, amount: float) -> None:
        self.says("purchase.completed", at, "events.commerce", amount=amount)

    @property
    def told(self) -> list[tuple[Any, ...]]:
        return [(c["step"], c["title"], c["text"]) for c in self.emitted("commands.sales")]


def library(*workflows: Workflow) -> Library:
    found = Library()
    for one in workflows:
        found.put(one)
    return found


@pytest.mark.parametrize("restart", [False, True])
def test_a_run_sees_what_had_happened_until_its_time(restart: bool) -> None:
    run = People(FLOW)
    run.signal("go", T0 + S)
    run.says("contact.updated", T0, fields={"name": "Ann"})
    run.buys(T0 + 2 * S, 80)
    assert run.told == [], "event time has not passed it yet"
    if restart:
        run.restart()
    run.until(T0 + 3 * S)
    assert run.told == [("first", "Ann", "0.0 []")], "the name from before, the purchase not yet"
    run.buys(T0 + 26 * H, 500)
    run.buys(T0 + 20 * H, 30)
    if restart:
        run.restart()
    run.until(T0 + 40 * H)
    assert run.told[1:] == [("offer", "Ann", "110.0 []")], "what was bought after the day counts after it"
    assert all(replay(library(FLOW), h) == [] for h in histories(run.history).values())


def test_who_enters_is_asked_with_the_profile_of_then() -> None:
    run = People(workflow(act("a"), condition="contact.stage == 'lead' && n > 1"))
    run.says("contact.stage_changed", T0, stage="lead")
    run.signal("go", T0 + S, data={"type": "go", "n": 2})
    run.says("contact.stage_changed", T0 + 2 * S, stage="customer")
    run.signal("go", T0 + 3 * S, data={"type": "go", "n": 2}, subject="user:v")
    run.until(T0 + H)
    assert [c["subject"] for c in run.emitted("commands.sales")] == ["user:u"]


def test_a_wait_for_a_condition_ends_when_the_profile_says_so() -> None:
    until = {"kind": "await", "id": "w", "events": {}, "when": "'vip' in contact.tags", "met": "b", "timeout": "9d"}
    run = People(workflow(act("a", "w"), until, act("b")))
    run.signal("go", T0)
    run.says("contact.tagged", T0 + 5 * H, tags=["vip"])
    run.says("contact.tagged", T0 + 4 * H, tags=["other"])
    run.until(T0 + 6 * H)
    commands = run.emitted("commands.sales")
    assert [(c["step"], c["issued_at"]) for c in commands] == [("a", T0), ("b", T0 + 5 * H)]
    assert run.notes("person") == [{"changed": ["contact.tags"]}] * 2


def test_zones_dates_and_lists_of_a_profile() -> None:
    clock = {"kind": "clock", "at": "09:00", "zone": "UTC", "zone_field": "contact.time_zone"}
    date = {"kind": "date", "field": "contact.fields.renewal", "offset": 0}
    flow = workflow(
        {"kind": "wait", "id": "morning", "until": clock, "next": "renewal"},
        {"kind": "wait", "id": "renewal", "until": date, "next": "each"},
        {"kind": "each", "id": "each", "items": "contact.tags", "body": "b"},
        act("b"),
    )
    run = People(flow)
    run.says("contact.identified", T0, time_zone="America/New_York", fields={"renewal": T0 + 48 * H}, tags=["x", "y"])
    run.signal("go", T0 + S)
    run.until(T0 + 50 * H)
    found = [(c["step"], (int(str(c["issued_at"])) - T0) // H) for c in run.emitted("commands.sales")]
    assert found == [("each:0/b", 48), ("each:1/b", 48)]
    assert next(n["until"] for n in run.notes("waits")) == T0 + 5 * H, "nine in New York"


def test_what_runs_do_not_ask_for_is_not_told_to_them() -> None:
    run = People(FLOW)
    run.signal("go", T0)
    run.until(T0 + S)
    run.says("contact.tagged", T0 + 2 * S, tags=["vip"])
    run.until(T0 + 3 * S)
    assert len(run.history) == 1 and run.notes("person") == []
    plain = People(workflow(act("a")))
    plain.says("contact.tagged", T0, tags=["vip"])
    plain.restart()
    assert plain.state == {}, "nobody asks, so nothing is kept"


def test_other_workflows_do_not_wait_for_event_time() -> None:
    other = workflow(act("x"), name="other", id="other")
    run = People(FLOW, other)
    run.signal("go", T0)
    assert [c["rule"] for c in run.emitted("commands.sales")] == ["other"]
    run.until(T0 + S)
    assert [c["rule"] for c in run.emitted("commands.sales")] == ["other", "w"]


def test_what_was_known_under_another_name_is_known_here() -> None:
    run = People(FLOW)
    run.signal("go", T0)
    former = Profile()
    former.fold({"type": "purchase.completed", "amount": 300}, T0, "p", "user:anon")
    run.signal("x", T0 + S, kind="merge", data={"profile": former.row()}, workflows=[], topic=None)
    run.until(T0 + 25 * H)
    assert [step for step, *_ in run.told] == ["first", "offer"]


def test_a_paused_run_knows_when_it_goes_on() -> None:
    until = {"kind": "await", "id": "w", "events": {}, "when": "'vip' in contact.tags", "met": "b", "timeout": "9d"}
    run = People(workflow(act("a", "w"), until, act("b")))
    run.signal("go", T0)
    run.until(T0 + S)
    (first,) = {r.run for r in run.history}
    run.signal("x", T0 + 2 * S, kind="pause", data={"run": first, "by": "ann"})
    run.says("contact.tagged", T0 + 3 * S, tags=["vip"])
    run.until(T0 + 4 * S)
    assert run.steps == ["a"]
    run.signal("x", T0 + H, kind="resume", data={"run": first, "by": "ann"})
    assert run.steps == ["a", "b"]


def test_a_version_that_asks_is_told_before_it_is_entered() -> None:
    before = version(1, act("a", "w"), wait("w", "b"), act("b"))
    run = People(before)
    run.signal("go", T0)
    after = version(2, act("a", "z"), letter("z"), publish="migrate", migrate={"w": "z"})
    run.catalogue.put(version(1, letter("x"), name="asks", id="asks"))  # somebody asks, so it is known
    run.says("contact.updated", T0 + S, fields={"name": "Ann"})
    run.publish(after, T0 + 2 * S)
    run.until(T0 + 3 * S)
    assert run.told[-1][:2] == ("z", "Ann")


def test_who_is_forgotten_is_forgotten() -> None:
    run = People(FLOW)
    run.says("contact.updated", T0, fields={"name": "Ann"})
    run.until(T0 + S)
    run.says("contact.updated", T0 + 2 * S, fields={"name": "Bob"})
    assert run.task.desk.forget(lambda tenant, subject: subject == "user:u") == 1
    run.restart()
    assert b"Ann" not in b"".join(run.state.values()) and b"Bob" not in b"".join(run.state.values())


def test_a_template_without_end_is_a_problem_and_no_crash() -> None:
    deep = act("a") | {"command": {**LETTER, "text": "{{ " + "[" * 19_000}}
    assert asked_by(workflow(deep)) == {"contact.fields.name"}
    assert any("brackets nest deeper" in p for p in problems(workflow(deep)))


def test_who_asks() -> None:
    assert asked_by(FLOW) == {"contact.spent", "contact.fields.name", "segments"}
    assert asked_by(workflow(act("a"))) == frozenset()
    catalogue = Catalogue()
    catalogue.put(FLOW.model_copy(update={"tenant": "acme"}))
    asked = Asked(catalogue)
    assert asked.by("acme") and not asked.by("other")
    catalogue.put(FLOW.model_copy(update={"tenant": "acme", "retired": "finish"}))
    assert asked.by("acme"), "its runs go on"
    after = with_earlier(FLOW, version(2, act("a"), tenant="acme"))
    catalogue.put(with_earlier(after, version(3, act("b"), tenant="acme")))
    assert asked.by("acme"), "runs of versions before go on"
    catalogue.apply(b"acme|workflow|w", None)
    assert not asked.any()


def test_runs_about_a_product_have_no_profile() -> None:
    stage = {"kind": "stage", "stages": ["growth"]}
    assert [p for p in problems(workflow(letter("a"), trigger=stage)) if "profile" in p] == [
        "trigger: contact.fields.name is of a profile, and runs about a feature have none; only a user, contact, account has"
    ]


def test_picking_takes_what_is_asked_for() -> None:
    facts = {"contact": {"id": "a", "tags": ["x"], "fields": {"plan": "pro", "seats": 3}}, "segments": ["v"]}
    assert picked(facts, ["contact.fields.plan", "segments"]) == {
        "contact": {"fields": {"plan": "pro"}},
        "segments": ["v"],
    }
    assert picked(facts, ["contact", "contact.fields.plan"]) == {"contact": facts["contact"]}
    assert picked(facts, ["contact.tags.count"]) == {"contact": {"tags": ["x"]}}
    assert picked(facts, ["contact.fields.none", "campaign.c.step"]) == {"contact": {"fields": {}}}


TESTED = {
    "name": "a purchase makes it an offer",
    "steps": [
        {"event": {"type": "contact.updated", "fields": {"name": "Ann"}}, "topic": "events.contacts"},
        {"event": {"type": "go"}},
        {"expect": [{"type": "sales.task.create", "payload": {"title": "Ann"}}]},
        {"event": {"type": "purchase.completed", "amount": 200}, "topic": "events.commerce"},
        {"wait": "1d"},
        {"expect": [{"type": "sales.task.create", "step": "offer"}]},
        {"status": "completed"},
    ],
}


def test_tests_beside_a_workflow_tell_of_people() -> None:
    travel(FLOW, [], Journey.model_validate(TESTED))
    steps = [s for s in TESTED["steps"] if s.get("topic") != "events.commerce"]  # type: ignore[attr-defined]
    with pytest.raises(Failed, match="expected step offer, it is hello"):
        travel(FLOW, [], Journey.model_validate({**TESTED, "steps": steps}))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(["go", "buy", "name"]), st.integers(0, 60), st.integers(0, 3)), max_size=12),
    st.integers(0, 1000),
)
def test_any_order_of_reading_within_the_watermark_gives_the_same(words: list[tuple[str, int, int]], seed: int) -> None:
    def live(rng: random.Random | None) -> list[tuple[Any, ...]]:
        run, left = People(FLOW), sorted(set(words), key=lambda w: (w[1], w[0], w[2]))
        for upto in (20, 40, 61):
            now = [w for w in left if w[1] < upto]
            left = [w for w in left if w[1] >= upto]
            if rng is not None:
                rng.shuffle(now)
            for what, hour, n in now:
                at = T0 + hour * H + n
                if what == "go":
                    run.signal("go", at, cause=f"go-{hour}-{n}")
                elif what == "buy":
                    run.buys(at, 60 + n)
                else:
                    run.says("contact.updated", at, fields={"name": f"N{hour}-{n}"})
            if rng is not None:
                run.restart()
            run.until(T0 + upto * H - 1)
            run.until(T0 + upto * H - 1)
        run.until(T0 + 200 * H)
        assert all(replay(library(FLOW), h) == [] for h in histories(run.history).values())
        return [(c["id"], c["issued_at"], c["title"], c["text"]) for c in run.emitted("commands.sales")]

    assert sorted(live(random.Random(seed))) == sorted(live(None))


def test_meter_tells_of_people_where_a_workflow_asks() -> None:
    row = event("e1", NOON, CONTACTS, type="contact.tagged", tags=["vip"])
    for flow, told in ((FLOW, ["user:ann", "contact:ann"]), (workflow(act("a")), [])):
        catalogue = Catalogue()
        catalogue.put(flow)
        sent = signals([*OthersTask(0, 1, catalogue).step(batch([row], CONTACTS))])
        assert [(s.subject, s.topic, s.workflows) for s in sent] == [(about, CONTACTS, []) for about in told]

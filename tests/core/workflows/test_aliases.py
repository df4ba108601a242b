"""Runs follow an alias: what one name's partition hands over, what the other keeps meanwhile, however the two are interleaved."""

from __future__ import annotations

import json
from collections import defaultdict
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.batch import Batch
from core.definitions import Catalogue
from core.effects import Count, DeadLetter, Effect, Observe
from core.forgetting import digest
from core.meter.keys import partition_of
from core.workflows.aliases import MOST_WORDS, PATIENCE_MS
from core.workflows.task import SETTLED_MS, RunsTask
from schemas.commands import command_id
from schemas.definitions import Forgotten, Workflow
from schemas.envelope import key
from schemas.registers import Clock, Signal, encode
from tests.core.workflows.build import T0, H, S, act, workflow

PARTITIONS = 5
AWAIT = {"kind": "await", "id": "answer", "events": {"opened": "thank"}, "timeout": "1h", "timed_out": "remind"}
CART = [act("greet", "answer"), AWAIT, act("thank"), act("remind")]


class Keys:
    def key(self, row: int) -> bytes | None:
        return None


class Cluster:
    """Partitions of ORCHESTRATE on a log of their own, each read at any pace, each of which may crash."""

    def __init__(self, *workflows: Workflow, seed: int = 0, crashes: bool = False) -> None:
        self.random, self.crashes = Random(seed), crashes
        self.catalogue = Catalogue()
        for one in workflows:
            self.catalogue.put(one)
        self.log: dict[tuple[str, int], list[tuple[bytes, int]]] = defaultdict(list)
        self.read: dict[tuple[str, int], int] = defaultdict(int)
        self.rows: list[dict[bytes, bytes]] = [{} for _ in range(PARTITIONS)]
        self.tasks = [RunsTask(p, PARTITIONS, self.catalogue) for p in range(PARTITIONS)]
        self.commands: list[dict[str, Any]] = []
        self.records: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.now = T0
        self.number = 0

    # --- what METER tells

    def signal(self, subject: str, at: int, cause: str, data: dict[str, Any], **more: Any) -> None:
        fields = {"rules": [], "workflows": ["w"], "topic": "events.usage", "product": "shop", "kind": "event", **more}
        told = msgspec.convert(
            {**fields, "tenant": "acme", "subject": subject, "cause": cause, "at": at, "data": data}, Signal
        )
        self.write("signals", key("acme", subject), msgspec.json.encode(told))

    def event(self, name: str, type_: str, at: int, **data: Any) -> None:
        self.number += 1
        self.signal(f"user:{name}", at, f"e{self.number}", {"type": type_, "user": name, **data})

    def alias(self, former: str, known: str, at: int) -> None:
        self.number += 1
        data = {"type": "contact.aliased", "contact": known, "former": former}
        for kind in ("user", "contact"):
            for name in (former, known):
                self.signal(f"{kind}:{name}", at, f"e{self.number}", data, topic="events.contacts", workflows=[])

    def clock(self, at: int) -> None:
        for p in range(PARTITIONS):
            for source in ("events.usage", "events.performance"):
                for of in range(PARTITIONS):
                    word = encode(Clock(source=source, partition=of, at=at, replaying=False))
                    self.log["meter.registers", p].append((word, self.now))

    def write(self, topic: str, of: bytes | None, value: bytes) -> None:
        self.log[topic, partition_of(of or b"", PARTITIONS)].append((value, self.now))

    # --- the partitions

    def some(self) -> None:
        """A partition reads some of what is there, and has a look at its timers."""
        p = self.random.randrange(PARTITIONS)
        for topic in ("meter.registers", "receipts", "signals"):
            log, at = self.log[topic, p], self.read[topic, p]
            most = len(log) if topic == "meter.registers" else at + self.random.randint(0, 3)
            if part := log[at:most]:
                self.read[topic, p] = at + len(part)
                self.perform(p, self.tasks[p].step(batch(topic, p, part)))
        self.tick(p)
        if self.crashes and self.random.random() < 0.2:
            self.crash(p)

    def tick(self, p: int) -> None:
        self.now += SETTLED_MS + 1
        caught = [("signals", p)] if self.read["signals", p] == len(self.log["signals", p]) else []
        self.perform(p, self.tasks[p].tick(self.now, caught))

    def crash(self, p: int) -> None:
        for of, value in self.tasks[p].drain():
            if value is None:
                self.rows[p].pop(of, None)
            else:
                self.rows[p][of] = value
        self.tasks[p] = RunsTask(p, PARTITIONS, self.catalogue)
        for of, value in self.rows[p].items():
            self.tasks[p].load(of, value)
        self.tasks[p].loaded()

    def settle(self) -> None:
        """All is read, and all that is due has been fired."""
        quiet = 0
        while quiet < 3:
            before = sum(map(len, self.log.values()))
            for p in self.random.sample(range(PARTITIONS), PARTITIONS):
                for topic in ("meter.registers", "receipts", "signals"):
                    part = self.log[topic, p][self.read[topic, p] :]
                    self.read[topic, p] += len(part)
                    if part:
                        self.perform(p, self.tasks[p].step(batch(topic, p, part)))
                self.tick(p)
            quiet = quiet + 1 if sum(map(len, self.log.values())) == before else 0

    def perform(self, p: int, effects: Any) -> None:
        effect: Effect
        for effect in effects:
            assert not isinstance(effect, DeadLetter), effect
            if isinstance(effect, Count) and effect.metric == "uptake_runs_refused_total":
                self.refused += [effect.labels[0]] * int(effect.n)
            if isinstance(effect, Observe | Count) or effect.value is None:
                continue
            if effect.topic.startswith("commands."):
                self.commands.append(json.loads(effect.value))
            elif effect.topic == "runs":
                self.records.append(json.loads(effect.value))
            else:
                self.write(effect.topic, effect.key, effect.value)

    @property
    def given(self) -> list[tuple[str, int, str]]:
        """(step, seconds since T0, subject) of every command, in order of time."""
        assert len({c["id"] for c in self.commands}) == len(self.commands)
        return sorted(
            ((c["step"], (c["issued_at"] - T0) // S, c["subject"]) for c in self.commands), key=lambda c: (c[1], c[0])
        )

    @property
    def ends(self) -> list[tuple[str, str, str]]:
        """(subject, status, outcome) of runs that ended."""
        return sorted(
            (r["subject"], r["status"], r.get("outcome", "")) for r in self.records if r["status"] != "running"
        )

    def went_on(self) -> int:
        return sum(len(task.desk) for task in self.tasks)


def batch(topic: str, p: int, rows: list[tuple[bytes, int]]) -> Batch:
    n = len(rows)
    return Batch(topic, p, [r[0] for r in rows], np.arange(n), np.array([r[1] for r in rows]), n, Keys())


def test_a_run_goes_on_under_the_new_name() -> None:
    all_ = Cluster(workflow(*CART))
    all_.event("anon", "go", T0)
    all_.alias("anon", "ann", T0 + 60 * S)
    all_.event("ann", "opened", T0 + 120 * S)
    all_.settle()
    assert all_.given == [("greet", 0, "user:anon"), ("thank", 120, "user:ann")]
    assert [c["id"] for c in all_.commands] == [
        command_id("acme", "w", "user:anon", "e1", step) for step in ("greet", "thank")
    ]
    assert all_.ends == [("user:ann", "completed", "")] and all_.went_on() == 0
    assert [r["seq"] for r in all_.records] == [1, 2, 3] and all_.records[-1]["names"] == ["user:anon"]


def test_what_was_told_under_the_new_name_before_the_alias_was_read() -> None:
    """METER's partitions may be ahead of each other: the second alias of a tenant finds what came before it."""
    all_ = Cluster(workflow(*CART))
    all_.alias("x", "ann", T0)
    all_.event("anon", "go", T0)
    all_.event("ann", "opened", T0 + 120 * S)
    all_.settle()
    all_.alias("anon", "ann", T0 + 60 * S)
    all_.settle()
    assert all_.given == [("greet", 0, "user:anon"), ("thank", 120, "user:ann")]


def test_what_still_names_the_former_name_reaches_the_run() -> None:
    all_ = Cluster(workflow(*CART))
    all_.event("anon", "go", T0)
    all_.alias("anon", "ann", T0 + 60 * S)
    all_.event("anon", "opened", T0 + 120 * S)
    all_.settle()
    all_.event("anon", "go", T0 + 130 * S)
    all_.settle()
    assert all_.given == [("greet", 0, "user:anon"), ("thank", 120, "user:ann"), ("greet", 130, "user:ann")]


def test_a_receipt_of_a_command_of_before() -> None:
    all_ = Cluster(workflow(act("a", "b", wait="delivery"), act("b")))
    all_.event("anon", "go", T0)
    all_.settle()
    all_.alias("anon", "ann", T0 + 60 * S)
    all_.settle()
    told = {
        "tenant": "acme",
        "subject": "user:anon",
        "command": all_.commands[0]["id"],
        "status": "delivered",
        "final": True,
    }
    all_.write("receipts", key("acme", "user:anon"), json.dumps({**told, "at": T0 + 90 * S}).encode())
    all_.settle()
    assert all_.given == [("a", 0, "user:anon"), ("b", 90, "user:ann")]


def test_an_answer_to_the_run_and_its_cancellation_find_it() -> None:
    ask = {"kind": "approve", "id": "judge", "request": {"type": "sales.approval.ask", "title": "t", "text": "t"}}
    all_ = Cluster(
        workflow({**ask, "assignee": "bob", "deadline": "2h", "approved": "a"}, act("a", "w"), _wait("w", "1d"))
    )
    all_.event("anon", "go", T0)
    all_.alias("anon", "ann", T0 + 60 * S)
    all_.settle()
    run = all_.records[0]["run"]
    data = {"run": run, "step": "judge", "approved": True, "by": "bob"}
    all_.signal("user:anon", T0 + 90 * S, "x", data, kind="approval", workflows=[], topic=None)
    all_.settle()
    assert all_.given[1:] == [("a", 90, "user:ann")]
    all_.signal("user:anon", T0 + 95 * S, "y", {"run": run, "by": "bob"}, kind="cancel", workflows=[], topic=None)
    all_.settle()
    assert all_.ends == [("user:ann", "cancelled", "bob")]


@pytest.mark.parametrize(
    ("reentry", "left"), [("skip", ["e1"]), ("once", ["e1"]), ("restart", ["e2"]), ("parallel", ["e1", "e2"])]
)
def test_two_runs_of_one_person(reentry: str, left: list[str]) -> None:
    all_ = Cluster(workflow(_wait("w", "1d", "a"), act("a"), reentry=reentry))
    all_.event("anon", "go", T0)
    all_.event("ann", "go", T0 + S)
    all_.settle()
    all_.alias("anon", "ann", T0 + 60 * S)
    all_.clock(T0 + 60 * H)
    all_.settle()
    assert [c["cause"] for c in sorted(all_.commands, key=lambda c: c["cause"])] == left
    assert [e[1:] for e in all_.ends].count(("cancelled", "merged")) == 2 - len(left)
    assert {c["subject"] for c in all_.commands} == {"user:ann"}


def test_a_run_that_was_over_by_then_ends_no_other() -> None:
    """However far timers had been fired: the one of before ended before the alias."""
    for fired in (False, True):
        all_ = Cluster(workflow(_wait("w", "30s", "a"), act("a")))
        all_.event("anon", "go", T0)
        all_.event("ann", "go", T0 + 50 * S)
        if fired:
            all_.clock(T0 + 55 * S)
        all_.settle()
        all_.alias("anon", "ann", T0 + 60 * S)
        all_.clock(T0 + H)
        all_.settle()
        assert all_.given == [("a", 30, "user:anon"), ("a", 80, "user:ann")], fired


def test_the_policy_remembers_who_entered_under_the_former_name() -> None:
    all_ = Cluster(workflow(act("a"), reentry="once"))
    all_.event("anon", "go", T0)
    all_.alias("anon", "ann", T0 + S)
    all_.event("ann", "go", T0 + 2 * S)
    all_.settle()
    assert all_.given == [("a", 0, "user:anon")] and all_.refused == ["entered_before"]


def test_a_look_back_reaches_what_was_told_of_the_former_name() -> None:
    looking = {**AWAIT, "look_back": "1h"}
    all_ = Cluster(workflow(looking, act("thank"), act("remind")))
    all_.event("anon", "opened", T0)
    all_.alias("anon", "ann", T0 + S)
    all_.event("ann", "go", T0 + 60 * S)
    all_.settle()
    assert all_.given == [("thank", 60, "user:ann")]


def test_a_version_that_is_no_longer_in_force_goes_with_its_run() -> None:
    old = workflow(_wait("w", "1h", "old"), act("old"))
    all_ = Cluster(old)
    all_.event("anon", "go", T0)
    all_.settle()
    all_.catalogue.put(workflow(_wait("w", "1h", "new"), act("new"), version=2))
    for p in range(PARTITIONS):
        all_.crash(p)
    all_.alias("anon", "ann", T0 + S)
    all_.settle()
    for p in range(PARTITIONS):
        all_.crash(p)
    all_.clock(T0 + 3 * H)
    all_.settle()
    assert all_.given == [("old", 3600, "user:ann")]


@pytest.mark.parametrize("forgotten", ["user:anon", "user:ann"])
@pytest.mark.parametrize("late", [False, True])
def test_forgetting_either_name_forgets_the_run(forgotten: str, late: bool) -> None:
    all_, salt = Cluster(workflow(*CART)), "5a" * 32
    record = Forgotten(tenant="acme", name=digest(salt, "acme", forgotten), of="user", salt=salt, asked_at=T0)
    all_.event("anon", "go", T0)
    all_.settle()
    if not late:
        all_.catalogue.put(record)
    all_.alias("anon", "ann", T0 + 60 * S)
    all_.settle()
    all_.catalogue.put(record)
    all_.settle()
    all_.clock(T0 + 9 * H)
    all_.settle()
    assert [c["step"] for c in all_.commands] == ["greet"] and all_.went_on() == 0
    all_.event("ann", "go", T0 + 10 * H)
    all_.settle()
    assert len(all_.commands) == (1 if forgotten == "user:ann" else 2), "nobody waits for what never comes"
    for p in range(PARTITIONS):
        all_.crash(p)
        assert forgotten not in str(all_.rows[p].keys()) + str(all_.rows[p].values())


def test_in_time_a_former_name_is_one_as_any_other() -> None:
    all_ = Cluster(workflow(act("a")))
    all_.alias("anon", "ann", T0)
    all_.settle()
    all_.clock(T0 + 91 * 24 * H)
    all_.settle()
    for p in range(PARTITIONS):
        all_.crash(p)
        assert not any(b"gone" in row or b"taken" in row for row in all_.rows[p])
    all_.event("anon", "go", T0 + 92 * 24 * H)
    all_.settle()
    assert [c["subject"] for c in all_.commands] == ["user:anon"]


def test_nobody_waits_for_ever_for_a_partition_that_hands_nothing_over() -> None:
    all_ = Cluster(workflow(*CART))
    data = {"type": "contact.aliased", "contact": "ann", "former": "anon"}
    all_.signal("user:ann", T0, "e0", data, topic="events.contacts", workflows=[])
    all_.event("ann", "go", T0 + S)
    all_.settle()
    assert all_.given == []
    all_.now += PATIENCE_MS
    all_.settle()
    assert all_.given == [("greet", 1, "user:ann")] and all_.refused == ["not_handed_over"]
    all_.signal("user:ann", T0, "e9", data, topic="events.contacts", workflows=[])
    for n in range(MOST_WORDS):
        all_.event("ann", "opened", T0 + (n + 2) * S)
    all_.settle()
    assert all_.given[-1] == ("thank", 2, "user:ann")


def _wait(id_: str, span: str, next_: str | None = None) -> dict[str, Any]:
    return {"kind": "wait", "id": id_, "until": {"kind": "span", "span": span}, "next": next_}


NAMES = ["a", "b", "c", "d"]
STORY = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.sampled_from(NAMES), st.sampled_from(["go", "opened", "bought"])),
        st.tuples(st.just("alias"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    ),
    min_size=2,
    max_size=14,
)
LOOP = [
    {"kind": "loop", "id": "turns", "body": "answer", "max_turns": 3, "next": "last"},
    {"kind": "await", "id": "answer", "events": {"opened": "thank"}, "timeout": "10m", "timed_out": "remind"},
    act("thank"),
    act("remind"),
    act("last"),
]


def lived(story: list[tuple[str, str, str]], reentry: str, seed: int, crashes: bool = True) -> Cluster:
    """What partitions make of a log that is there as a whole; time passes when it has been read."""
    all_ = Cluster(workflow(*LOOP, reentry=reentry, goals=["bought"]), seed=seed, crashes=crashes)
    at = T0
    for kind, one, other in story:
        at += 60 * S
        if kind == "alias":
            all_.alias(one, other, at)
        else:
            all_.event(one, other, at)
    while any(all_.read[of] < len(log) for of, log in list(all_.log.items())):
        all_.some()
    all_.clock(at + 100 * H)
    all_.settle()
    return all_


@settings(max_examples=60, deadline=None)
@given(STORY, st.sampled_from(["skip", "restart", "parallel", "once"]), st.integers(1, 1 << 30))
def test_no_run_is_lost_no_command_is_doubled_and_names_agree(
    story: list[tuple[str, str, str]], reentry: str, seed: int
) -> None:
    all_ = lived(story, reentry, seed)
    aliases = [(one, other) for kind, one, other in story if kind == "alias" and one != other]
    if len({one for one, _ in aliases}) == len(aliases):  # each name has gone once, in a circle or not
        assert not any(task.desk.aliases.waiting for task in all_.tasks)
    all_.now += PATIENCE_MS
    all_.settle()
    assert all_.given is not None and all_.went_on() == 0
    begun = {r["run"] for r in all_.records if r["seq"] == 1}
    ended = [r["run"] for r in all_.records if r["status"] != "running"]
    assert sorted(ended) == sorted(begun)
    by_run = defaultdict(list)
    for record in all_.records:
        by_run[record["run"]].append(record["seq"])
    assert all(seqs == [*range(1, len(seqs) + 1)] for seqs in by_run.values())


@settings(max_examples=60, deadline=None)
@given(STORY, st.sampled_from(["skip", "restart", "parallel", "once"]), st.integers(1, 1 << 30))
def test_partitions_may_be_interleaved_in_any_way(story: list[tuple[str, str, str]], reentry: str, seed: int) -> None:
    """As long as nothing names a former name after its alias: that comes when it comes."""
    gone: set[str] = set()
    kept = []
    for kind, one, other in story:
        if kind == "alias":
            if one == other or one in gone or other in gone:
                continue
            gone.add(one)
        elif one in gone:
            continue
        kept.append((kind, one, other))
    first, second = lived(kept, reentry, 0, crashes=False), lived(kept, reentry, seed)
    ids = [{(c["id"], c["step"], c["issued_at"]) for c in one.commands} for one in (first, second)]
    assert ids[0] == ids[1], (kept, reentry, seed)
    assert first.ends == second.ends, (kept, reentry, seed)

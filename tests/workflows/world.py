"""Generated workflows and what happens to their subjects, through a desk that crashes, and through the oracle; compared."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import Any

import msgspec

from core.definitions import Catalogue
from core.workflows.desk import Came, Desk, Occurrence
from core.workflows.handover import arrive, leave
from core.workflows.jobs import Approval, Receipt, Record, Start
from core.workflows.problems import problems
from core.workflows.publishing import Publish, announcement, read_announcement
from core.workflows.replay import replay
from core.workflows.shelf import Shelf
from core.workflows.testing import histories
from schemas.definitions import DEFINITION, Workflow
from tests.workflows.oracle import OracleSubject

T0 = 1_767_603_600_000
HOUR = 3_600_000
TYPES = ["a", "b", "c", "d"]
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ASK = "success.approval.ask"


class Maker:
    """Draws a workflow. `callee`: another one that it may call."""

    def __init__(self, rng: random.Random, name: str, callee: str | None, size: int, people: bool = False) -> None:
        """`people`: whether it asks how often the subject has bought."""
        self.rng, self.name, self.callee, self.left, self.people = rng, name, callee, size, people
        self.nodes: list[dict[str, Any]] = []

    def workflow(self) -> Workflow:
        rng = self.rng
        start = self.chain(0, None) or self.node("exit", outcome="nothing")
        lasts = rng.choice([None, None, rng.randint(3_600, 200_000)])
        body = {
            "kind": "workflow",
            "name": self.name,
            "id": self.name,
            "trigger": {
                "kind": "event",
                "topic": "events.usage",
                "where": self.is_type("go" if self.callee or self.name == "w1" else "never"),
            },
            "start": start,
            "nodes": self.nodes,
            "events": {t: {"where": self.is_type(t), "same": rng.choice([[], [], [], ["cart"]])} for t in TYPES},
            "goals": rng.choice([[], [], [], ["d"]]),
            "exits": rng.choice([[], [], [], ["c"]]),
            "lasts": lasts,
            "key": rng.choice([[], ["cart"]]),
            "reentry": rng.choice(["skip", "restart", "parallel", "once"]),
            "reentry_after": rng.choice([0, 0, 7_200]),
        }
        made = DEFINITION.validate_python(body)
        assert isinstance(made, Workflow)
        # What was drawn behind an exit is reached by nothing.
        lost = [p for p in problems(made) if p.endswith("nothing leads to it")]
        made = made.model_copy(update={"nodes": [n for n in made.nodes if not any(f"({n.id})" in p for p in lost)]})
        assert problems(made) == []
        return made

    def is_type(self, value: str) -> dict[str, Any]:
        return {"kind": "compare", "field": "type", "op": "==", "value": value}

    def node(self, kind: str, **more: Any) -> str:
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append({"kind": kind, "id": name, **more})
        return name

    def span(self) -> int:
        return self.rng.choice([60, 1_800, 3_600, 7_200, 30_000, 86_400])

    def condition(self, depth: int = 0) -> dict[str, Any]:
        rng = self.rng
        if depth < 2 and rng.random() < 0.3:
            kind = rng.choice(["all", "any", "not"])
            return {
                "kind": kind,
                "of": self.condition(2)
                if kind == "not"
                else [self.condition(depth + 1) for _ in range(rng.randint(1, 3))],
            }
        field, value = rng.choice(
            [
                *([("contact.purchases", rng.randint(0, 3))] * 3 if self.people else []),
                ("n", rng.randint(0, 9)),
                (f"seen.{rng.choice(TYPES)}", rng.randint(0, 2)),
                ("turn", rng.randint(0, 2)),
                ("cart", "c1"),
                ("item", 1),
            ]
        )
        ops = ["==", "!="] if isinstance(value, str) else ["==", "!=", "<", "<=", ">", ">=", "missing"]
        return {"kind": "compare", "field": field, "op": rng.choice(ops), "value": value}

    def command(self, what: str) -> dict[str, str]:
        return {"type": what, "title": "t", "text": "t"}

    def chain(self, depth: int, tail: str | None) -> str | None:
        """Nodes one after the other, then `tail`; the first of them."""
        for _ in range(self.rng.randint(1, 4)):
            if self.left <= 0:
                break
            self.left -= 1
            tail = self.one(depth, tail)
        return tail

    def way(self, depth: int, tail: str | None) -> str | None:
        return self.chain(depth + 1, tail) if self.rng.random() < 0.6 and depth < 4 else tail

    def body(self, depth: int) -> str:
        return self.chain(depth + 1, None) or self.node("act", command=self.command("sales.body.do"))

    def one(self, depth: int, tail: str | None) -> str:
        rng = self.rng
        kinds = (
            ["act"] * 4
            + ["wait"] * 3
            + ["await"] * 4
            + ["branch", "branch", "split", "decide", "approve", "compensate"]
        )
        kinds += ["exit"] * (rng.random() < 0.1)
        if depth < 3:
            kinds += ["loop", "loop", "each", "parallel", "parallel"] + ["call"] * (self.callee is not None)
        match rng.choice(kinds):
            case "act":
                return self.act(depth, tail)
            case "wait":
                return self.node("wait", until=self.until(), next=tail, missing=self.way(depth, tail))
            case "await":
                on = {t: self.way(depth, tail) for t in rng.sample(TYPES, rng.randint(0, 3))}
                more: dict[str, Any] = {}
                if not on or rng.random() < 0.3:
                    more = {"when": self.condition(), "met": self.way(depth, tail)}
                look = rng.choice([0, 0, 600, 7_200])
                return self.node(
                    "await", events=on, timeout=self.span(), timed_out=self.way(depth, tail), look_back=look, **more
                )
            case "branch":
                paths = [{"when": self.condition(), "next": self.way(depth, tail)} for _ in range(rng.randint(1, 3))]
                return self.node("branch", paths=paths, otherwise=self.way(depth, tail))
            case "split":
                arms = [
                    {"name": n, "weight": rng.randint(1, 3), "next": self.way(depth, tail)}
                    for n in "xyz"[: rng.randint(2, 3)]
                ]
                return self.node("split", arms=arms, winner=rng.choice([None, None, "y"]))
            case "decide":
                score: dict[str, Any] = (
                    {"of": "n"}
                    if rng.random() < 0.5
                    else {"factors": [{"when": self.condition(), "points": rng.randint(-3, 5)} for _ in range(3)]}
                )
                ways = {a: self.way(depth, tail) for a in ("high", "low", "unsure")}
                return self.node("decide", high_from=4, low_to=1, **score, **ways)
            case "approve":
                ways = {a: self.way(depth, tail) for a in ("approved", "rejected", "expired")}
                delegate = {"delegate": "boss", "delegate_after": 1_000} if rng.random() < 0.5 else {}
                return self.node(
                    "approve",
                    request=self.command(ASK),
                    assignee="ann",
                    deadline=rng.choice([3_600, 90_000]),
                    **delegate,
                    **ways,
                )
            case "compensate":
                return self.node("compensate", next=tail)
            case "exit":
                return self.node("exit", outcome="left")
            case "loop":
                more = {"repeat": self.condition()} if rng.random() < 0.5 else {}
                return self.node(
                    "loop", body=self.body(depth), max_turns=rng.randint(1, 3), lasts=rng.choice([None, 3_600]), next=tail,
                    exhausted=self.way(depth, tail), **more,
                )  # fmt: skip
            case "each":
                return self.node("each", items="items", body=self.body(depth), max_items=3, next=tail)
            case "parallel":
                branches = [self.body(depth) for _ in range(rng.randint(2, 3))]
                return self.node("parallel", branches=branches, join=rng.choice(["all", "any", 2]), next=tail)
            case _:
                return self.node("call", workflow=self.callee, next=tail)

    def act(self, depth: int, tail: str | None) -> str:
        rng = self.rng
        more: dict[str, Any] = {}
        if rng.random() < 0.4:
            more |= {"undo": self.command("sales.thing.undo")}
        if rng.random() < 0.4:
            more |= {
                "wait": "delivery",
                "timeout": self.span(),
                "on_error": rng.choice(["fail", "continue", "continue"]),
            }
            more |= {"retry": {"attempts": rng.randint(1, 3), "pause": 600}, "failed": self.way(depth, None)}
        return self.node("act", command=self.command("sales.thing.do"), next=tail, **more)

    def until(self) -> dict[str, Any]:
        rng = self.rng
        zone = rng.choice(["UTC", "Europe/Paris", "Asia/Kolkata"])
        days = rng.sample(DAYS, rng.randint(1, 7))
        return rng.choice(
            [
                {"kind": "span", "span": self.span()},
                {"kind": "span", "span": self.span()},
                {"kind": "clock", "at": rng.choice(["09:00", "23:30"]), "days": rng.choice([[], days]), "zone": zone},
                {"kind": "date", "field": rng.choice(["renewal", "nothing"]), "offset": rng.choice([-7_200, 0, 3_600])},
                {
                    "kind": "hours",
                    "opens": "10:00",
                    "closes": "16:00",
                    "days": days,
                    "zone": zone,
                    "holidays": ["2026-01-06"],
                },
            ]
        )


@dataclass
class World:
    """One set of definitions, and subjects one after the other. `differences` says what was not equal."""

    seed: int
    size: int = 14
    differences: list[str] = field(default_factory=list)
    commands: int = 0
    crashes: int = 0
    jobs: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    replayed: int = 0
    late: int = 0
    """Events that came after they occurred."""
    asking: int = 0
    """Runs that ask for profiles."""
    retired: int = 0
    """Subjects whose workflow was taken out of force meanwhile."""
    past: int = 0
    """Subjects of whom all was told months later."""
    aliased: int = 0
    """Subjects that were known by another name meanwhile."""
    people: bool = False
    """Whether anybody may ask for profiles."""
    shelf: Shelf = field(init=False, repr=False)
    without: dict[str, tuple[Shelf, Publish | None]] = field(default_factory=dict, repr=False)
    """How `w1` is retired → what is in force then, and what is told of it."""

    def run(self, subjects: int, first: int = 0) -> World:
        rng = random.Random(self.seed)
        asks = random.Random(f"{self.seed}/people")
        subs, ones, twos = (asks.random() < chance for chance in (0.1, 0.3, 0.3))
        known = {
            "sub": Maker(rng, "sub", None, 5, subs).workflow(),
            "w1": Maker(rng, "w1", "sub", self.size, ones).workflow(),
        }
        if rng.random() < 0.3:
            known["w2"] = Maker(rng, "w2", "sub", 6, twos).workflow()
        self.people = subs or ones or twos
        catalogue = Catalogue()
        for one in known.values():
            catalogue.put(one)
            self.kinds |= {n.kind for n in one.nodes}
        known = {w.name: w for w in catalogue.of(Workflow)}
        self.shelf = Shelf(catalogue)
        for n in range(first, first + subjects):
            Life(self, random.Random(f"{self.seed}/{n}"), catalogue, known, f"user:u{n}").live()
        return self


class Life:
    """What happens to one subject."""

    def __init__(
        self, world: World, rng: random.Random, catalogue: Catalogue, known: dict[str, Workflow], subject: str
    ) -> None:
        self.world, self.rng, self.catalogue, self.subject = world, rng, catalogue, subject
        self.shelf = world.shelf
        self.desk = Desk(self.shelf)
        self.oracle = OracleSubject(known, subject)
        self.rows: dict[tuple[str, ...], bytes] = {}
        self.since: list[tuple[str, Any]] = []
        self.held: list[Came] = []
        self.came: list[Came] = []
        self.queue: list[tuple[int, int, str, Any]] = []
        self.causes: dict[str, tuple[str, str]] = {}
        """Run → what the oracle knows it by."""
        self.number = 0
        self.arrived = T0
        self.past = False

    def put(self, at: int, kind: str, what: Any) -> None:
        self.number += 1
        heapq.heappush(self.queue, (at, self.number, kind, what))

    def happens(self, told: int, at: int, id_: str, topic: str, data: dict[str, Any]) -> None:
        self.put(told, "event", {"at": at, "told": told, "id": id_, "topic": topic, "data": data})

    def live(self) -> None:
        rng, at = self.rng, T0
        past = self.past = random.Random(f"{self.world.seed}/{self.subject}/past").random() < 0.15
        self.world.past += past

        def when(at: int) -> int:
            """When it is told: of one in seven, all of it months later, an hour in a few seconds."""
            return T0 + 200 * 24 * HOUR + (at - T0) // 1_000 if past else at

        for n in range(rng.randint(4, 14)):
            at += rng.choice([1_000, 600_000, 3_500_000, 20_000_000, 90_000_000])
            late = rng.choice([0, 0, 0, rng.randint(1, 3_000_000)])
            kind = "go" if n == 0 else rng.choice([*TYPES, *TYPES, "go", "other"])
            data = {
                "type": kind,
                "n": rng.randint(0, 9),
                "cart": rng.choice(["c1", "c2"]),
                "items": list(range(rng.randint(0, 4))),
            }
            if rng.random() < 0.5:
                data["renewal"] = at + rng.randint(-HOUR, 100 * HOUR)
            self.world.late += late > 0
            if self.world.people and rng.random() < 0.3:
                bought = {"type": "purchase.completed", "user": "u", "amount": 1, "order": f"o{n}"}
                then = at - rng.choice([0, 0, rng.randint(1, 3_000_000)])
                self.happens(when(at), then, f"p{n}", "events.commerce", bought)
            self.happens(when(at), at - late, f"e{n}", "events.usage", data)
        for _ in range(rng.randint(0, 6)):
            now = T0 + rng.randint(0, at - T0)
            self.put(when(now), "advance", now - rng.choice([0, 2_000, HOUR]))
        fate = random.Random(f"{self.world.seed}/{self.subject}/aliased")
        if random.Random(f"{self.world.seed}/{self.subject}/retired").random() >= 0.15:
            for n in range(0 if self.world.people else fate.choice([0, 0, 1, 2])):
                now = T0 + fate.randint(0, at - T0)
                self.put(when(now), "alias", (now, f"{self.subject}-{n}"))
        else:
            self.put(when(T0 + rng.randint(0, at - T0)), "retire", rng.choice(["finish", "cancel", "undo"]))
        self.put(at + 400 * 24 * HOUR, "advance", at + 400 * 24 * HOUR)
        while self.queue:
            self.arrived, _, kind, what = heapq.heappop(self.queue)
            if kind == "retire":
                self.retire(what)
                continue
            if kind == "alias":
                self.alias(*what)
                continue
            self.give(kind, what)
            if rng.random() < 0.3 or not self.queue:
                self.checkpoint()
            elif rng.random() < 0.2:
                self.crash()
            self.oracle_takes(kind, what)
            if not self.queue and past and len(self.desk):
                # What was delivered since the last clock has begun waits of its own.
                self.put(self.arrived + 400 * 24 * HOUR, "advance", self.arrived + 400 * 24 * HOUR)
        self.judge()

    def give(self, kind: str, what: Any) -> None:
        self.since.append((kind, what))
        self.held += self.desk_takes(kind, what)
        self.world.jobs += 1

    def retire(self, how: str) -> None:
        """Between two checkpoints: what the definitions say is no part of the log that comes again."""
        self.checkpoint()
        self.world.retired += 1
        self.shelf, told = self.world.without.get(how) or self._without(how)
        self.catalogue = self.shelf.catalogue
        self.crash()
        if told is not None:
            self.desk.published(msgspec.structs.replace(told, at=max(self.arrived, told.at)))
        self.checkpoint()
        self.oracle.retire("w1", how, self.arrived)

    def _without(self, how: str) -> tuple[Shelf, Publish | None]:
        catalogue = Catalogue()
        for one in self.catalogue.of(Workflow):
            catalogue.put(one)
        before = next(w for w in catalogue.of(Workflow) if w.name == "w1")
        after = before.model_copy(update={"version": before.version + 1, "retired": how})
        catalogue.put(after)
        signal = announcement(before, after, 0, "ann")
        told = None if signal is None else read_announcement(signal)
        made = self.world.without[how] = (Shelf(catalogue), told)
        return made

    def alias(self, at: int, known: str) -> None:
        """The subject is known by another name, whose partition is another one."""
        self.checkpoint()
        self.world.aliased += 1
        if self.world.aliased % 8 == 0:
            self.shelf = Shelf(self.catalogue)
        former, self.desk = self.desk, Desk(self.shelf)
        self.held, rows = leave(former, "acme", self.subject, at, self.arrived)
        for row in rows:
            self.held += arrive(self.desk, "acme", known, self.subject, *row, at, "alias", self.arrived)
        if len(former):
            self.world.differences.append(f"seed {self.world.seed}, {self.subject}: {len(former)} runs did not follow")
        self.subject, self.rows = known, {}
        self.checkpoint()
        self.oracle.known_as(known, at)

    def desk_takes(self, kind: str, what: Any) -> list[Came]:
        desk, now = self.desk, self.arrived
        match kind:
            case "event":
                told = Occurrence(
                    *("acme", "shop", self.subject, what["id"], what["at"], what["topic"], what["data"]),
                    past=what["at"] < what["told"] - 24 * HOUR,
                )
                return desk.happened(told, now)
            case "receipt":
                status = "delivered" if what[1] else "rejected"
                return desk.receipt(
                    "acme", self.subject, Receipt(what[2], what[0], status, None if what[1] else "refused"), now
                )
            case "approval":
                run, step, yes, at = what
                return desk.answer(run, Approval(at, step, yes, "ann"), now)
            case _:
                return desk.advance(what, now)

    def oracle_takes(self, kind: str, what: Any) -> None:
        match kind:
            case "event":
                self.oracle.happened(what)
            case "receipt":
                self.oracle.receipt(*what)
            case "approval":
                # An answer is one run's: of the time of others, which may hear of months before it yet, it says nothing.
                for run in self.oracle.runs:
                    if (run.cause, run.wf.id) == self.causes[what[0]]:
                        run.comes_to(what[3])
                        run.approval(what[1], what[2], what[3])
            case _:
                self.oracle.advance(what)

    def checkpoint(self) -> None:
        for row, value in self.desk.rows():
            if value is None:
                self.rows.pop(row, None)
            else:
                self.rows[row] = value
        for came in self.held:
            self.sent(came)
        self.came += self.held
        self.held, self.since = [], []

    def sent(self, came: Came) -> None:
        """Commands are on their topic: receipts and answers come back."""
        for command in came.commands:
            chance = random.Random(command.id)
            at = max(self.arrived, command.issued_at) + chance.choice([0, 500, 50_000, 5_000_000])
            if command.type == ASK:
                self.causes[came.record.run] = (command.cause, command.rule)
                step = command.step.removesuffix("~delegate")
                if chance.random() < 0.6:
                    self.put(at, "approval", (came.record.run, step, chance.random() < 0.5, at))
            elif chance.random() < 0.8 or self.past:  # every command comes to something, sooner or later
                self.put(at, "receipt", (command.id, chance.random() < 0.6, at))

    def crash(self) -> None:
        """Back to the last checkpoint; what came since comes again."""
        self.world.crashes += 1
        # A library of its own has only what the rows brought back; making one costs more than all else here.
        if self.world.crashes % 8 == 0:
            self.shelf = Shelf(self.catalogue)
        self.desk = Desk(self.shelf)
        for row, value in sorted(self.rows.items(), reverse=True):
            self.desk.load(row, value)
        self.desk.loaded()
        self.held = [came for kind, what in self.since for came in self.desk_takes(kind, what)]

    def judge(self) -> None:
        world = self.world
        mine = sorted((c.id, c.step, c.type, c.issued_at) for came in self.came for c in came.commands)
        theirs = sorted((g.id, g.step, g.type, g.at) for run in self.oracle.runs for g in run.given)
        where = f"seed {world.seed}, {self.subject}"
        if mine != theirs:
            odd = sorted(set(mine) ^ set(theirs), key=lambda c: c[3])[:3]
            world.differences.append(f"{where}: {len(mine)} commands, the oracle {len(theirs)}: {odd}")
        if len({c[0] for c in mine}) != len(mine):
            world.differences.append(f"{where}: a command id twice")
        ends = histories(c.record for c in self.came)
        ours = sorted((h[-1].status, h[-1].outcome) for h in ends.values())
        if ours != sorted((r.status, r.outcome) for r in self.oracle.runs):
            world.differences.append(
                f"{where}: runs ended {ours}, the oracle's {sorted((r.status, r.outcome) for r in self.oracle.runs)}"
            )
        for status, _ in ours:
            world.statuses[status] = world.statuses.get(status, 0) + 1
        world.commands += len(mine)
        if len(self.desk) != sum(h[-1].status == "running" for h in ends.values()):
            world.differences.append(f"{where}: {len(self.desk)} runs left")
        world.asking += sum(any(isinstance(r.job, Start) and r.job.person for r in h) for h in ends.values())
        self.replays(ends)

    def replays(self, ends: dict[str, list[Record]]) -> None:
        library = self.world.shelf
        library.look_back_ms("acme")
        for history in ends.values():
            self.world.replayed += 1
            self.world.differences += replay(library.library, history)

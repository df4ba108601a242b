"""An independent interpreter of workflows: shares only `schemas` with what it judges.

It is built another way on purpose: every path through a graph is a Python generator, its position is the generator's own, bodies
are nested generators. It can neither be packed nor restored, and computes calendars by walking half hours.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from schemas.commands import command_id
from schemas.definitions import Workflow

STEP = 1_800_000
"""Every time of day in these tests is a multiple of it, in every zone."""
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Gen = Generator[Any, Any, Any]


@dataclass
class Given:
    """A command."""

    id: str
    step: str
    type: str
    at: int


_looks: dict[int, tuple[Workflow, bool]] = {}
_called: dict[int, tuple[Workflow, dict[str, Workflow]]] = {}
_patterns: dict[int, tuple[Workflow, list[tuple[str, str, Any]]]] = {}
"""Both by identity; the definition is kept, so that its identity is nobody else's."""
_ends: dict[int, tuple[Any, dict[int, int]]] = {}
"""Wait, by identity → step → when it ends where it begins there."""


def looks_at_profiles(wf: Workflow) -> bool:
    """Whether the definition itself names the fact of profiles that these tests know."""
    found = _looks.get(id(wf))
    if found is None:
        found = _looks[id(wf)] = (wf, "contact.purchases" in wf.model_dump_json())
    return found[1]


class Over(Exception):
    """The run is over."""

    def __init__(self, status: str, outcome: str = "") -> None:
        super().__init__(status)
        self.status, self.outcome = status, outcome


class LeaveCall(Exception):
    """Out of the innermost call."""


@dataclass
class Fiber:
    number: int
    gen: Gen
    parent: Fork | None = None
    branch: int = 0
    due: int | None = None
    listens: Any = None


@dataclass
class Fork:
    need: int
    waiting: Fiber
    done: int = 0
    kids: list[Fiber] = field(default_factory=list)


ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def truth(c: Any, get: Any) -> bool:
    if c.kind == "all":
        return all(truth(x, get) for x in c.of)
    if c.kind == "any":
        return any(truth(x, get) for x in c.of)
    if c.kind == "not":
        return not truth(c.of, get)
    v, w = get(c.field), c.value
    if v is None:
        return c.op in ("!=", "missing")
    if c.op in ("==", "!="):
        same = type(v) is type(w) and v == w
        return same if c.op == "==" else not same
    if c.op == "missing" or isinstance(v, str) != isinstance(w, str):
        return False
    return ORDER[c.op](v, w)


def wall(at: int, zone: str) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(zone))


def wait_end(u: Any, now: int) -> int:
    if u.kind == "span":
        return now + u.span * 1000
    if u.kind == "hours" and open_at(u, now):
        return now
    at = -(-now // STEP) * STEP
    known = _ends.setdefault(id(u), (u, {}))[1]
    came: list[int] = []
    while at not in known and not over_at(u, at):
        came.append(at)
        at += STEP
    end = known.get(at, at)
    known.update(dict.fromkeys([*came, at], end))
    return end


def over_at(u: Any, at: int) -> bool:
    """Whether the wait ends at this step, if it did not before."""
    if u.kind == "hours":
        return open_at(u, at)
    local = wall(at, u.zone)  # clock; the zones of these tests skip no such hour
    return f"{local:%H:%M}" == u.at and (not u.days or DAYS[local.weekday()] in u.days)


def open_at(u: Any, at: int) -> bool:
    local = wall(at, u.zone)
    return (
        DAYS[local.weekday()] in u.days
        and u.opens <= f"{local:%H:%M}" < u.closes
        and f"{local:%Y-%m-%d}" not in u.holidays
    )


class OracleRun:
    """One run."""

    def __init__(
        self,
        known: dict[str, Workflow],
        wf: Workflow,
        subject: str,
        cause: str,
        at: int,
        data: dict[str, Any],
        recent: list[Any],
        bought: int = 0,
        past: bool = False,
    ) -> None:
        self.past = past
        self.held: list[Any] = []
        """What came while its time waited for a delivery: it is done afterwards, in order."""
        self.known, self.wf, self.subject, self.cause = known, wf, subject, cause
        self.began = self.clock = at
        self.data = data
        self.key = [data.get(k) for k in wf.key]
        self.status, self.outcome = "running", ""
        self.given: list[Given] = []
        self.seen: dict[tuple[str, str], dict[str, Any]] = {}
        self.out: dict[str, dict[str, Any]] = {}
        self.undoable: list[tuple[Any, str, str]] = []
        self.fibers: list[Fiber] = []
        self.made = 0
        self.entered = 0
        self.ends = None if wf.lasts is None else at + wf.lasts * 1000
        self.asks = any(looks_at_profiles(w) for w in (wf, *self.called(wf).values()))
        self.bought = bought
        self.retires: tuple[int, bool] | None = None
        """When the run is to end for its workflow is retired, and whether it takes back first."""
        for e in recent:
            self.count(e, 0)
        self.guarded(lambda: self.pump(self.fiber(self.path(wf, wf.start, "", [])), None))

    # --- what comes in

    def guarded(self, work: Any) -> None:
        try:
            work()
            if not self.fibers:
                raise Over("completed")
        except Over as over:
            self.status, self.outcome = over.status, over.outcome
            self.fibers = []

    def names(self, e: Any) -> list[tuple[str, str]]:
        known = _patterns.get(id(self.wf))
        if known is None:
            graphs = [("", self.wf), *sorted((n, w) for n, w in self.called(self.wf).items())]
            known = _patterns[id(self.wf)] = (self.wf, [(g, n, p) for g, w in graphs for n, p in w.events.items()])
        return [(g, n) for g, n, p in known[1] if p.topic == e["topic"] and self.matches(p, e)]

    def called(self, wf: Workflow) -> dict[str, Workflow]:
        known = _called.get(id(wf))
        if known is not None:
            return known[1]
        found: dict[str, Workflow] = {}
        for node in wf.nodes:
            if node.kind == "call" and node.workflow not in found:
                found |= {node.workflow: self.known[node.workflow]} | self.called(self.known[node.workflow])
        _called[id(wf)] = (wf, found)
        return found

    def matches(self, p: Any, e: Any) -> bool:
        if p.where is not None and not truth(p.where, e["data"].get):
            return False
        return all(e["data"].get(f) is not None and e["data"].get(f) == self.data.get(f) for f in p.same)

    def count(self, e: Any, n: int) -> None:
        for place in self.names(e):
            s = self.seen.setdefault(place, {"count": 0, "at": -1, "used": True})
            s["count"] += n
            if e["at"] >= s["at"]:
                s["at"], s["used"] = e["at"], False

    def until(self, at: int, included: bool) -> None:
        while self.status == "running":
            timed = sorted((f.due, f.number) for f in self.fibers if f.due is not None)
            due = timed[0][0] if timed else None
            ending = self.ends is not None and (due is None or self.ends <= due)
            when = self.ends if ending else due
            if self.stands() or when is None or when > at or (when == at and not included):
                return
            self.clock = max(self.clock, when)
            if ending:
                self.guarded(lambda: self.over("expired", "lasts"))
                return
            fiber = next(f for f in self.fibers if f.number == timed[0][1])
            self.guarded(lambda f=fiber: self.pump(f, ("time",)))

    def over(self, status: str, outcome: str) -> None:
        raise Over(status, outcome)

    def stands(self) -> bool:
        """Whether its time waits for a delivery."""
        return self.past and any(getattr(f.listens, "command", None) for f in self.fibers)

    def event(self, e: Any) -> None:
        names = self.names(e)
        if self.status != "running" or not names:
            return
        self.until(e["at"], False)
        if self.stands():
            self.held.append(lambda: self.event(e))
        if self.status != "running" or self.stands():
            return
        self.clock = max(self.clock, e["at"])
        self.count(e, 1)
        for ending, status in ((self.wf.goals, "goal"), (self.wf.exits, "exited")):
            for name in ending:
                if ("", name) in names and e["at"] >= self.began:
                    self.guarded(lambda s=status, n=name: self.over(s, n))
                    return
        self.broadcast(("event", names, e["at"]))

    def knows(self, bought: int, at: int) -> None:
        """The subject has bought so often by then."""
        if self.status != "running" or not self.asks or bought == self.bought:
            return
        self.until(at, False)
        if self.stands():
            self.held.append(lambda: self.knows(bought, at))
        elif self.status == "running":
            self.clock = max(self.clock, at)
            self.bought = bought
            self.broadcast(("event", [], at))

    def broadcast(self, what: Any) -> None:
        for number in [f.number for f in self.fibers]:
            fiber = next((f for f in self.fibers if f.number == number), None)
            if fiber is not None and self.status == "running" and fiber.listens is not None and fiber.listens(what):
                self.guarded(lambda f=fiber, w=what: self.pump(f, w))

    def receipt(self, command: str, delivered: bool, at: int) -> None:
        if self.status == "running" and any(getattr(f.listens, "command", None) == command for f in self.fibers):
            if not self.past:
                self.until(at, False)
                self.clock = max(self.clock, at) if self.status == "running" else self.clock
            self.broadcast(("receipt", command, delivered))
            held, self.held = self.held, []
            for n, one in enumerate(held):
                if self.stands():
                    self.held += held[n:]
                    break
                one()

    def approval(self, step: str, yes: bool, at: int) -> None:
        if self.status == "running" and any(getattr(f.listens, "step", None) == step for f in self.fibers):
            self.until(at, False)
            if self.stands():
                self.held.append(lambda: self.approval(step, yes, at))
                return
            self.clock = max(self.clock, at) if self.status == "running" else self.clock
            self.broadcast(("approval", step, yes))

    def cancel(self, at: int, by: str = "reentry", undo: bool = False) -> None:
        self.until(at, False)
        if self.status == "running":
            self.clock = max(self.clock, at)
            if undo:
                self.take_back()
            self.guarded(lambda: self.over("cancelled", by))

    def comes_to(self, at: int) -> None:
        """Whatever happens to anybody of the subject at this time happens after the run's own end, if that is before."""
        if self.retires is not None and at >= self.retires[0]:
            self.cancel(self.retires[0], "ann", self.retires[1])

    # --- fibers

    def fiber(self, gen: Gen, parent: Fork | None = None, branch: int = 0) -> Fiber:
        self.made += 1
        f = Fiber(self.made, gen, parent, branch)
        self.fibers.append(f)
        return f

    def pump(self, fiber: Fiber, what: Any) -> None:
        """Let it run until it waits, forks or ends."""
        fiber.due, fiber.listens = None, None
        try:
            asked = fiber.gen.throw(LeaveCall()) if what == "leave" else fiber.gen.send(what)
        except StopIteration:
            self.ended(fiber)
            return
        except LeaveCall:
            self.fibers.remove(fiber)
            self.resume(fiber, "leave")
            return
        if asked[0] == "wait":
            fiber.due, fiber.listens = asked[1], asked[2]
            return
        _, need, gens = asked
        fork = Fork(need, fiber)
        # The first branch goes on under the number of the one that forks.
        self.fibers.remove(fiber)
        first = Fiber(fiber.number, gens[0], fork)
        self.fibers.append(first)
        fork.kids = [first] + [self.fiber(g, fork, i + 1) for i, g in enumerate(gens[1:])]
        self.fibers.sort(key=lambda f: f.number)
        for kid in list(fork.kids):
            if kid in self.fibers and fork.done < fork.need:
                self.pump(kid, None)

    def ended(self, fiber: Fiber) -> None:
        self.fibers.remove(fiber)
        fork = fiber.parent
        if fork is None:
            return
        fork.done += 1
        if fork.done < fork.need:
            return
        self.resume(fiber, "joined")

    def resume(self, fiber: Fiber, what: str) -> None:
        fork = fiber.parent
        assert fork is not None
        fork.done = fork.need
        self.drop(fork)
        going = fork.waiting
        going.number = fiber.number
        self.fibers.append(going)
        self.fibers.sort(key=lambda f: f.number)
        self.pump(going, what)

    def drop(self, fork: Fork) -> None:
        def under(f: Fiber) -> bool:
            p = f.parent
            while p is not None:
                if p is fork:
                    return True
                p = p.waiting.parent
            return False

        self.fibers = [f for f in self.fibers if not under(f)]

    # --- nodes

    def get(self, graph: str, scope: dict[str, Any]) -> Any:
        def look(path: str) -> Any:
            parts = path.split(".")
            if path == "contact.purchases":
                return self.bought
            if parts[0] == "seen":
                return self.seen.get((graph, parts[1]), {"count": 0})["count"]
            if parts[0] == "out":
                return self.out.get(parts[1], {}).get(parts[2])
            return scope.get(path, self.data.get(path))

        return look

    def path(
        self, wf: Workflow, at: str | None, graph: str, frames: list[str], scope: dict[str, Any] | None = None
    ) -> Gen:
        nodes = {n.id: n for n in wf.nodes}
        scope = scope or {}
        while at is not None:
            node = nodes[at]
            self.entered += 1
            if self.entered > 20_000:
                raise Over("failed", "too_many_steps")
            at = yield from getattr(self, f"do_{node.kind}")(wf, node, graph, frames, scope)

    def give(self, template: Any, frames: list[str], node: Any, suffix: str = "") -> str:
        step = "/".join([*frames, node.id]) + suffix
        made = command_id("acme", self.wf.id, self.subject, self.cause, step)
        self.given.append(Given(made, step, template.type, self.clock))
        return made

    def do_act(self, wf: Any, node: Any, graph: str, frames: list[str], scope: Any) -> Gen:
        tried = 0
        while True:
            tried += 1
            made = self.give(node.command, frames, node, "" if tried == 1 else f"~{tried}")
            if node.undo is not None:
                self.undoable.append((node, "/".join([*frames, node.id]), made))
            if node.wait == "nothing":
                return node.next

            def listens(what: Any, made: str = made) -> bool:
                return what[0] == "receipt" and what[1] == made

            listens.command = made  # type: ignore[attr-defined]
            what = yield ("wait", None if self.past else self.clock + node.timeout * 1000, listens)
            if what[0] == "receipt" and what[2]:
                return node.next
            if tried >= node.retry.attempts:
                if node.failed is not None:
                    return node.failed
                if node.on_error == "continue":
                    return node.next
                raise Over("failed", "refused" if what[0] == "receipt" else "timeout")
            yield ("wait", self.clock + node.retry.pause * 1000 * 2 ** (tried - 1), None)

    def do_approve(self, wf: Any, node: Any, graph: str, frames: list[str], scope: Any) -> Gen:
        self.give(node.request, frames, node)
        end = self.clock + node.deadline * 1000
        step = "/".join([*frames, node.id])

        def listens(what: Any) -> bool:
            return what[0] == "approval" and what[1] == step

        listens.step = step  # type: ignore[attr-defined]
        what = None
        if node.delegate is not None:
            what = yield ("wait", self.clock + node.delegate_after * 1000, listens)
            if what[0] == "time":
                self.give(node.request, frames, node, "~delegate")
        if what is None or what[0] == "time":
            what = yield ("wait", end, listens)
        if what[0] == "time":
            return node.expired
        self.out[node.id] = {"approved": what[2]}
        return node.approved if what[2] else node.rejected

    def do_compensate(self, wf: Any, node: Any, graph: str, frames: list[str], scope: Any) -> Gen:
        self.take_back()
        return node.next
        yield

    def take_back(self) -> None:
        todo, self.undoable = self.undoable, []
        for act, step, made in reversed(todo):
            suffix = f"~undo~{made[:8]}" if act.retry.attempts > 1 else "~undo"
            full = step + suffix
            self.given.append(
                Given(command_id("acme", self.wf.id, self.subject, self.cause, full), full, act.undo.type, self.clock)
            )

    def do_exit(self, wf: Any, node: Any, graph: str, frames: list[str], scope: Any) -> Gen:
        if graph:
            raise LeaveCall
        raise Over("exited", node.outcome)
        yield

    def do_branch(self, wf: Any, node: Any, graph: str, frames: list[str], scope: Any) -> Gen:
        for p in node.paths:
            if truth(p.when, self.get(graph, scope)):
                return p.next
        return node.otherwise
        yield

    def do_split(self, wf: Any, node: Any, graph: str, frames: list[str], scope: Any) -> Gen:
        if node.winner is not None:
            arm = {a.name: a for a in node.arms}[node.winner]
        else:
            text = "\x1f".join(["acme", self.wf.id, node.salt or node.id, self.subject])
            drawn = int(hashlib.blake2b(text.encode(), key=b"uptake.split", digest_size=8).hexdigest(), 16)
            lots = [a for a in node.arms for _ in range(a.weight)]
            arm = lots[drawn * len(lots) >> 64]
        self.out[node.id] = {"arm": arm.name}
        return arm.next
        yield

    def do_decide(self, wf: Any, node: Any, graph: str, frames: list[str], scope: Any) -> Gen:
        look = self.get(graph, scope)
        score = look(node.of) if node.of else node.base + sum(f.points for f in node.factors if truth(f.when, look))
        if not isinstance(score, (int, float)):
            score = None
        high, low = score is not None and score >= node.high_from, score is not None and score <= node.low_to
        answer = "high" if high else "low" if low else "unsure"
        self.out[node.id] = {"score": score, "answer": answer}
        return getattr(node, answer)
        yield

    def do_wait(self, wf: Any, node: Any, graph: str, frames: list[str], scope: Any) -> Gen:
        if node.until.kind == "date":
            value = self.data.get(node.until.field)
            if not isinstance(value, int):
                if node.missing is None:
                    raise Over("failed", "no_date")
                return node.missing
            end = value + node.until.offset * 1000
        else:
            end = wait_end(node.until, self.clock)
        if end > self.clock:
            yield ("wait", end, None)
        return node.next

    def do_await(self, wf: Any, node: Any, graph: str, frames: list[str], scope: Any) -> Gen:
        since, back = self.clock, node.look_back * 1000
        if back:
            for name, to in node.events.items():
                s = self.seen.get((graph, name))
                if s is not None and not s["used"] and s["at"] >= since - back:
                    s["used"] = True
                    return to
        look = self.get(graph, scope)

        def chosen(what: Any) -> list[str]:
            if what[0] != "event" or what[2] < since - back:
                return []
            return [n for n in node.events if (graph, n) in what[1]]

        def listens(what: Any) -> bool:
            return bool(chosen(what)) or (what[0] == "event" and node.when is not None and truth(node.when, look))

        if node.when is not None and truth(node.when, look):
            return node.met
        what = yield ("wait", None if node.timeout is None else since + node.timeout * 1000, listens)
        if what[0] == "time":
            return node.timed_out
        found = chosen(what)
        if not found:
            return node.met
        s = self.seen[graph, found[0]]
        if s["at"] == what[2]:
            s["used"] = True
        return node.events[found[0]]

    def do_loop(self, wf: Any, node: Any, graph: str, frames: list[str], scope: Any) -> Gen:
        began, turn = self.clock, 0
        while True:
            if node.repeat is not None and not truth(node.repeat, self.get(graph, scope)):
                return node.next
            if turn >= node.max_turns or (node.lasts is not None and self.clock - began >= node.lasts * 1000):
                return node.exhausted or node.next
            turn += 1
            yield from self.path(wf, node.body, graph, [*frames, f"{node.id}:{turn}"], {**scope, "turn": turn})

    def do_each(self, wf: Any, node: Any, graph: str, frames: list[str], scope: Any) -> Gen:
        for i, item in enumerate((self.data.get(node.items) or [])[: node.max_items]):
            inner = {**scope, "turn": i, "index": i, "item": item}
            yield from self.path(wf, node.body, graph, [*frames, f"{node.id}:{i}"], inner)
        return node.next

    def do_parallel(self, wf: Any, node: Any, graph: str, frames: list[str], scope: Any) -> Gen:
        need = {"all": len(node.branches), "any": 1}.get(node.join, node.join)
        yield (
            "fork",
            need,
            [
                self.path(wf, b, graph, [*frames, f"{node.id}:{i}"], {**scope, "turn": i})
                for i, b in enumerate(node.branches)
            ],
        )
        return node.next

    def do_call(self, wf: Any, node: Any, graph: str, frames: list[str], scope: Any) -> Gen:
        other = self.known[node.workflow]
        try:
            yield from self.path(other, other.start, node.workflow, [*frames, f"{node.id}:0"], {**scope, "turn": 0})
        except LeaveCall:
            self.out[node.id] = {"outcome": "left"}
        return node.next


class OracleSubject:
    """All runs of one subject."""

    def __init__(self, known: dict[str, Workflow], subject: str) -> None:
        self.known, self.subject = known, subject
        self.runs: list[OracleRun] = []
        self.entered: dict[tuple[str, str], int] = {}
        self.recent: list[Any] = []
        self.retired: set[str] = set()
        self.asked: dict[str, bool] = {}
        self.held: list[Any] = []
        """What those who ask for profiles hear when event time has passed it."""
        self.bought = 0

    def comes_to(self, at: int) -> None:
        for run in self.runs:
            run.comes_to(at)

    def known_as(self, subject: str, at: int) -> None:
        """Those inside go on as they are, and keep the ids of their commands; who enters from now on has another name."""
        for run in self.runs:
            run.until(at, False)
        self.subject = subject

    def retire(self, name: str, how: str, at: int) -> None:
        """Nobody enters from now on; those inside end at `at`, unless they may finish."""
        self.retired.add(name)
        for run in self.runs:
            if run.wf.name == name and how != "finish":
                run.retires = (at, how == "undo")

    def receipt(self, command: str, delivered: bool, at: int) -> None:
        self.comes_to(at)
        for run in self.runs:
            run.receipt(command, delivered, at)

    def happened(self, e: Any) -> None:
        people = any(self.asking(w) for w in self.known.values() if w.name not in self.retired)
        people = people or any(r.asks and r.status == "running" for r in self.runs)
        self.tell(e, False if people else None)
        if people:
            self.held.append(e)
        self.recent.append(e)

    def asking(self, wf: Workflow) -> bool:
        if wf.name not in self.asked:
            called = (self.known[n.workflow] for n in wf.nodes if n.kind == "call")
            self.asked[wf.name] = looks_at_profiles(wf) or any(map(self.asking, called))
        return self.asked[wf.name]

    def tell(self, e: Any, asking: bool | None) -> None:
        """All, or those who ask for profiles (or do not)."""
        told = [run for run in self.runs if asking is None or run.asks == asking]
        for run in told:
            run.comes_to(e["at"])
        for run in told:
            run.event(e)
        for wf in sorted(self.known.values(), key=lambda w: w.id):
            if wf.name in self.retired or (asking is not None and self.asking(wf) != asking):
                continue
            if wf.trigger.topic == e["topic"] and truth(wf.trigger.where, e["data"].get):
                self.enter(wf, e)

    def enter(self, wf: Workflow, e: Any) -> None:
        key = [e["data"].get(k) for k in wf.key]
        place = (wf.name, repr(key))
        for run in self.runs:
            if run.wf is wf and run.key == key:
                run.until(e["at"], False)
        going = [r for r in self.runs if r.status == "running" and r.wf is wf and r.key == key]
        last = self.entered.get(place)
        too_soon = wf.reentry_after and last is not None and e["at"] < last + wf.reentry_after * 1000
        if too_soon or (wf.reentry == "once" and last is not None):
            return
        if going and wf.reentry != "parallel":
            if wf.reentry != "restart":
                return
            for run in going:
                run.cancel(e["at"])
        self.entered[place] = max(e["at"], last or 0)
        back = 1000 * max((n.look_back for n in wf.nodes if n.kind == "await"), default=0)
        recent = sorted((r for r in self.recent if e["at"] - back <= r["at"] <= e["at"]), key=lambda r: r["at"])
        seen = recent if back else []
        past = e["at"] < e.get("told", e["at"]) - 86_400_000
        self.runs.append(OracleRun(self.known, wf, self.subject, e["id"], e["at"], e["data"], seen, self.bought, past))

    def advance(self, clock: int) -> None:
        due = sorted((e for e in self.held if e["at"] <= clock), key=lambda e: (e["at"], e["id"]))
        self.held = [e for e in self.held if e["at"] > clock]
        for e in due:
            self.bought += e["data"]["type"] == "purchase.completed"
            for run in self.runs:
                run.comes_to(e["at"])
                run.knows(self.bought, e["at"])
            self.tell(e, True)
        self.comes_to(clock)
        for run in self.runs:
            run.until(clock, True)

"""`uptake coverage`: which automations of the rulebook fire from raw events, and whether their commands arrive, as observed.

Three simulations go through the real system with a webhook receiver at its end: A and B (`app.simulate.coverage`), D1
(`app.simulate.realtime`), and what stands beside rules and workflows as tests (`app.simulate.beside`), months of it. A row is about
one automation of the catalogue: it fired where its cause was planted, its commands came in with valid signatures, the same world
without the cause stayed silent, and the numbers the commands give are those of the oracle: a plain fold of the raw events for A, B,
D1 and the predictions of P1, and what people wrote down beside the definition for the others.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from base64 import b64encode
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from app import catalogue, compare
from app.acting_out import Played, act_out, played
from app.coverage_insight import measured_rows, run_rows
from app.coverage_report import Report, Row
from app.oracle.commands import ordered
from app.oracle.foresight import foreseen as foresee
from app.receiver import Receiver
from app.settings import Role, Settings
from app.simulate import beside, foreseen, ladders, realtime, reported
from app.simulate import coverage as scenario
from app.simulate.beside import Planted
from app.simulate.encode import Encoder
from app.trial import Trial, trial
from app.verify import defined, folded, judgeable, judged, rules
from core.rulebook import examples, load_rulebook, trips
from schemas.definitions import Campaign, Connection, Definition, Prediction, Rule, Segment, Workflow
from schemas.workflows import Act, Approve

AB = tuple(f"{state}.{k}" for state in (f"{family}{n}" for family in "AB" for n in range(1, 5)) for k in range(1, 5))
"""Every automation of A and B in the catalogue."""
SECRET_VARIABLE = "UPTAKE_SECRET_COVERAGE"  # noqa: S105 - the name of a variable
ARRIVE_WITHIN_S = 60.0


@dataclass(slots=True)
class World:
    """A simulation that went through the system."""

    commands: list[dict[str, Any]]
    arrived: dict[str, Any]
    """By id, what the receiver got."""
    counted: dict[str, float]
    """Rows of events, by what became of them, as METER counted."""

    def of(self, rule: str) -> list[dict[str, Any]]:
        """The commands of a rule or workflow."""
        return [c for c in self.commands if c["rule"] == rule]

    def all_arrived(self, commands: list[dict[str, Any]]) -> bool:
        """There are some, and each came unchanged."""
        return bool(commands) and all(self.arrived.get(c["id"]) == c for c in commands)


async def cover(
    settings: Settings,
    texts: Mapping[str, str],
    *,
    seed: int = 1,
    within_s: float = 600.0,
    told: Callable[[str], None] = lambda text: None,
) -> Report:
    """Run the simulations of a rulebook (file name → text) through the system.

    Raises `TrialFailed` where the system does not get to its end, `RulebookError` where the rulebook does not hold.
    """
    report, definitions = Report(), load_rulebook(texts)
    tests = list(beside.planted(examples(texts), trips(texts)))
    os.environ[SECRET_VARIABLE] = secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
    allowed = settings.model_copy(update={"allowed_hosts": [*settings.allowed_hosts, "127.0.0.1"]})
    with Receiver(secret) as receiver:
        stage = _Stage(allowed, receiver, seed, within_s, told)
        report.rows += await _stages_and_bands(stage, [d for d in definitions if judgeable(d)], report)
        if any(d.kind == "rule" and d.id in realtime.ROWS for d in definitions):
            report.rows += await _realtime(
                stage,
                [d for d in definitions if d.name.startswith("D1.") or d.kind in ("detector", "threshold")],
                report,
            )
        predicting = [d for d in definitions if isinstance(d, Prediction) or d.name in foreseen.ROWS]
        report.rows += await _foreseen(stage, predicting, report)
        report.rows += await _ladders(
            stage, [d for d in definitions if d.name.startswith(("intervention-", "H-"))], report
        )
        report.rows += await _reports(
            stage, [d for d in definitions if isinstance(d, Rule) and "outcome" in d.tags], report
        )
        report.rows += await _beside(stage, definitions, tests, report)
        report.received, report.repeated, report.refused = len(receiver.received), receiver.repeated, receiver.refused
    return report


@dataclass(slots=True)
class _Stage:
    """Where simulations are played: each on topics of its own, all with the same receiver."""

    settings: Settings
    receiver: Receiver
    seed: int
    within_s: float
    told: Callable[[str], None]

    @asynccontextmanager
    async def set_up(
        self, roles: dict[Role, int], definitions: Iterable[Definition], partitions: int | None = None
    ) -> AsyncIterator[Trial]:
        """A trial of these definitions whose commands are sent to the receiver. `partitions`: other than the settings'."""
        settings = self.settings.model_copy(update={} if partitions is None else {"partitions": partitions})
        connection = Connection(
            name="coverage",
            integration="webhook",
            config={"url": self.receiver.url, "secret": {"env": SECRET_VARIABLE}},
            enabled=True,
        )
        wanted: dict[Role, int] = {**roles, "deliver": 1}
        plan = scenario.plan(self.seed)
        async with trial(settings, plan, roles=wanted, definitions=[*definitions, connection]) as made:
            yield made

    async def seen(self, made: Trial, before: int) -> World:
        """What came of it, when everything is judged and has arrived; the workers are stopped."""
        await made.settled(self.within_s, self.told)
        commands = await made.commands()
        await _arrivals(self.receiver, before + len(commands), self.told)
        counted = await made.rows_counted()
        await made.supervisor.stop()
        arrived = {body["data"]["id"]: body["data"] for body in self.receiver.received.values()}
        return World(commands, arrived, counted)


async def _stages_and_bands(stage: _Stage, definitions: list[Definition], report: Report) -> list[Row]:
    plan, before = scenario.plan(stage.seed), len(stage.receiver.received)
    async with stage.set_up({"meter": 1, "decide": 1}, definitions) as made:
        encoder = Encoder(plan)
        rows = (encoder.encode(columns) for columns in scenario.chunks(plan))
        await made.write(rows, lambda w, at: stage.told(f"{w.rows:,} rows written"))
        made.start()
        world = await stage.seen(made, before)
        stage.told("the oracle reads the log")
        judge, _ = await judged(made.settings)
        orders, _ = ordered(judge.found, await rules(made.settings))
    wanted = defaultdict(list)
    for order in orders:
        wanted[order.rule].append(order)
    found = []
    for ident in AB:
        case = next(c for c in scenario.CASES if c.state == ident.partition(".")[0])
        ours = world.of(ident)
        issued = {(c["tenant"], c["product"]) for c in ours}
        difference = compare.commands(ours, wanted[ident])
        report.differences += difference.shown
        found.append(
            Row(
                id=ident,
                command_type=ours[0]["type"] if ours else None,
                fired=(case.tenant, case.product) in issued,
                arrived=world.all_arrived(ours),
                negative_silent=(case.tenant, case.twin) not in issued,
                numbers_equal=bool(ours) and not difference.differing,
                commands=len(ours),
            )
        )
    return found


async def _realtime(stage: _Stage, definitions: list[Definition], report: Report) -> list[Row]:
    test, before = realtime.planted(stage.seed), len(stage.receiver.received)
    async with stage.set_up({"meter": 1, "decide": 1}, definitions) as made:
        made.start()
        await act_out(made, [test], rests=realtime.HOURS, waits=False, within_s=stage.within_s, told=stage.told)
        world = await stage.seen(made, before)
    known = {d.id for d in definitions if d.kind == "rule"}
    found = []
    differences = realtime.differences((c for c in world.commands if c["rule"] in realtime.ROWS), test.events)
    for ident in (i for i in realtime.ROWS if i in known):
        ours = world.of(ident)
        report.differences += differences[ident]
        found.append(
            Row(
                id=ident,
                command_type=ours[0]["type"] if ours else None,
                fired=any(c["product"] == realtime.PRODUCT for c in ours),
                arrived=world.all_arrived(ours),
                negative_silent=not any(c["product"] == realtime.TWIN for c in ours),
                numbers_equal=bool(ours) and not differences[ident],
                commands=len(ours),
            )
        )
    return found


async def _foreseen(stage: _Stage, definitions: list[Definition], report: Report) -> list[Row]:
    """The triggers of P1 that predict."""
    known = {d.id for d in definitions if isinstance(d, Rule)}
    if not known:
        return []
    test, before = foreseen.planted(stage.seed), len(stage.receiver.received)
    # One partition: each learns by itself, from its own users.
    async with stage.set_up({"meter": 1, "decide": 1}, definitions, partitions=1) as made:
        made.start()
        await act_out(made, [test], rests=(), within_s=stage.within_s, told=stage.told)
        world = await stage.seen(made, before)
        stage.told("the oracle reads the log")
        crossed = foresee(await folded(made.settings), await defined(made.settings, "prediction"))
        orders, _ = ordered(crossed, await rules(made.settings))
    wrong = foreseen.differences(world.commands, test.events, orders)
    found = []
    for ident in (i for i in foreseen.ROWS if i in known):
        ours, (with_it, without) = world.of(ident), foreseen.WHO[ident]
        report.differences += wrong[ident]
        found.append(
            Row(
                id=ident,
                command_type=ours[0]["type"] if ours else None,
                fired=any(c["subject"] == f"user:{with_it}" for c in ours),
                arrived=world.all_arrived(ours),
                negative_silent=not any(c["subject"] == f"user:{without}" for c in ours),
                numbers_equal=bool(ours) and not wrong[ident],
                commands=len(ours),
            )
        )
    return found


async def _ladders(stage: _Stage, definitions: list[Definition], report: Report) -> list[Row]:
    """H: interventions go up by deadline where nothing moves, and are closed where it does."""
    known = {d.id: d for d in definitions if isinstance(d, Workflow)}
    if not known:
        return []
    test, before = ladders.planted(), len(stage.receiver.received)
    async with stage.set_up({"meter": 1, "decide": 1, "orchestrate": 1}, definitions) as made:
        made.start()
        await act_out(made, [test], rests=ladders.RESTS, within_s=stage.within_s, told=stage.told)
        world = await stage.seen(made, before)
        judge, _ = await judged(made.settings)
    told: list[ladders.Judged] = [*judge.found, *ladders.crossings(test.events)]
    found = []
    for ladder in (one for one in ladders.LADDERS if one.workflow in known):
        ours = world.of(ladder.workflow)
        wrong = ladders.differences(ladder, ours, told)
        report.differences += wrong
        for step in rows_of(known[ladder.workflow]):
            mine = [c for c in ours if _node(c["step"]) == step.node]
            where = ladder.moves if step.node == "closed" else ladder.stays
            found.append(
                Row(
                    id=step.id,
                    command_type=step.type,
                    fired=any(c["product"] == where for c in mine),
                    arrived=world.all_arrived(mine),
                    negative_silent=not any(c["product"] == ladder.twin for c in ours),
                    numbers_equal=bool(mine) and not wrong,
                    commands=len(mine),
                )
            )
    return found


async def _reports(stage: _Stage, definitions: list[Definition], report: Report) -> list[Row]:
    """I, and what P7 tells of it: what the weekly report and the verdict on a measured rule say."""
    known = {d.id for d in definitions if isinstance(d, Rule)}
    if not known:
        return []
    test, before, receipts = reported.planted(stage.seed), len(stage.receiver.received), reported.receipts()
    async with stage.set_up({"meter": 1, "decide": 1}, [*definitions, reported.TRIAL]) as made:
        made.start()
        earlier = [("receipts", f"{r['tenant']}|{r['product']}".encode(), orjson.dumps(r)) for r in receipts]
        await act_out(made, [test], rests=reported.RESTS, first=earlier, within_s=stage.within_s, told=stage.told)
        world = await stage.seen(made, before)
        judge, _ = await judged(made.settings, ratings=reported.ratings(test))
        insight, unlike = await measured_rows(made, judge)
        report.differences += unlike
    wrong = reported.differences(world.commands, judge, receipts)
    found = []
    for ident in (i for i in reported.ROWS if i in known):
        ours = world.of(ident)
        report.differences += wrong[ident]
        found.append(
            Row(
                id=ident,
                command_type=ours[0]["type"] if ours else None,
                fired=any(c["product"] == reported.PRODUCT for c in ours),
                arrived=world.all_arrived(ours),
                negative_silent=not any(c["product"] == reported.TWIN for c in ours),
                numbers_equal=bool(ours) and not wrong[ident],
                commands=len(ours),
            )
        )
    return [*found, *insight]


async def _beside(stage: _Stage, definitions: list[Definition], tests: list[Planted], report: Report) -> list[Row]:
    """Everything else of the catalogue. Detectors, schedules and thresholds are left out: nothing here is about them."""
    about = {t.of for t in tests}
    acting = [
        d
        for d in definitions
        if (isinstance(d, (Rule, Workflow)) and d.id in about) or isinstance(d, (Segment, Campaign))
    ]
    before = len(stage.receiver.received)
    async with stage.set_up({"meter": 1, "decide": 1, "orchestrate": 1, "project": 1}, acting) as made:
        made.start()
        await act_out(made, tests, within_s=stage.within_s, told=stage.told)
        world = await stage.seen(made, before)
        outcome = played(tests, world.commands)
        insight, wrong = await run_rows(made, outcome, world.commands, world.counted)
        report.differences += wrong
    report.differences += [text for p in outcome for text in p.differences]
    return [*rows_beside(definitions, outcome, world), *insight]


def rows_beside(definitions: Iterable[Definition], outcome: Iterable[Played], world: World) -> list[Row]:
    """A row for each rule and each step of a workflow whose tests were acted out."""
    plays_of: defaultdict[str, list[Played]] = defaultdict(list)
    for play in outcome:
        plays_of[play.test.of].append(play)
    return [
        _row(row, plays_of[definition.id], world)
        for definition in definitions
        if isinstance(definition, (Rule, Workflow)) and "catalogue" in definition.tags and definition.id in plays_of
        for row in rows_of(definition)
    ]


@dataclass(frozen=True, slots=True)
class Step:
    """What a row of the report is about: a rule, or one step of a workflow."""

    id: str
    type: str
    node: str | None


def rows_of(definition: Rule | Workflow) -> list[Step]:
    """One row for a rule; of a workflow one for each step that orders. A step that has a row's id as its name is that row."""
    if isinstance(definition, Rule):
        return [Step(definition.id, definition.command.type, None)]
    found = []
    for node in definition.nodes:
        if isinstance(node, (Act, Approve)):
            whole = node.id.startswith(f"{definition.id}.") or node.id in catalogue.ids()
            ident = node.id if whole else f"{definition.id}.{node.id}"
            found.append(Step(ident, (node.command if isinstance(node, Act) else node.request).type, node.id))
    return found


def _row(step: Step, plays: list[Played], world: World) -> Row:
    mine = {id(p): [c for c in p.commands if step.node in (None, _node(c["step"]))] for p in plays}
    # Where a test does not name a step, its number of commands of the type decides what it is about.
    with_it = [p for p in plays if mine[id(p)]]
    without = [p for p in plays if not mine[id(p)]]
    ours = [c for p in with_it for c in mine[id(p)]]
    return Row(
        id=step.id,
        command_type=step.type,
        fired=any(any(w.type == step.type for w in p.test.wanted) for p in with_it),
        arrived=world.all_arrived(ours),
        negative_silent=bool(without) and not any(p.differences for p in without),
        numbers_equal=bool(with_it) and not any(p.differences for p in with_it),
        commands=len(ours),
    )


def _node(step: str) -> str:
    """`tries:2/mail~2` → `mail`."""
    return step.rsplit("/", 1)[-1].partition("~")[0]


async def _arrivals(receiver: Receiver, wanted: int, told: Callable[[str], None]) -> None:
    """Wait until so many commands have come in, or none has come for a while."""
    loop = asyncio.get_running_loop()
    seen, since = 0, loop.time()
    while len(receiver.received) < wanted and loop.time() - since < ARRIVE_WITHIN_S:
        if len(receiver.received) != seen:
            seen, since = len(receiver.received), loop.time()
        told(f"{seen} of {wanted} commands have arrived")
        await asyncio.sleep(0.2)

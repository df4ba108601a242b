"""Tests that live beside a workflow: a journey on a virtual clock, through the code that runs live.

tests:
- name: a purchase ends it
steps:
- event: {type: cart.created, cart: c1}
- wait: 2h
- expect: [marketing.email.send]
- event: {type: purchase.completed, cart: c1}
- status: goal
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field, JsonValue, model_validator

from core.decide.explain import detection_id, with_user
from core.definitions import Catalogue
from core.rules.conditions import flatten
from core.rules.trying import a_detection_of
from core.workflows.desk import Came, Desk, Occurrence
from core.workflows.jobs import Approval, Cancel, Receipt, Record
from core.workflows.shelf import DETECTIONS, Shelf, finding
from core.workflows.walk import lookup
from schemas.commands import Command
from schemas.definitions import OnEvent, Workflow
from schemas.envelope import Millis, Word
from schemas.workflows import Span

AT: Final = 1_767_603_600_000
"""When a test begins unless it says otherwise: Monday, 5 January 2026, 09:00 UTC."""
TENANT, PRODUCT = "acme", "shop"
MAX_STEPS: Final = 1_000


class Expected(Word):
    """A command that must have been given."""

    type: str
    step: str | None = None
    """Its step's path."""
    payload: dict[str, JsonValue] = Field(default_factory=dict)
    """Dotted paths into the command, and the values that must stand there."""


class Move(Word):
    """One step of a test; exactly one of its fields is given (`topic` goes with `event`)."""

    event: dict[str, JsonValue] | None = None
    """Fields of an event of the subject. It occurs now."""
    topic: str = "events.usage"
    late: Span = 0
    """The event occurred so long ago."""
    trigger: dict[str, JsonValue] | None = None
    """Fields of the detection that the workflow waits for, where it waits for one."""
    wait: Span | None = None
    """Time passes."""
    delivered: str | None = None
    """The newest command of this type reaches its destination."""
    rejected: str | None = None
    """The newest command of this type is refused by its destination."""
    approved: str | None = None
    """This person says yes to what is asked."""
    refused: str | None = None
    """This person says no to what is asked."""
    cancel: str | None = None
    """This person ends the run."""
    expect: list[str | Expected] | None = None
    """Every command since the last `expect`, in order."""
    status: str | None = None
    """How the newest run stands: running, completed, goal, exited, expired, cancelled, failed."""
    outcome: str | None = None
    """How the newest run ended, more exactly."""

    @model_validator(mode="after")
    def _one(self) -> Move:
        given = [n for n in type(self).model_fields if n not in ("topic", "late") and getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                f"one thing a step: event, trigger, wait, delivered … expect, status; given: {given or 'none'}"
            )
        return self


class Journey(Word):
    """One test."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    at: Millis = AT
    """When it begins."""
    subject: Annotated[str, Field(max_length=256)] = "someone"
    """The name of the user (or whatever the trigger is about)."""
    steps: Annotated[list[Move], Field(min_length=1, max_length=MAX_STEPS)]


class Failed(AssertionError):
    """What differs, in lines for people: the step, what was expected, what came, and the run's log."""


def travel(workflow: Workflow, others: Iterable[Workflow], journey: Journey) -> list[Record]:
    """Runs the test and gives the histories of its runs. Raises `Failed`."""
    return _Travel(workflow, others, journey).run()


def watch(workflow: Workflow, others: Iterable[Workflow], journey: Journey) -> tuple[list[Record], list[Command]]:
    """Runs the steps and gives what came of them, whether or not an `expect` names it. Raises `Failed` where one is not met."""
    travelling = _Travel(workflow, others, journey)
    return travelling.steps(), travelling.commands


class _Travel:
    def __init__(self, workflow: Workflow, others: Iterable[Workflow], journey: Journey) -> None:
        self.workflow, self.journey = workflow, journey
        catalogue = Catalogue()
        for one in [*others, workflow]:
            catalogue.put(one.model_copy(update={"effective_from": 0, "retired": None}))
        self.desk = Desk(Shelf(catalogue))
        self.clock = journey.at
        self.commands: list[Command] = []
        self.told = 0
        """Commands that an `expect` has looked at."""
        self.records: list[Record] = []
        self.events = 0
        trigger = workflow.trigger
        self.subject = f"{trigger.subject}:{journey.subject}" if isinstance(trigger, OnEvent) else ""

    def run(self) -> list[Record]:
        """Every step; no command may be left that no `expect` named."""
        self.steps()
        left = [c.type for c in self.commands[self.told :]]
        if left:
            raise Failed(f"at the end: commands that no `expect` named: {', '.join(left)}\n{self._log()}")
        return self.records

    def steps(self) -> list[Record]:
        """Every step."""
        for i, move in enumerate(self.journey.steps):
            try:
                self._step(move)
            except Failed as error:
                raise Failed(f"step {i + 1}: {error}\n{self._log()}") from None
        return self.records

    def _step(self, move: Move) -> None:
        if move.event is not None:
            self._happened(move.topic, move.event, "", self.clock - move.late * 1000)
        elif move.trigger is not None:
            self._found(move.trigger)
        elif move.wait is not None:
            self.clock += move.wait * 1000
            self._note(self.desk.advance(self.clock, self.clock))
        elif move.delivered is not None:
            self._receipt(move.delivered, "delivered")
        elif move.rejected is not None:
            self._receipt(move.rejected, "rejected")
        elif move.approved is not None or move.refused is not None:
            self._answer(move)
        elif move.cancel is not None:
            run = self._newest()
            self._note(self.desk.cancel(run.run, Cancel(self.clock, move.cancel), self.clock))
        elif move.expect is not None:
            self._expect(move.expect)
        else:
            newest = self._newest()
            for word, found in (("status", newest.status), ("outcome", newest.outcome)):
                wanted = getattr(move, word)
                if wanted is not None and wanted != found:
                    raise Failed(f"expected the run's {word} to be {wanted}, it is {found or 'none'}")

    def _happened(self, topic: str, data: Mapping[str, JsonValue], name: str, at: int) -> None:
        self.events += 1
        cause = str(data.get("id", f"event-{self.events}"))
        product = str(data.get("product", PRODUCT))
        facts: dict[str, Any] = {"type": "feature.used", **data, "occurred_at": at}
        what = Occurrence(TENANT, product, self.subject, cause, at, topic, facts, name)
        self._note(self.desk.happened(what, self.clock))
        if self.desk.asks(TENANT, self.subject):
            self._note(self.desk.advance(self.clock, self.clock))

    def _found(self, given: Mapping[str, JsonValue]) -> None:
        trigger = self.workflow.trigger
        if isinstance(trigger, OnEvent):
            raise Failed("the workflow is triggered by an event; give it as `event`")
        found = a_detection_of(trigger, {**given, "at": self.clock})
        self.subject = found.subject
        cause = detection_id(found.kind, found.tenant, found.product, found.subject, self.clock, str(self.events))
        what = Occurrence(
            TENANT,
            found.product,
            found.subject,
            cause,
            self.clock,
            DETECTIONS,
            with_user(found.model_dump()),
            finding(found),
        )
        self.events += 1
        self._note(self.desk.happened(what, self.clock))
        if self.desk.asks(TENANT, self.subject):
            self._note(self.desk.advance(self.clock, self.clock))

    def _receipt(self, kind: str, status: str) -> None:
        command = next((c for c in reversed(self.commands) if c.type == kind), None)
        if command is None:
            raise Failed(f"no command {kind} was given")
        self._note(
            self.desk.receipt(TENANT, self.subject, Receipt(self.clock, command.id, status, "by the test"), self.clock)
        )

    def _answer(self, move: Move) -> None:
        by = move.approved if move.approved is not None else move.refused
        for run in reversed(self.desk.runs(TENANT, self.subject)):
            for token in run.tokens:
                if "deadline" in token.memo:
                    answer = Approval(self.clock, token.path(), move.approved is not None, str(by))
                    self._note(self.desk.answer(run.id, answer, self.clock))
                    return
        raise Failed("nobody is asked for an approval")

    def _expect(self, wanted: Sequence[str | Expected]) -> None:
        given, self.told = self.commands[self.told :], len(self.commands)
        types = [w if isinstance(w, str) else w.type for w in wanted]
        if types != [c.type for c in given]:
            came = ", ".join(c.type for c in given) or "none"
            raise Failed(f"expected commands: {', '.join(types) or 'none'}; came: {came}")
        for want, command in zip(wanted, given, strict=True):
            if isinstance(want, str):
                continue
            if want.step is not None and want.step != command.step:
                raise Failed(f"{command.type}: expected step {want.step}, it is {command.step}")
            body = command.model_dump(mode="json")
            for path, value in want.payload.items():
                found = lookup(body, path)
                if found is None:
                    found = flatten(body).get(path)
                if found != value:
                    raise Failed(f"{command.type}: {path} is {found!r}, expected {value!r}")

    def _newest(self) -> Record:
        begun = [r.run for r in self.records if r.seq == 1]
        if not begun:
            raise Failed("no run has begun")
        return next(r for r in reversed(self.records) if r.run == begun[-1])

    def _note(self, came: Iterable[Came]) -> None:
        for one in came:
            if one.record.workflow != self.workflow.name:
                continue  # one that may be called, and was triggered too
            self.records.append(one.record)
            self.commands += one.commands

    def _log(self) -> str:
        lines = [
            f"    +{(n.at - self.journey.at) / 3_600_000:9.2f} h  {n.step or '(run)'}  {n.what}  "
            + " ".join(f"{k}={v}" for k, v in n.detail.items())
            for record in self.records
            for n in record.notes
        ]
        return "\n".join(["  what the run did:", *lines[-40:]] if lines else ["  no run has begun"])


def histories(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Run → its history, in order."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.run, []).append(record)
    return {run: sorted(history, key=lambda r: r.seq) for run, history in found.items()}

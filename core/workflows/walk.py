"""A walk: one step of a run in the making; what nodes may read of it, and the notes and orders they leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.rules.conditions import flatten, holds
from core.workflows.graph import Graph, Library
from core.workflows.jobs import Effect, Note, Order
from core.workflows.run import GOALS, Frame, Run, Token, path_of
from schemas.commands import Command, Priority, Why, command_id
from schemas.definitions import CommandTemplate, Condition
from schemas.workflows import Each


class Walk:
    """Of one run, during one job."""

    def __init__(self, library: Library, run: Run, now: int) -> None:
        self.library, self.run, self.now = library, run, now
        self.effects: list[Effect] = []
        self._graphs: dict[str, Graph] = {}
        self.graph = self.graph_of("")

    @property
    def clock(self) -> int:
        """Event time: what nodes take for now."""
        return self.run.clock

    def graph_of(self, name: str) -> Graph:
        """The graph of a call ("": of the run). Raises `LookupError` where the version is not at hand."""
        found = self._graphs.get(name)
        if found is None:
            of = self.run.workflow if name in ("", GOALS) else name
            found = self.library.get(self.run.tenant, of, self.run.pins.get(name, 0), name in self.run.shared)
            if found is None:
                raise LookupError(f"workflow {of} version {self.run.pins.get(name)} is not at hand")
            self._graphs[name] = found
        return found

    def turn_over(self) -> None:
        """The run is pinned to other versions now."""
        self._graphs.clear()
        self.graph = self.graph_of("")

    # --- facts ------------------------------------------------------------------------------------------------------

    def facts(self, graph: str, stack: list[Frame]) -> dict[str, Any]:
        """What conditions and templates find at this place."""
        run, prefix = self.run, f"{graph}/" if graph else ""
        names = self.graph_of(graph).workflow.events
        seen = {name: found for name in names if (found := run.seen.get(prefix + name)) is not None}
        facts: dict[str, Any] = {
            "at": run.clock,  # what `during` reads; an event's facts have none of their own
            **run.facts,
            **run.person,
            "tenant": run.tenant,
            "product": run.product,
            "subject": run.subject,
            "run": run.id,
            "began": run.began,
            "now": run.clock,
            "seen": {name: seen[name].count if name in seen else 0 for name in names},
            "last": {name: {**found.kept, "at": found.at} for name, found in seen.items()},
            "out": run.out,
        }
        for depth, frame in enumerate(stack):
            facts["turn"] = frame.turn
            owner = self.graph_of(_graph(stack[:depth])).nodes.get(frame.node)
            if isinstance(owner, Each):
                items = lookup({**run.facts, **run.person}, owner.items)
                facts["index"] = frame.turn
                facts["item"] = items[frame.turn] if isinstance(items, list) and frame.turn < len(items) else None
        return facts

    def holds(self, condition: Condition, token: Token) -> bool:
        """Whether it holds where the token is."""
        return holds(condition, flatten(self.facts(token.graph(), token.stack)))

    # --- what comes out ---------------------------------------------------------------------------------------------

    def note(self, token: Token | None, what: str, **detail: Any) -> None:
        """A line of the activity log."""
        self.effects.append(Note(self.clock, token.path() if token is not None else "", what, detail))

    def order(
        self,
        template: CommandTemplate,
        stack: list[Frame],
        node: str,
        *,
        suffix: str = "",
        what: str = "ordered",
        priority: Priority = "normal",
        expires_after: int = 86_400,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """Give a command for this step; its id. Raises `RenderError`."""
        run, workflow = self.run, self.graph.workflow
        step = path_of(stack, node) + suffix
        reason = f"step {step} of {workflow.id} for {run.subject}, begun by {run.cause}."
        facts = {
            **self.facts(_graph(stack), stack),
            "reason": reason,
            "owner": workflow.owner,
            **(extra or {}),
        }
        render = self.library.renderer
        payload = render.payload(template.payload, facts, "payload")
        command = Command(
            id=command_id(run.tenant, workflow.id, run.origin, run.cause, step),
            tenant=run.tenant,
            product=run.product,
            type=template.type,
            subject=run.subject,
            rule=workflow.id,
            rule_version=workflow.version,
            cause=run.cause,
            step=step,
            priority=priority,
            issued_at=self.clock,
            expires_at=max(self.clock, self.now) + expires_after * 1000,
            title=render.text(template.title, facts, "title"),
            text=render.text(template.text, facts, "text"),
            payload=payload if isinstance(payload, dict) else {},
            why=Why(
                rule=workflow.id,
                rule_version=workflow.version,
                reason=reason,
                numbers={},
                thresholds={},
                links={},
            ),
            traceparent=run.traceparent,
        )
        self.effects.append(Order(step, command))
        self.effects.append(Note(self.clock, step, what, {"command": command.id, "type": command.type}))
        return command.id


def _graph(stack: list[Frame]) -> str:
    return next((f.graph for f in reversed(stack) if f.graph is not None), "")


def lookup(facts: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    found: Any = facts
    for part in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found

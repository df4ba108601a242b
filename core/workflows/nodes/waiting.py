"""Nodes that wait for a time, an event or a condition."""

from __future__ import annotations

from core.rules.conditions import flatten
from core.workflows.jobs import Timer
from core.workflows.nodes.base import Fail, Go, Happened, Move, Stay, Wake
from core.workflows.run import Frame, Token
from core.workflows.times import ends
from core.workflows.walk import Walk
from schemas.workflows import Await, Lasting, Wait


class Waiting:
    """`wait`."""

    def enter(self, walk: Walk, token: Token, node: Wait) -> Move:
        """On at once where the time is there already."""
        try:
            asks = not isinstance(node.until, Lasting)  # a span needs no facts
            due = ends(node.until, walk.clock, flatten(walk.facts(token.graph(), token.stack)) if asks else {})
        except (ValueError, OverflowError) as error:  # no such date, or one beyond the calendar
            if node.missing is None:
                return Fail("no_date", {"why": str(error)})
            walk.note(token, "failed", reason="no_date")
            return Go(node.missing)
        return Go(node.next) if due <= walk.clock else Stay(due)

    def wake(self, walk: Walk, token: Token, node: Wait, why: Wake) -> Move | None:
        """Time has come."""
        return Go(node.next) if isinstance(why, Timer) else None

    def back(self, walk: Walk, token: Token, node: Wait, frame: Frame) -> Move:
        """It has no body."""
        return Fail("no_body")


class Awaiting:
    """`await`."""

    def enter(self, walk: Walk, token: Token, node: Await) -> Move:
        """Look back, then at the condition, then wait."""
        if node.look_back:
            prefix = _prefix(token)
            since = token.since - node.look_back * 1000
            for name, to in node.events.items():
                seen = walk.run.seen.get(prefix + name)
                if seen is not None and not seen.used and seen.at >= since:
                    seen.used = True
                    walk.note(token, "event", name=name, occurred_at=seen.at, looked_back=True)
                    return Go(to)
        if node.when is not None and walk.holds(node.when, token):
            walk.note(token, "event", condition=True)
            return Go(node.met)
        return Stay(None if node.timeout is None else token.since + node.timeout * 1000)

    def wake(self, walk: Walk, token: Token, node: Await, why: Wake) -> Move | None:
        """An event that counts, the condition, or the timeout."""
        match why:
            case Timer():
                walk.note(token, "event", timeout=True)
                return Go(node.timed_out)
            case Happened():
                prefix = _prefix(token)
                if why.at >= token.since - node.look_back * 1000:
                    for name, to in node.events.items():
                        if prefix + name in why.names:
                            seen = walk.run.seen[prefix + name]
                            if seen.at == why.at:
                                seen.used = True
                            walk.note(token, "event", name=name, occurred_at=why.at)
                            return Go(to)
                if node.when is not None and walk.holds(node.when, token):
                    walk.note(token, "event", condition=True)
                    return Go(node.met)
                return None
            case _:
                return None

    def back(self, walk: Walk, token: Token, node: Await, frame: Frame) -> Move:
        """It has no body."""
        return Fail("no_body")


def _prefix(token: Token) -> str:
    graph = token.graph()
    return f"{graph}/" if graph else ""

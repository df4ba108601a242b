"""Nodes that order something, ask a person, take back, end."""

from __future__ import annotations

from core.rules.render import RenderError
from core.workflows.jobs import Approval, Receipt, Timer
from core.workflows.nodes.base import Fail, Go, Leave, Move, Simple, Stay, Wake
from core.workflows.run import Done, Frame, Token
from core.workflows.walk import Walk
from schemas.workflows import Act, Approve, Compensate, Exit

_MAX_PAUSE_S = 30 * 86_400
_MAX_DONE = 1_000
"""Commands that one run can take back; the oldest beyond are left as they are, and noted."""


class Acting:
    """`act`: memo `try` and, while a receipt is awaited, `command`; `left` where a run of the past waits no longer for it."""

    def enter(self, walk: Walk, token: Token, node: Act) -> Move:
        """Order it."""
        token.memo = {"try": 1}
        return self._order(walk, token, node)

    def wake(self, walk: Walk, token: Token, node: Act, why: Wake) -> Move | None:
        """A receipt, the end of a try, or the end of a pause before the next."""
        waiting = token.memo.get("command")
        match why:
            case Receipt() if why.command == waiting and waiting is not None:
                if why.status == "delivered":
                    walk.note(token, "delivered", command=why.command)
                    return Go(node.next)
                return self._again(walk, token, node, why.reason or why.status)
            case Timer():
                return self._order(walk, token, node) if waiting is None else self._again(walk, token, node, "timeout")
            case _:
                return None

    def back(self, walk: Walk, token: Token, node: Act, frame: Frame) -> Move:
        """It has no body."""
        return Fail("no_body")

    def _order(self, walk: Walk, token: Token, node: Act) -> Move:
        tried = int(token.memo["try"])
        try:
            command = walk.order(
                node.command,
                token.stack,
                token.node,
                suffix="" if tried == 1 else f"~{tried}",
                priority=node.priority,
                expires_after=node.expires_after,
            )
        except RenderError as error:  # the same again would fail the same
            return self._failed(walk, token, node, error.reason)
        if node.undo is not None:
            run = walk.run
            run.done.append(Done(token.node, list(token.stack), command))
            if len(run.done) > _MAX_DONE:
                walk.note(token, "skipped", reason="too many commands to take back", command=run.done.pop(0).command)
        if node.wait == "nothing":
            return Go(node.next)
        token.memo = {"try": tried, "command": command}
        return Stay(None if walk.run.past else walk.clock + node.timeout * 1000)

    def _again(self, walk: Walk, token: Token, node: Act, reason: str) -> Move:
        tried = int(token.memo["try"])
        if tried >= node.retry.attempts:
            return self._failed(walk, token, node, reason)
        pause = min(node.retry.pause * 2 ** (tried - 1), _MAX_PAUSE_S)
        walk.note(token, "retried", reason=reason, after_s=pause)
        token.memo = {"try": tried + 1}
        return Stay(walk.clock + pause * 1000)

    def _failed(self, walk: Walk, token: Token, node: Act, reason: str) -> Move:
        if node.failed is not None or node.on_error == "continue":
            walk.note(token, "failed", reason=reason)
            return Go(node.failed if node.failed is not None else node.next)
        return Fail(reason)


class Approving:
    """`approve`: memo `deadline`, and `asked` once the delegate was asked too."""

    def enter(self, walk: Walk, token: Token, node: Approve) -> Move:
        """Ask the assignee."""
        try:
            self._ask(walk, token, node, node.assignee, "")
        except RenderError as error:
            return Fail(error.reason)
        deadline = walk.clock + node.deadline * 1000
        token.memo = {"deadline": deadline}
        if node.delegate is None or node.delegate_after is None or node.delegate_after >= node.deadline:
            token.memo["asked"] = True
            return Stay(deadline)
        return Stay(walk.clock + node.delegate_after * 1000)

    def wake(self, walk: Walk, token: Token, node: Approve, why: Wake) -> Move | None:
        """The answer, or time has come."""
        match why:
            case Approval() if why.step == token.path():
                walk.run.out[token.node] = {"approved": why.approved, "by": why.by}
                walk.note(token, "answered", approved=why.approved, by=why.by)
                return Go(node.approved if why.approved else node.rejected)
            case Timer() if not token.memo.get("asked"):
                token.memo = {**token.memo, "asked": True}
                try:
                    self._ask(walk, token, node, node.delegate or node.assignee, "~delegate")
                except RenderError as error:
                    return Fail(error.reason)
                return Stay(int(token.memo["deadline"]))
            case Timer():
                walk.note(token, "answered", expired=True)
                return Go(node.expired)
            case _:
                return None

    def back(self, walk: Walk, token: Token, node: Approve, frame: Frame) -> Move:
        """It has no body."""
        return Fail("no_body")

    def _ask(self, walk: Walk, token: Token, node: Approve, whom: str, suffix: str) -> None:
        extra = {"assignee": whom, "answer_as": token.path()}
        walk.order(node.request, token.stack, token.node, suffix=suffix, expires_after=node.deadline, extra=extra)


class Compensating(Simple[Compensate]):
    """`compensate`."""

    def enter(self, walk: Walk, token: Token, node: Compensate) -> Move:
        """Take back what can be."""
        compensate(walk)
        return Go(node.next)


class Exiting(Simple[Exit]):
    """`exit`."""

    def enter(self, walk: Walk, token: Token, node: Exit) -> Move:
        """Leave."""
        return Leave(node.outcome)


def compensate(walk: Walk) -> None:
    """Give the undo of every command that has one, newest first, once. One that cannot be rendered stops no other."""
    done, walk.run.done = walk.run.done, []
    for one in reversed(done):
        graph = next((f.graph for f in reversed(one.stack) if f.graph is not None), "")
        node = walk.graph_of(graph).nodes.get(one.node)
        if not isinstance(node, Act) or node.undo is None:
            continue
        extra = {"command": one.command}
        try:
            # A retried step has several commands; the undo of each is a step of its own.
            suffix = f"~undo~{one.command[:8]}" if node.retry.attempts > 1 else "~undo"
            walk.order(node.undo, one.stack, one.node, suffix=suffix, what="undid", extra=extra)
        except RenderError as error:
            walk.note(None, "failed", reason=error.reason, command=one.command)

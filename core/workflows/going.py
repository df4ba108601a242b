"""The tokens of a run on their way: each from node to node as far as it can, out of bodies and calls, until it waits or has ended."""

from __future__ import annotations

from collections.abc import Iterable

from core.workflows.jobs import Timer
from core.workflows.nodes import HANDLERS
from core.workflows.nodes.base import Body, End, Fail, Go, Leave, Stay, Wake
from core.workflows.nodes.base import Move as Way
from core.workflows.run import Frame, Token, path_of
from core.workflows.walk import Walk
from schemas.workflows import MAX_RUN_STEPS


class Going:
    """One run, in place."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.run = walk.run

    def _wake_all(self, why: Wake) -> None:
        """Tell every waiting token, in order; those that come to wait meanwhile are not told."""
        for token in list(self.run.tokens):
            if self.run.running and token in self.run.tokens:
                self._wake(token, why)

    def _wake(self, token: Token, why: Wake) -> None:
        node = self.walk.graph_of(token.graph()).nodes[token.node]
        move = HANDLERS[node.kind].wake(self.walk, token, node, why)
        if move is not None:
            self._go(token, move)

    def _advance(self, until: int, included: bool) -> None:
        """End the waits that end before `until` (or then, if included), each at its own time."""
        run = self.run
        while run.running:
            waiting = [(t.due, t.id, t) for t in run.tokens if t.due is not None]
            due, _, token = min(waiting, default=(None, 0, None), key=lambda w: (w[0], w[1]))
            if run.ends_at is not None and (due is None or run.ends_at <= due):
                due, token = run.ends_at, None
            if due is None or due > until or (due == until and not included) or run.delivering:
                return
            run.clock = max(run.clock, due)
            if token is None:
                self._end("expired", "lasts")
            else:
                token.due = None
                self._wake(token, Timer(due))

    # --- moves ------------------------------------------------------------------------------------------------------

    def _token(self, stack: list[Frame]) -> Token:
        run = self.run
        run.tokens_made += 1
        token = Token(run.tokens_made, "", run.clock, None, stack, {})
        run.tokens.append(token)
        return token

    def _go(self, token: Token, move: Way) -> None:
        """Follow the token, and those it makes, until each waits or has ended."""
        ready: list[tuple[Token, Way]] = [(token, move)]
        while ready and self.run.running:
            token, move = ready.pop()
            if token not in self.run.tokens:
                continue  # a join has ended it
            match move:
                case Stay():
                    token.due = move.due
                    if move.due is not None:
                        self.walk.note(token, "waits", until=move.due)
                    else:
                        self.walk.note(token, "waits")
                case Go(to=str() as to):
                    ready.append((token, self._enter(token, to)))
                case Go():
                    ready += self._back(token)
                case Body():
                    ready += reversed(self._bodies(token, move.bodies))
                case End():
                    self.run.tokens.remove(token)
                case Leave():
                    ready += self._leave(token, move.outcome)
                case Fail():
                    self.walk.note(token, "failed", reason=move.reason, **move.detail)
                    self._end("failed", move.reason)
        self._settle()

    def _enter(self, token: Token, to: str) -> Way:
        run = self.run
        node = self.walk.graph_of(token.graph()).nodes.get(to)
        token.node, token.since, token.due, token.memo = to, run.clock, None, {}
        if node is None:
            return Fail("unknown_node")
        run.steps += 1
        if run.steps > MAX_RUN_STEPS:
            return Fail("too_many_steps")
        self.walk.note(token, "entered")
        return HANDLERS[node.kind].enter(self.walk, token, node)

    def _bodies(self, token: Token, bodies: Iterable[tuple[str, Frame]]) -> list[tuple[Token, Way]]:
        """The token into the first body, new ones into the others."""
        outside = token.stack
        moves: list[tuple[Token, Way]] = []
        for to, frame in bodies:
            one = token if not moves else self._token([])
            one.stack = [*outside, frame]
            moves.append((one, Go(to)))
        return moves

    def _back(self, token: Token) -> list[tuple[Token, Way]]:
        """The path has ended: back to the owner of the innermost body, or the token is gone."""
        if not token.stack:
            self.run.tokens.remove(token)
            return []
        frame = token.stack[-1]
        token.stack = token.stack[:-1]
        token.node = frame.node
        node = self.walk.graph_of(token.graph()).nodes[frame.node]
        move = HANDLERS[node.kind].back(self.walk, token, node, frame)
        if node.kind == "parallel" and isinstance(move, Go):
            self._drop_inside(token, frame.node)
        return [(token, move)]

    def _drop_inside(self, token: Token, owner: str, outside: list[Frame] | None = None) -> None:
        """End the other tokens in the bodies of this owner, and forget their joins."""
        run, outside = self.run, token.stack if outside is None else outside
        run.tokens = [t for t in run.tokens if t is token or not _inside(t, outside, owner)]
        place = path_of(outside, owner) + ":"
        run.joins = {p: n for p, n in run.joins.items() if not p.startswith(place)}

    def _leave(self, token: Token, outcome: str) -> list[tuple[Token, Way]]:
        """Out of the innermost call, or the run ends."""
        at = next((i for i in reversed(range(len(token.stack))) if token.stack[i].graph is not None), None)
        if at is None:
            self._end("exited", outcome)
            return []
        frame = token.stack[at]
        token.stack = token.stack[: at + 1]
        self.run.out[frame.node] = {"outcome": outcome}
        self._drop_inside(token, frame.node, token.stack[:at])
        return [(token, Go(None))]

    # --- ends -------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """A run whose last path has ended is completed there and then, not when somebody looks next."""
        if self.run.running and not self.run.tokens:
            self._end("completed", "")

    def _end(self, status: str, outcome: str) -> None:
        run = self.run
        run.status, run.outcome = status, outcome
        run.tokens, run.joins = [], {}
        self.walk.note(None, "ended", status=status, outcome=outcome)


def _inside(token: Token, outside: list[Frame], owner: str) -> bool:
    """Whether the token stands in a body of `owner`, which stands in the frames `outside`."""
    depth = len(outside)
    if len(token.stack) <= depth or token.stack[depth].node != owner:
        return False
    return all((a.node, a.turn) == (b.node, b.turn) for a, b in zip(token.stack, outside, strict=False))

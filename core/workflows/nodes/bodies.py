"""Nodes with bodies: loops, for-each, parallel branches and their join, called workflows."""

from __future__ import annotations

from core.workflows.nodes.base import Body, End, Fail, Go, Move, Simple, Wake
from core.workflows.run import Frame, Token, path_of
from core.workflows.walk import Walk, lookup
from schemas.workflows import MAX_CALL_DEPTH, Call, Each, Loop, Parallel


class Looping(Simple[Loop]):
    """`loop`: the frame's turn counts from 1, its `since` is the loop's beginning."""

    def enter(self, walk: Walk, token: Token, node: Loop) -> Move:
        """The first turn, if there is one."""
        return self._turn(walk, token, node, 1, walk.clock)

    def back(self, walk: Walk, token: Token, node: Loop, frame: Frame) -> Move:
        """The next turn, if there is one."""
        return self._turn(walk, token, node, frame.turn + 1, frame.since)

    def _turn(self, walk: Walk, token: Token, node: Loop, turn: int, since: int) -> Move:
        if node.repeat is not None and not walk.holds(node.repeat, token):
            walk.note(token, "chose", turns=turn - 1)
            return Go(node.next)
        over = node.lasts is not None and walk.clock >= since + node.lasts * 1000
        if turn > node.max_turns or over:
            walk.note(token, "chose", turns=turn - 1, exhausted=True)
            return Go(node.exhausted if node.exhausted is not None else node.next)
        return Body([(node.body, Frame(node.id, turn, since))])


class Iterating(Simple[Each]):
    """`each`: the frame's turn is the item's index."""

    def enter(self, walk: Walk, token: Token, node: Each) -> Move:
        """The first item, if there is one."""
        items = lookup({**walk.run.facts, **walk.run.person}, node.items)
        if isinstance(items, list) and len(items) > node.max_items:
            walk.note(token, "skipped", items=len(items) - node.max_items)
        return self._item(walk, node, 0, walk.clock)

    def back(self, walk: Walk, token: Token, node: Each, frame: Frame) -> Move:
        """The next item, if there is one."""
        return self._item(walk, node, frame.turn + 1, frame.since)

    def _item(self, walk: Walk, node: Each, index: int, since: int) -> Move:
        items = lookup({**walk.run.facts, **walk.run.person}, node.items)
        count = min(len(items), node.max_items) if isinstance(items, list) else 0
        return Body([(node.body, Frame(node.id, index, since))]) if index < count else Go(node.next)


class Paralleling(Simple[Parallel]):
    """`parallel`: a token for each branch; the one that fulfils the join goes on, and ends the others."""

    def enter(self, walk: Walk, token: Token, node: Parallel) -> Move:
        """All branches, in order."""
        walk.run.joins[token.path()] = 0
        return Body([(body, Frame(node.id, i, walk.clock)) for i, body in enumerate(node.branches)])

    def back(self, walk: Walk, token: Token, node: Parallel, frame: Frame) -> Move:
        """One more has ended."""
        place = path_of(token.stack, node.id)
        count = walk.run.joins[place] + 1
        total = len(node.branches)
        need = {"all": total, "any": 1}.get(node.join, total) if isinstance(node.join, str) else min(node.join, total)
        if count < need:
            walk.run.joins[place] = count
            return End()
        del walk.run.joins[place]
        walk.note(token, "joined", branches=count)
        return Go(node.next)


class Calling(Simple[Call]):
    """`call`: the frame names the graph that follows."""

    def enter(self, walk: Walk, token: Token, node: Call) -> Move:
        """Into the other workflow."""
        depth = sum(f.graph is not None for f in token.stack)
        if depth >= MAX_CALL_DEPTH:
            return Fail("calls_too_deep")
        if node.workflow not in walk.run.pins:
            return Fail("unknown_workflow", {"workflow": node.workflow})
        start = walk.graph_of(node.workflow).workflow.start
        return Body([(start, Frame(node.id, 0, walk.clock, node.workflow))])

    def back(self, walk: Walk, token: Token, node: Call, frame: Frame) -> Move:
        """It has ended."""
        return Go(node.next)

    def wake(self, walk: Walk, token: Token, node: Call, why: Wake) -> Move | None:
        """It never waits itself: its tokens stand in the other graph."""
        return None

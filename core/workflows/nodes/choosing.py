"""Nodes that choose a way and go on at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from core.rules.conditions import flatten
from core.workflows.nodes.base import Fail, Go, Move, Simple
from core.workflows.run import Token
from core.workflows.walk import Walk
from schemas.workflows import Arm, Branch, Decide, Split


class Branching(Simple[Branch]):
    """`branch`."""

    def enter(self, walk: Walk, token: Token, node: Branch) -> Move:
        """The first path that holds."""
        for i, path in enumerate(node.paths):
            if path.when is not None and walk.holds(path.when, token):
                walk.note(token, "chose", path=i)
                return Go(path.next)
        walk.note(token, "chose", path="otherwise")
        return Go(node.otherwise)


class Splitting(Simple[Split]):
    """`split`."""

    def enter(self, walk: Walk, token: Token, node: Split) -> Move:
        """The subject's arm, noted as an exposure unless a winner takes all."""
        run = walk.run
        if node.winner is not None:
            arm = next((a for a in node.arms if a.name == node.winner), None)
            if arm is None:
                return Fail("no_such_arm")
            walk.note(token, "chose", arm=arm.name, winner=True)
        elif not any(a.weight for a in node.arms):
            return Fail("no_such_arm")
        else:
            arm = arm_of(node.arms, run.tenant, walk.graph.workflow.id, node.salt or node.id, run.origin)
            walk.note(token, "exposed", arm=arm.name)
        run.out[token.node] = {"arm": arm.name}
        return Go(arm.next)


def arm_of(arms: Sequence[Arm], *parts: str) -> Arm:
    """The arm that these parts draw, in proportion to the weights: the same ones always the same. One weight is above 0."""
    hashed = hashlib.blake2b("\x1f".join(parts).encode(), key=b"uptake.split", digest_size=8).digest()
    total = sum(a.weight for a in arms)
    left = int.from_bytes(hashed) * total >> 64
    for arm in arms:
        if left < arm.weight:
            return arm
        left -= arm.weight
    raise ValueError("no arm has a weight")


class Deciding(Simple[Decide]):
    """`decide`."""

    def enter(self, walk: Walk, token: Token, node: Decide) -> Move:
        """Score, then high, low or unsure."""
        score = self._score(walk, token, node)
        if score is None:
            answer, to = "unsure", node.unsure
        elif score >= node.high_from:
            answer, to = "high", node.high
        elif score <= node.low_to:
            answer, to = "low", node.low
        else:
            answer, to = "unsure", node.unsure
        walk.run.out[token.node] = {"score": score, "answer": answer}
        walk.note(token, "chose", answer=answer, score=score)
        return Go(to)

    def _score(self, walk: Walk, token: Token, node: Decide) -> float | None:
        if node.of is None:
            return node.base + math.fsum(
                f.points for f in node.factors if f.when is not None and walk.holds(f.when, token)
            )
        found = flatten(walk.facts(token.graph(), token.stack)).get(node.of)
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found):
            return None
        return float(found)

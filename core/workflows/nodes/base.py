"""What a node's handler is, and what it answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from core.workflows.jobs import Approval, Receipt, Timer
from core.workflows.run import Frame, Token
from core.workflows.walk import Walk
from schemas.workflows import Node

N_contra = TypeVar("N_contra", bound=Node, contravariant=True)
"""The node's kind."""


class Go(msgspec.Struct, frozen=True):
    """On to this node; None: the end of the path."""

    to: str | None


class Stay(msgspec.Struct, frozen=True):
    """Wait here. The token's `memo` holds what is needed then."""

    due: int | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """Into bodies: a token for each, in order; the present one takes the first."""

    bodies: list[tuple[str, Frame]]


class End(msgspec.Struct, frozen=True):
    """The token ends here, without leading anywhere."""


class Leave(msgspec.Struct, frozen=True):
    """The run ends, or the call that the token is in."""

    outcome: str


@dataclass(frozen=True, slots=True)
class Fail:
    """The run fails."""

    reason: str
    detail: dict[str, Any] = field(default_factory=dict)


Move = Go | Stay | Body | End | Leave | Fail


class Happened(msgspec.Struct, frozen=True):
    """Named events that just came, in the definition's order, and when they occurred."""

    names: list[str]
    at: int


Wake = Timer | Receipt | Approval | Happened


class Handler(Protocol[N_contra]):
    """One kind of node."""

    def enter(self, walk: Walk, token: Token, node: N_contra) -> Move:
        """A token has come; `walk.clock` is the time."""

    def wake(self, walk: Walk, token: Token, node: N_contra, why: Wake) -> Move | None:
        """Something happened while a token waits here; None: it does not matter to this one."""

    def back(self, walk: Walk, token: Token, node: N_contra, frame: Frame) -> Move:
        """A token has come to the end of the body `frame`, which is off its stack again."""


K = TypeVar("K", bound=Node)
"""The node's kind."""


class Simple(Generic[K]):
    """A node that neither waits nor has a body."""

    def wake(self, walk: Walk, token: Token, node: K, why: Wake) -> Move | None:
        """It never waits."""
        return None

    def back(self, walk: Walk, token: Token, node: K, frame: Frame) -> Move:
        """It has no body."""
        return Fail("no_body")

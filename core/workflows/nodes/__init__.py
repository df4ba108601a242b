"""Kinds of nodes, a file for each family. The registry: a kind exists if it stands here (a test compares it with `schemas`)."""

from __future__ import annotations

from typing import Any, Final

from core.workflows.nodes import acting, bodies, choosing, waiting
from core.workflows.nodes.base import Handler

HANDLERS: Final[dict[str, Handler[Any]]] = {
    "act": acting.Acting(),
    "approve": acting.Approving(),
    "compensate": acting.Compensating(),
    "exit": acting.Exiting(),
    "branch": choosing.Branching(),
    "split": choosing.Splitting(),
    "decide": choosing.Deciding(),
    "wait": waiting.Waiting(),
    "await": waiting.Awaiting(),
    "loop": bodies.Looping(),
    "each": bodies.Iterating(),
    "parallel": bodies.Paralleling(),
    "call": bodies.Calling(),
}

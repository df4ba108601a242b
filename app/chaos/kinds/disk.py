"""The disk of the read model takes no more."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import psutil

from app.chaos.registry import kind
from app.chaos.stage import NothingThere, Stage, pid_of

SMALL = 4096
"""Files of the process may not grow beyond this: what it writes further back fails, as on a full disk."""


def possible(stage: Stage) -> bool:
    """Linux lets a limit of a running process be set."""
    return hasattr(psutil, "RLIMIT_FSIZE") and any(c.name.startswith("project-") for c in stage.children)


@kind("disk_full", "the read model's disk is full", track="neighbours", lasts_s=(5.0, 9.0), possible=possible)
async def disk_full(stage: Stage) -> AsyncIterator[str]:
    """Of every PROJECT process; one that started anew meanwhile would have no limit."""
    limited = []
    for child in stage.children:
        pid = pid_of(child)
        if child.name.startswith("project-") and pid is not None:
            process = psutil.Process(pid)
            before = process.rlimit(psutil.RLIMIT_FSIZE)
            process.rlimit(psutil.RLIMIT_FSIZE, (SMALL, before[1]))
            limited.append((process, before))
    if not limited:
        raise NothingThere("no process of role project runs just now")
    try:
        yield f"{len(limited)} processes cannot write"
    finally:
        for process, before in limited:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.rlimit(psutil.RLIMIT_FSIZE, before)

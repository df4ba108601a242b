"""Processes that help this one to compute: made by fork from one that has imported what they need, where that is safe.

Spawned, each would import the program again, seconds of CPU before it does anything. `app.forked` is for workers, which must
be found, measured and ended by signals; these only compute, and go when whoever asked them goes.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping
from multiprocessing import connection
from multiprocessing.context import ForkServerContext, SpawnContext


def context(module: str) -> ForkServerContext | SpawnContext:
    """Makes processes that run functions of this module. The first call of a process decides what all of them have imported;
    later ones import what is missing.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([module])
    return made


def surroundings() -> Mapping[str, str]:
    """The environment of this process, for `adopt`: a helper has the one that there was when the first helper was made."""
    return dict(os.environ)


def adopt(environment: Mapping[str, str]) -> None:
    """Take over the environment of whoever asks, and go when it goes, however that ends: then nobody reads what is computed here."""
    os.environ.clear()
    os.environ.update(environment)
    asking = multiprocessing.parent_process()
    if asking is not None:
        threading.Thread(target=_follow, args=(asking.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)

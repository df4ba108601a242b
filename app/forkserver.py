"""The fork server: a process that has imported everything once, and makes workers by fork (`app.forked` is its client).

Importing costs a worker 1.5 s of CPU; on a busy machine that was most of the time between a worker's death and its next checkpoint.
A fork of a process that has done it costs milliseconds, and the workers of a machine share the memory of what was imported.

`multiprocessing`'s own fork server is no choice: its children import their client's main module again, share one stderr, and
outlive a client that was killed.

One link, a socket that keeps messages apart, JSON in both directions: an order (with the child's stderr as a file descriptor) is
answered by the child's pid (with a pidfd), later by its exit code. When the link closes, the server ends; its children see that
their parent is gone (`PARENT`).
"""

from __future__ import annotations

import gc
import os
import selectors
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson

MESSAGE_BYTES = 1 << 18
"""Longest message: an order holds an environment."""
PARENT = "UPTAKE_SUPERVISOR"
"""In a worker's environment: pid of the process that made it; when that is gone, the worker ends."""


@dataclass(frozen=True, slots=True)
class _Child:
    number: int
    pid: int


def serve(link: socket.socket) -> Callable[[], int] | None:
    """Takes orders until the link closes: then None. In a child: what the child is to run."""
    children: dict[int, _Child] = {}
    server = os.getpid()
    with selectors.DefaultSelector() as ready:
        ready.register(link, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fd != link.fileno():
                    child = children.pop(key.fd)
                    _, status = os.waitpid(child.pid, 0)
                    ready.unregister(key.fd)
                    os.close(key.fd)
                    _tell(link, {"number": child.number, "code": os.waitstatus_to_exitcode(status)})
                    continue
                text, fds, _, _ = socket.recv_fds(link, MESSAGE_BYTES, 1)
                if not text:
                    return None
                order = orjson.loads(text)
                pid = os.fork()
                if not pid:
                    for pidfd in children:
                        os.close(pidfd)
                    link.close()
                    return _born(order, fds[0], server)
                os.close(fds[0])
                pidfd = os.pidfd_open(pid)
                children[pidfd] = _Child(order["number"], pid)
                ready.register(pidfd, selectors.EVENT_READ)
                _tell(link, {"number": order["number"], "pid": pid}, [pidfd])


def _tell(link: socket.socket, what: dict[str, int], fds: list[int] | None = None) -> None:
    try:
        socket.send_fds(link, [orjson.dumps(what)], fds or [])
    except OSError:
        return  # the client is gone: the next read says so


def _born(order: dict[str, Any], stderr: int, server: int) -> Callable[[], int]:
    os.setsid()  # Ctrl-C in the terminal is for the supervisor
    nothing = os.open(os.devnull, os.O_RDWR)
    for ours, its in ((nothing, 0), (nothing, 1), (stderr, 2)):
        os.dup2(ours, its)
    os.close(nothing)
    os.close(stderr)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.environ[PARENT] = str(server)
    sys.argv = [order["module"], *order["arguments"]]
    Path("/proc/self/comm").write_text("-".join(order["arguments"])[:15])  # what top and ps call it
    main: Callable[[], int] = import_module(order["module"]).main
    return main


def main() -> int:
    """`python -m app.forkserver LINK MODULE…`: imports the modules, says that it is ready, takes orders.

    Returns in every process it becomes: in a child, what the child's main returns.
    """
    link = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        import_module(name)
    # What is there now stays for good: children's collectors need not look at it, nor copy its pages by looking.
    gc.collect()
    gc.freeze()
    _tell(link, {"number": 0})
    born = serve(link)
    return born() if born is not None else 0


if __name__ == "__main__":
    sys.exit(main())

"""The `uptake` command.

Exit codes: 0 done · 1 failed · 2 used wrongly (a setting among them) · 3 Kafka or the read model cannot be reached ·
4 bad input · 5 nothing found · 130 stopped with Ctrl-C or SIGTERM. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from app.cli.root import build, wanted
from app.cli.run import execute

__all__ = ["main"]


def main() -> None:
    """Entry point: one line for an error, an exit code for scripts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # In the background of a shell. Only where Python's own handler stands asyncio cancels what runs; else the exception is raised
        # wherever the program is, and may be lost (seen in the callbacks of a fork). Blocked, SIGINT stays nobody's, here and below.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _stopped)
    arguments = sys.argv[1:]
    code = execute(build(wanted(arguments)), arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # `uptake tail … | head`: whoever read has gone; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _stopped(_: int, frame: FrameType | None) -> None:
    """SIGTERM is Ctrl-C by other means: what a command has started (brokers, workers) ends with it."""
    handler = signal.getsignal(signal.SIGINT)
    (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

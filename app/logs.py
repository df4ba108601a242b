"""Where a process writes what it does: a file that does not grow without end, and errors to the terminal."""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path

FILE_BYTES = 10 << 20
FILES_KEPT = 3


def configure(path: Path, level: str, name: str) -> None:
    """Everything from `level` to the file; errors also to stderr, in one line each, under the process's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = logging.handlers.RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.ERROR)
    terminal.setFormatter(_OneLine(f"{name} | %(message)s"))
    # Clients retry by themselves and log each try; what does not heal, our own rooms say.
    terminal.addFilter(lambda record: not record.name.startswith("aiokafka"))
    root = logging.getLogger()
    root.handlers[:] = [file, terminal]
    root.setLevel(level)
    # Each fetch and each metadata refresh would be a line.
    for loud in ("aiokafka", "faust", "mode", "httpx", "asyncio"):
        logging.getLogger(loud).setLevel(max(logging.getLevelName(level), logging.WARNING))


def quiet() -> None:
    """For commands: what goes wrong is raised and said once, so clients' own tries and complaints are not shown."""
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    logging.getLogger("aiokafka").propagate = False


class _OneLine(logging.Formatter):
    """The message alone: the traceback is in the file."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        shown = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None, "stack_info": None})
        return super().format(shown).splitlines()[0][:400]

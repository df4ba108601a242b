"""Helpers go when whoever asked them goes, however that ends."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import signal
import sys

from app import helping


def help(told, around):
    helping.adopt(around)
    told.send(True)
    signal.pause()


if __name__ == "__main__":
    context = helping.context("app.helping")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=help, args=(theirs, helping.surroundings()))
    process.start()
    ours.recv()
    print(process.pid, flush=True)
    sys.stdin.read()
"""


def test_the_helper_of_a_process_that_was_killed_is_gone(tmp_path: Path) -> None:
    script = tmp_path / "asks.py"
    script.write_text(SCRIPT)
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asking:
        assert asking.stdout is not None
        helper = os.pidfd_open(int(asking.stdout.readline()))
        assert select.select([helper], [], [], 0)[0] == []
        asking.kill()
        ended, _, _ = select.select([helper], [], [], 20)
        os.close(helper)
        assert ended

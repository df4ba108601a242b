"""A run that is stopped takes its brokers with it, also where nobody can press Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.common import INTERRUPTED

pytestmark = pytest.mark.kafka
JARS = Path(__file__).parents[3] / ".uptake" / "jars"


def _of(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        found += [line[:200]] if str(folder) in line else []
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc who is there")
@pytest.mark.timeout(120)
def test_sigterm_ends_brokers_too(tmp_path: Path) -> None:
    JARS.mkdir(parents=True, exist_ok=True)
    (tmp_path / "jars").symlink_to(JARS)
    known = {**os.environ, "UPTAKE_DATA_DIR": str(tmp_path)}
    # As in the background of a shell: nobody's Ctrl-C comes here.
    command = [sys.executable, "-m", "app.cli", "chaos", "--brokers", "1", "--minutes", "1", "--rate", "100"]
    running = subprocess.Popen(
        command,
        env=known,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert running.stderr is not None
    said = [next(running.stderr), next(running.stderr)]
    assert "starting 1 brokers" in said[0] and len(_of(tmp_path)) >= 1, said
    running.send_signal(signal.SIGTERM)
    rest = running.communicate(timeout=60)[1]
    assert running.returncode == INTERRUPTED, (said, rest)
    assert "Traceback" not in rest and not list(tmp_path.glob("chaos-*")), rest
    assert _of(tmp_path) == []

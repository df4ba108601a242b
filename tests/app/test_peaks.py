"""Peaks of workers' memory: those of real processes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from app.peaks import Peaks
from app.worker import Child

HOLDS_64_MB = "import sys; held = b'x' * (64 << 20); print('there', flush=True); sys.stdin.read()"


async def test_what_a_process_held_is_known_when_it_has_ended(tmp_path: Path) -> None:
    child = Child("held", [sys.executable, "-c", HOLDS_64_MB], {}, tmp_path / "log")
    never = Child("never", [], {}, tmp_path / "log")
    peaks = Peaks(lambda: [child, never])
    pipe = asyncio.subprocess.PIPE
    child.process = process = await asyncio.create_subprocess_exec(*child.argv, stdin=pipe, stdout=pipe)
    assert process.stdin is not None and process.stdout is not None
    assert await process.stdout.readline() == b"there\n"
    peaks.look()
    process.stdin.close()
    await process.wait()
    peaks.look()
    assert set(peaks.mb) == {"held"} and 64 < peaks.mb["held"] < 256


async def test_it_looks_by_itself_while_it_is_open(tmp_path: Path) -> None:
    looked = asyncio.Event()

    def children() -> list[Child]:
        looked.set()
        return []

    async with Peaks(children):
        async with asyncio.timeout(10):
            await looked.wait()

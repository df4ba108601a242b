"""The README's way to one's own events, as it stands there, against a running system."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

from app import topics
from app.watch import workers
from app.worker import Supervisor, worker_children
from tests.helpers.settings import settings_for

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_own_events_become_adoption(kafka: str, prefix: str, tmp_path: Path) -> None:
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```", README.read_text(), re.M | re.S)
    block = next(b for b in blocks if "uptake send" in b)
    settings = settings_for(kafka, prefix, tmp_path / "data")
    await topics.create(settings)
    supervisor = Supervisor(worker_children(settings, {"meter": 1, "decide": 1, "project": 1}), lambda name, text: None)
    supervisor.start()
    try:
        async with asyncio.timeout(90):
            while sum(w.ready for w in await workers(settings, metrics=False)) < 3:
                await asyncio.sleep(0.2)
        uptake = Path(sys.executable).with_name("uptake")
        shell = await asyncio.create_subprocess_exec(
            "bash",
            "-euo",
            "pipefail",
            "-c",
            block.replace(".venv/bin/uptake", str(uptake)),
            cwd=tmp_path,
            env={**os.environ, **settings.environment()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, said = await asyncio.wait_for(shell.communicate(), 150)
    finally:
        await supervisor.stop()
    assert shell.returncode == 0, said.decode()
    rows = {
        row["feature"]: row for line in out.decode().splitlines() if line.startswith("{") and (row := json.loads(line))
    }
    assert {name: (row["users"], row["events"]) for name, row in rows.items()} == {"export": (2, 2), "import": (1, 1)}
    assert rows["export"]["organic_share"] == 0.5
    assert rows["export"]["target_users"] == 2
    assert rows["export"]["adoption_rate"] is None, "fewer than 20 target users: no data"

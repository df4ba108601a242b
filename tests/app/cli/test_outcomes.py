"""`uptake outcomes` on a read model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from app.cli.common import console
from app.cli.root import build
from app.cli.run import execute
from app.settings import Settings
from app.store import open_store
from app.store.write import write
from core.project import project
from tests.helpers.words import a_batch, an_outcome_row


async def filled(settings: Settings) -> None:
    store = await open_store(settings.store_url)
    figure = an_outcome_row(
        rule="A1.2", measure="figure", metric="adoption_rate", treated=None, held=None, pairs=4, low=None, high=None
    )
    rows = project(a_batch("outcomes", [an_outcome_row(), figure])).rows
    await write(store, rows, role="project", topic="outcomes", partition=0, next_offset=2)
    await store.close()


def test_shows_what_rules_have_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(console, "width", 200)
    assert execute(build(), ("outcomes",)) != 0, "there is no read model yet"
    assert "uptake worker --roles project" in capsys.readouterr().err
    asyncio.run(filled(settings))
    assert execute(build(), ("outcomes",)) == 0
    first, second = [line for line in capsys.readouterr().out.splitlines() if "acme" in line]
    assert "A1.2" in first and "4 times" in first and "time before" in first
    assert (
        "270 of 900 (30.0 %)" in second
        and "+20.00 %" in second
        and "+6.00 % … +29.00 %" in second
        and "working" in second
    )
    assert execute(build(), ("outcomes", "--rule", "J7", "--json")) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row["uplift"] == 0.2 and row["held"]["converted"] == 10

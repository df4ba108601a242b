"""A new integration is one file and one line: here one is added to a copy of the room, and the contract holds it."""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import integrations

ROOT = Path(integrations.__file__).resolve().parents[1]

PAGER = '''"""Pager: wakes somebody up.

https://example.com/docs/pager
"""

from __future__ import annotations

import orjson
from pydantic import Field, SecretStr

from integrations.base import DEFAULT_TIMEOUT_S, HttpRequest, Response, Settings, by_status
from schemas.delivery import Delivery, Outcome

NAME = "pager"
EXAMPLE = {"api_key": "example-key"}


class Config(Settings):
    """One key."""

    api_key: SecretStr = Field(description="Key of the service.")
    base_url: str = Field(default="https://pager.example.com", description="Where it is.")
    timeout_s: float = Field(default=DEFAULT_TIMEOUT_S, description="Limit of one attempt, seconds.")


def render(delivery: Delivery, config: Config, now: int) -> HttpRequest:
    """One page."""
    headers = {"authorization": config.api_key.get_secret_value(), "idempotency-key": delivery.id}
    body = orjson.dumps({"summary": delivery.command.title})
    return HttpRequest("POST", f"{config.base_url}/pages", headers, body, config.timeout_s)


def interpret(response: Response) -> Outcome:
    """By status."""
    return by_status(response)
'''


def test_adding_one_is_one_file_and_one_line(tmp_path: Path) -> None:
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "integrations", tmp_path / "integrations", ignore=skip)
    shutil.copytree(ROOT / "tests" / "integrations", tmp_path / "contract", ignore=skip)
    (tmp_path / "integrations" / "pager.py").write_text(PAGER)
    catalogue = tmp_path / "integrations" / "catalogue.py"
    before = catalogue.read_text()
    catalogue.write_text(before.replace('    "kafka",\n', '    "kafka",\n    "pager",\n'))
    changed = [
        line for line in difflib.ndiff(before.splitlines(), catalogue.read_text().splitlines()) if line[0] in "+-"
    ]
    assert changed == ['+     "pager",']

    # The contract suite of the copy, over the copy: the newcomer is held to it without a word about it there.
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--import-mode=importlib",
            "-p",
            "no:cacheprovider",
            "-c",
            os.devnull,
            "--rootdir",
            str(tmp_path),
            "-k",
            "pager or the_list_is_the_folder",
            str(tmp_path / "contract" / "test_contract.py"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        timeout=250,
    )
    assert run.returncode == 0, run.stdout[-3_000:] + run.stderr[-1_000:]
    passed = int(run.stdout.split(" passed")[0].split()[-1])
    assert passed >= 20

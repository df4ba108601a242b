"""`.ci/python` chooses what carries the project: the faster one of those on PATH, unless one is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHOOSES = Path(__file__).parents[2] / ".ci" / "python"
SLOW = "import sys; sys.setprofile(lambda *frame: None)\n"


def _made(folder: Path, begins: str) -> Path:
    """A folder with a Python of its own in it. Copied: two names of one file are one Python."""
    subprocess.run([sys.executable, "-m", "venv", "--copies", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python3.*/site-packages")
    (site / "begins.pth").write_text(begins)
    return folder / "bin"


def _asked(path: list[Path], python: str | None = None) -> subprocess.CompletedProcess[str]:
    known = {"PATH": ":".join(map(str, path)), **({} if python is None else {"PYTHON": python})}
    return subprocess.run([shutil.which("bash") or "bash", CHOOSES], env=known, capture_output=True, text=True)


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pythons")
    return {"slow": _made(folder / "slow", SLOW), "fast": _made(folder / "fast", "")}


@pytest.mark.parametrize("order", [("slow", "fast"), ("fast", "slow")])
def test_the_faster_one_carries_it(pythons: dict[str, Path], order: tuple[str, ...]) -> None:
    found = _asked([pythons[name] for name in order])
    assert found.stdout.startswith(f"{pythons['fast']}/"), found


def test_the_one_that_is_named_carries_it(pythons: dict[str, Path]) -> None:
    named = str(pythons["slow"] / "python3")
    assert _asked([pythons["fast"]], named).stdout == f"{named}\n"


def test_none_is_said_in_a_line(tmp_path: Path) -> None:
    found = _asked([tmp_path])
    assert found.returncode == 1 and found.stdout == ""
    assert found.stderr.startswith("error: Uptake needs Python 3.11 or newer with venv, but no Python was found")
    assert os.linesep not in found.stderr.rstrip()

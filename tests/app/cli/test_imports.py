"""Commands that only ask or tell start at once: they load neither a compiler nor a web framework."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("numba", "scipy", "fastapi", "faust", "polars", "sqlalchemy")
LIGHT = (
    "actions", "approvals", "connections", "deployment", "dlq", "hooks", "keys", "runs", "sources", "status", "tail", "topics",
)  # fmt: skip


def test_light_commands_import_nothing_heavy() -> None:
    code = f"""
import sys, importlib
for name in {LIGHT}:
    importlib.import_module("app.cli." + name)
    print(name, *(m for m in {HEAVY} if m in sys.modules))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == list(LIGHT)

"""The oracle is worth something only as long as it shares nothing with what it judges."""

from __future__ import annotations

import ast
from pathlib import Path

import app.oracle

OURS = {"schemas", "core", "transport", "integrations", "agents", "app"}


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            found.add(node.module or "")
    return found


def test_imports_nothing_of_ours() -> None:
    files = sorted(Path(app.oracle.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for path in files:
        foreign = {m for m in _imports(path) if m.split(".")[0] in OURS and not m.startswith("app.oracle")}
        assert not foreign, f"{path.name} imports {foreign}"

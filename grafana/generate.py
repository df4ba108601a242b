"""Writes `grafana/dashboards/*.json` from `grafana/boards.py`; `--check` fails where they differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from grafana.boards import DASHBOARDS

FOLDER = Path(__file__).parent / "dashboards"


def texts() -> dict[Path, str]:
    """File → content."""
    return {FOLDER / f"{d.uid}.json": json.dumps(d.json(), indent=1, ensure_ascii=False) + "\n" for d in DASHBOARDS}


def main(arguments: list[str]) -> int:
    """0 where the files are as they should be, or were written."""
    wanted = texts()
    if "--check" in arguments:
        there = {path: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
        wrong = sorted(p.name for p in wanted.keys() | there.keys() if wanted.get(p) != there.get(p))
        if wrong:
            sys.stderr.write(
                f"grafana/dashboards differ from grafana/boards.py: {', '.join(wrong)}; run make generate\n"
            )
        return 1 if wrong else 0
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

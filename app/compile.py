"""`python -m app.compile`: compile what is not compiled yet. `make` calls it while it installs, the image while it is built."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path

from rich.console import Console

from core import kernels
from core.kernels import PLACE


def main() -> None:
    """Imports every module of `core.kernels`, which compiles it; says what it does, for it takes a while the first time."""
    console = Console(stderr=True)
    if PLACE.is_dir() and any(PLACE.rglob("*.nbc")):
        return
    console.print("compiling the loops of the hot path, some thirty seconds")
    began = time.monotonic()
    for module in sorted(Path(kernels.__file__).parent.glob("[a-z]*.py")):
        import_module(f"core.kernels.{module.stem}")
    console.print(f"compiled in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

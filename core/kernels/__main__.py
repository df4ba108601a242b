"""`python -m core.kernels`: compile what is not compiled yet. `make` calls it while it installs, the image while it is built."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path

from core.kernels import PLACE


def main() -> None:
    """Imports every module of kernels, which compiles them; says what it does, for it takes a while the first time."""
    if PLACE.is_dir() and any(PLACE.rglob("*.nbc")):
        return
    print("compiling the loops of the hot path, some twenty seconds", flush=True)
    began = time.monotonic()
    for module in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        import_module(f"core.kernels.{module.stem}")
    print(f"compiled in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()

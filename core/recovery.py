"""Recovery of tasks that build their state from all of its rows at once: those are kept until the last one is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.decide.packing import read_key


class Recovered:
    """The live rows of a task's state topic, as they are loaded."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one row: the later one of a key wins, None deletes it."""
        if value is None:
            self._rows.pop(key, None)
        else:
            self._rows[key] = value

    def take(self) -> Iterator[tuple[str, list[Any], bytes]]:
        """Every row: the first part of its key (`core.decide.packing.key`), the others, and the value. They are let go."""
        rows, self._rows = self._rows, {}
        for key, value in rows.items():
            name, *rest = read_key(key)
            yield name, rest, value

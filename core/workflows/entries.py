"""When subjects last entered a workflow, where its policy asks. Rows `entry` of a desk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

Who = tuple[str, str]
"""tenant, subject."""
ROW: Final = "entry"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(int).decode


class Entries:
    """Of one desk. `changed`: names of rows that a checkpoint has to write."""

    def __init__(self, changed: set[tuple[str, ...]]) -> None:
        self._changed = changed
        self._of: dict[Who, dict[tuple[str, str], int]] = {}
        """Subject → (workflow, key) → event time."""

    def last(self, tenant: str, workflow: str, subject: str, key: str) -> int | None:
        """The newest entry; None: there was none."""
        return self._of.get((tenant, subject), {}).get((workflow, key))

    def enter(self, tenant: str, workflow: str, subject: str, key: str, at: int) -> None:
        """One more; the newest counts."""
        of = self._of.setdefault((tenant, subject), {})
        of[workflow, key] = max(at, of.get((workflow, key), 0))
        self._changed.add((ROW, tenant, workflow, subject, key))

    def take_away(self, tenant: str, subject: str) -> Iterator[tuple[str, str, int]]:
        """(workflow, key, event time) of the subject's, which are no longer here."""
        for (workflow, key), at in sorted(self._of.pop((tenant, subject), {}).items()):
            self._changed.add((ROW, tenant, workflow, subject, key))
            yield workflow, key, at

    def forget(self, holds: Callable[[str, str], bool]) -> int:
        """Forget subjects; how many entries went."""
        return sum(len(list(self.take_away(*who))) for who in [w for w in self._of if holds(*w)])

    def row(self, tenant: str, workflow: str, subject: str, key: str) -> bytes | None:
        """An entry as a state row."""
        at = self.last(tenant, workflow, subject, key)
        return None if at is None else _encode(at)

    def load(self, tenant: str, workflow: str, subject: str, key: str, value: bytes | None) -> None:
        """Take a row back; None: it is deleted after all."""
        if value is not None:
            self._of.setdefault((tenant, subject), {})[workflow, key] = _decode(value)
        elif (of := self._of.get((tenant, subject))) is not None:
            of.pop((workflow, key), None)
            if not of:
                del self._of[tenant, subject]

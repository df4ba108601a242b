"""The past's definitions: each version in force from when it was published, or a folder's rules instead of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from app.archive import Archived
from core.definitions import Catalogue
from schemas.definitions import DEFINITION, Definition, Rule, Workflow, head_key

_INSTEAD = ("rule", "workflow")
"""Kinds of which a folder holds all there are."""


@dataclass(slots=True)
class Past:
    """Records of `definitions` in order: (broker time, key of the head, value)."""

    records: list[tuple[int, bytes, bytes | None]] = field(default_factory=list)

    @classmethod
    def of(cls, archived: Archived, instead: Sequence[Definition] | None = None) -> Past:
        """As they were published; `instead`: with these in force all the time, and no rules or workflows beside them."""
        fixed = {head_key(d): d.model_dump_json().encode() for d in instead or ()}
        found = cls([(0, key, value) for key, value in fixed.items()])
        for told, _, key, value in archived.rows("definitions"):
            parts = (key or b"").split(b"|")
            head = b"|".join(parts[:3])
            if len(parts) not in (3, 4) or (len(parts) == 4 and value is None):
                continue  # a version that was erased says nothing of what is in force
            kind = parts[1].decode(errors="replace")
            if instead is not None and (kind in _INSTEAD or head in fixed):
                continue
            found.records.append((told, head, value))
        return found

    def times(self) -> set[int]:
        """When anything changed."""
        return {told for told, _, _ in self.records}

    def all(self) -> list[Definition]:
        """Every version there was."""
        found: list[Definition] = []
        for _, _, value in self.records:
            try:
                if value is not None:
                    found.append(DEFINITION.validate_json(value))
            except ValidationError:
                continue  # the workers refused it too
        return found

    def follower(self, catalogue: Catalogue) -> Follower:
        """Fills a catalogue as time goes on."""
        return Follower(self.records, catalogue)


class Follower:
    """Applies what was published, in order."""

    def __init__(self, records: Iterable[tuple[int, bytes, bytes | None]], catalogue: Catalogue) -> None:
        self._records = list(records)
        self._catalogue = catalogue
        self._at = 0

    def until(self, now: int) -> None:
        """Everything that was published by this broker time."""
        while self._at < len(self._records) and self._records[self._at][0] <= now:
            _, key, value = self._records[self._at]
            self._at += 1
            try:
                self._catalogue.apply(key, value)
            except ValidationError:
                continue


def acts(definitions: Iterable[Definition]) -> list[Rule | Workflow]:
    """Those that order something."""
    return [d for d in definitions if isinstance(d, (Rule, Workflow))]

"""Which dead letters were sent again: records of `redrives` name letters by their place, and a restore gives them other places.

A letter that is not there any more (its time was over, or it was written behind the cut) gets the place -1: the record stays as
the account of who did what, and keeps no other letter from being sent.
"""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from app.backup.manifest import Copy
from app.backup.place import Place
from app.backup.refill import Change, KeyValue, Moved
from app.backup.segments import read_frame
from app.letters import redrive_id, redrive_key
from schemas.delivery import Redrive

REDRIVES: Final = "redrives"
LETTERS: Final = "dead-letters"
GONE: Final = -1


async def sent_again(place: Place, copy: Copy) -> set[tuple[int, int]]:
    """Places of all letters that the records name. Raises `PlaceError`."""
    named: set[tuple[int, int]] = set()
    for segment in copy.segments:
        for value in (await read_frame(place, segment))["value"]:
            if (found := _read(value)) is not None:
                named.add((found.letter_partition, found.letter_offset))
    return named


def replaced(letters: Moved) -> Change:
    """The records, with the places that the letters have now."""

    def change(partition: int, key: bytes | None, value: bytes | None) -> KeyValue:
        found = _read(value)
        if found is None:
            return key, value
        offset = letters.row(found.letter_partition, found.letter_offset)
        if offset is None:
            now = found.model_copy(update={"letter_offset": GONE})
        else:
            ident = redrive_id(found.letter_partition, offset)
            now = found.model_copy(update={"letter_offset": offset, "id": ident})
        return redrive_key(now), now.model_dump_json().encode()

    return change


def _read(value: bytes | None) -> Redrive | None:
    try:
        return Redrive.model_validate_json(value or b"")
    except ValidationError:
        return None  # not ours

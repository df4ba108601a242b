"""Facts: what the rows that rules are asked about say, as conditions find it, and whom they are about."""

from __future__ import annotations

from typing import Any, Final, get_args

import msgspec

from core.batch import Batch
from core.meter.read import Reading
from core.rules.conditions import flatten
from schemas.envelope import SubjectKind, subject

_KINDS: Final = frozenset(get_args(SubjectKind))
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Facts:
    """What rows say, each read once however many rules ask."""

    def __init__(self, batch: Batch, reading: Reading) -> None:
        self._batch = batch
        self._reading = reading
        self._data: dict[int, dict[str, object]] = {}
        self._flat: dict[int, dict[str, object]] = {}

    def data(self, row: int) -> dict[str, object]:
        """The fields of an accepted row."""
        found = self._data.get(row)
        if found is None:
            i = int(self._reading.accepted[row])
            at = int(self._reading.rows.time[row])
            found = self._data[row] = _fields(self._batch.values[i], self._reading.kept[i], at)
        return found

    def flat(self, row: int) -> dict[str, object]:
        """The facts that its conditions find."""
        found = self._flat.get(row)
        if found is None:
            event = self._reading.kept[int(self._reading.accepted[row])]
            at = int(self._reading.rows.time[row])
            found = flatten({**self.data(row), "tenant": event.tenant, "product": event.product, "at": at})
            self._flat[row] = found
        return found


def _fields(value: bytes | None, event: Any, at: int) -> dict[str, object]:
    """The event's own fields, unknown ones too; of a CloudEvent those of its data.

    Where an unknown one cannot be read, only those that are known: the row counts, so its rules must not miss it.
    """
    try:
        said = _decode(value or b"{}")
    except ValueError:
        said = {name: getattr(event, name) for name in event.__struct_fields__ if getattr(event, name) is not None}
        said.pop("properties", None)
    inner = said.get("data")
    if event.source and isinstance(inner, dict) and "specversion" in said:
        said = inner
    return {**said, "id": event.id, "type": event.type, "occurred_at": at}


def subject_of(event: Any, kind: str) -> str | None:
    """The subject of that kind that the event is about; None where it is about none."""
    name = {"product": event.product}.get(kind) or getattr(event, kind, None)
    if not name and (name := getattr(event, "subject", None)):
        named, _, rest = name.partition(":")
        if named in _KINDS and rest:
            name = rest if named == kind else None
    return subject(kind, name) if name else None  # type: ignore[arg-type]

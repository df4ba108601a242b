"""Rows: the durable queue of one partition. A delivery waits as a row of state, never as a sleeping task."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import msgspec

from core.delivery.accounts import Ended
from core.task import StateRecord

_COUNTERS = b"counters"
_ROW = b"row|"


class Row(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One delivery that waits. All times in milliseconds."""

    id: str
    lane: str
    rank: int
    integration: str
    tenant: str
    rule: str
    due: int
    arrived: int
    expires_at: int
    attempts: int = 0
    """Made so far."""
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    """The delivery as it was read."""
    headers: tuple[tuple[str, bytes], ...] = ()
    """Its record's own, so that it dies with them: among them how often it was sent again."""

    @property
    def origin(self) -> str:
        """`topic/partition/offset`: the same delivery read from another place is another try."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Rows:
    """Rows by delivery id, and what changed of them since the last drain."""

    def __init__(self) -> None:
        self.accounts = Ended()
        self._rows: dict[str, Row] = {}
        self._stored: set[str] = set()
        self._dirty: set[str] = set()
        self._counted = False
        self._expiries: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def get(self, id_: str) -> Row | None:
        """The row, while it waits."""
        return self._rows.get(id_)

    def add(self, row: Row) -> None:
        """A delivery begins to wait."""
        self._rows[row.id] = row
        self._dirty.add(row.id)
        heapq.heappush(self._expiries, (row.expires_at, row.id))

    def changed(self, row: Row) -> None:
        """Its attempts or its due time changed."""
        self._dirty.add(row.id)

    def remove(self, row: Row) -> None:
        """It waits no longer."""
        del self._rows[row.id]
        self._dirty.add(row.id)

    def count(self) -> Ended:
        """The accounts, to be changed."""
        self._counted = True
        return self.accounts

    def expired(self, now: int) -> Iterator[Row]:
        """Rows whose command nobody should act on any more; each is named once."""
        while self._expiries and self._expiries[0][0] <= now:
            at, id_ = heapq.heappop(self._expiries)
            row = self._rows.get(id_)
            if row is not None and row.expires_at == at:
                yield row

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one record of the state topic; a later one replaces an earlier one."""
        if key == _COUNTERS and value is not None:
            self.accounts = msgspec.json.decode(value, type=Ended)
        elif key.startswith(_ROW):
            id_ = key[len(_ROW) :].decode()
            if value is None:
                self._rows.pop(id_, None)
                self._stored.discard(id_)
            else:
                self._rows[id_] = msgspec.msgpack.decode(value, type=Row)
                self._stored.add(id_)

    def loaded(self) -> None:
        """Index what was loaded."""
        self._expiries = [(row.expires_at, row.id) for row in self._rows.values()]
        heapq.heapify(self._expiries)

    def drain(self) -> list[StateRecord]:
        """Rows that are new, changed or gone; one that came and went in between was never there."""
        records: list[StateRecord] = []
        for id_ in self._dirty:
            row = self._rows.get(id_)
            if row is not None:
                records.append((_ROW + id_.encode(), msgspec.msgpack.encode(row)))
                self._stored.add(id_)
            elif id_ in self._stored:
                records.append((_ROW + id_.encode(), None))
                self._stored.discard(id_)
        self._dirty.clear()
        if self._counted:
            records.append((_COUNTERS, msgspec.json.encode(self.accounts)))
            self._counted = False
        return records

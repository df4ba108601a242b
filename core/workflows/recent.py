"""Named events of each subject, as long as some wait looks back at them from before its run. Rows `recent` of a desk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from core.workflows.jobs import Event

MAX_RECENT: Final = 32
"""Events of one subject that a wait can look back at from before the run."""
_LATE_MS: Final = 3_600_000
"""How late a trigger may come and still find what was there before it."""
Who = tuple[str, str]
"""tenant, subject."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Event]).decode


class Recent:
    """Of one desk. `changed`: names of rows that a checkpoint has to write."""

    def __init__(self, changed: set[tuple[str, ...]]) -> None:
        self._changed = changed
        self._of: dict[Who, bytes] = {}
        """Oldest event first, packed; subjects in order of their last one."""
        self._eldest: tuple[Who, bytes, int] | None = None
        """Of the subject that may go first, when its last event occurred."""

    def add(self, who: Who, event: Event) -> None:
        """One more; the oldest beyond `MAX_RECENT` goes."""
        known = self._of.pop(who, None)
        events = [event] if known is None else sorted([*_decode(known), event], key=lambda e: e.at)
        self._of[who] = _encode(events[-MAX_RECENT:])
        self._changed.add(("recent", *who))

    def between(self, who: Who, since: int, until: int) -> list[Event]:
        """Those that occurred then, both ends included, oldest first."""
        known = self._of.get(who)
        return [] if known is None else [e for e in _decode(known) if since <= e.at <= until]

    def take_away(self, who: Who) -> bytes | None:
        """The subject's events, packed, which are no longer here."""
        self._changed.add(("recent", *who))
        return self._of.pop(who, None)

    def age(self, clock: int, look_back_ms: Callable[[str], int]) -> None:
        """Let go of subjects whose last event no wait of their tenant looks back at any more."""
        while self._of:
            who, known = next(iter(self._of.items()))
            if self._eldest is None or self._eldest[0] != who or self._eldest[1] is not known:
                self._eldest = (who, known, _decode(known)[-1].at)
            if self._eldest[2] >= clock - look_back_ms(who[0]) - _LATE_MS:
                return
            del self._of[who]
            self._changed.add(("recent", *who))

    def forget(self, holds: Callable[[str, str], bool]) -> int:
        """Forget subjects; how many went."""
        gone = [who for who in self._of if holds(*who)]
        for who in gone:
            del self._of[who]
            self._changed.add(("recent", *who))
        return len(gone)

    def row(self, who: Who) -> bytes | None:
        """A subject's events as a state row."""
        return self._of.get(who)

    def load(self, who: Who, value: bytes | None) -> None:
        """Take a row back; None: it is deleted after all. Raises `msgspec.MsgspecError` where it holds no events."""
        if value is None:
            self._of.pop(who, None)
            return
        _decode(value)
        self._of[who] = value

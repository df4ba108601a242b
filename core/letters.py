"""Dead letters, read back: what each one says, whose it is, which are asked for, and which may be sent again."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import orjson

from core.batch import Headers
from schemas.definitions import ALL_TENANTS
from schemas.delivery import CHECKPOINT_HEADER, CUT_HEADER, DEAD_LETTER_HEADERS, REPLAYS_HEADER
from schemas.envelope import TENANT_PATTERN
from schemas.topics import BY_NAME

_TENANT: Final = re.compile(TENANT_PATTERN)
_OURS: Final = frozenset((*DEAD_LETTER_HEADERS, CUT_HEADER, CHECKPOINT_HEADER))

Refusal = Literal[
    "redriven_before", "most_replays", "no_row", "cut_off", "compacted", "unknown_topic", "unknown_partition"
]
"""Why a letter is not sent again: it was already; its record was often enough; it is no row (a stored batch that cannot be
read, or nothing at all); its bytes are not all there; an old row would take a newer one's place; its origin is unknown."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter: the original row, where it stood, and why it was set aside."""

    partition: int
    """Where the letter itself stands in `dead-letters`."""
    offset: int
    step: str
    reason: str
    detail: str
    topic: str
    """The origin's, without the settings' prefix."""
    origin_partition: int
    origin_offset: int
    group: str
    replays: int
    """How often its record was sent again before it died here."""
    at: int
    tenant: str | None
    """None: it cannot be known."""
    event: str | None
    """The `id` of a JSON row."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    """The original row's own."""
    cut: bool
    """The value was too large to be kept whole."""

    @property
    def id(self) -> str:
        """What names it, also in the read model: where the row stood, who refused it, and after how many replays."""
        return f"{self.topic}:{self.origin_partition}:{self.origin_offset}:{self.step}:{self.replays}"

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset in `dead-letters`."""
        return self.partition, self.offset


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; None: any. Times are those of the rows (`uptake-at`), `since <= at < until`."""

    reason: str | None = None
    step: str | None = None
    tenant: str | None = None
    topic: str | None = None
    since: int | None = None
    until: int | None = None

    def takes(self, letter: Letter) -> bool:
        """Whether the letter is meant. A letter of an unknown tenant is no tenant's."""
        return (
            self.reason in (None, letter.reason)
            and self.step in (None, letter.step)
            and self.tenant in (None, letter.tenant)
            and self.topic in (None, letter.topic)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
        )


def read_letter(
    key: bytes | None, value: bytes | None, headers: Headers, timestamp: int, partition: int = -1, offset: int = -1
) -> Letter:
    """A record of `dead-letters`. Never raises: what a header does not say is empty, -1 or 0, the time the record's own."""
    told = {name: text.decode(errors="replace") for name, text in headers if name in _OURS}
    body = _json(value)
    named = body.get("id")
    return Letter(
        partition=partition,
        offset=offset,
        step=told.get("uptake-step", ""),
        reason=told.get("uptake-reason", "unknown"),
        detail=told.get("uptake-detail", ""),
        topic=told.get("uptake-topic", ""),
        origin_partition=_number(told.get("uptake-partition"), -1),
        origin_offset=_number(told.get("uptake-offset"), -1),
        group=told.get("uptake-group", ""),
        replays=max(0, _number(told.get(REPLAYS_HEADER), 0)),
        at=_number(told.get("uptake-at"), timestamp),
        tenant=tenant_of(key, body.get("tenant")),
        event=named if isinstance(named, str) else None,
        key=key,
        value=value,
        headers=tuple((name, text) for name, text in headers if name not in _OURS),
        cut=CUT_HEADER in told,
    )


def tenant_of(key: bytes | None, said: object) -> str | None:
    """Whose row it is: its key's tenant, unless the row itself names another one. None: nobody can say, so only
    keys of all tenants see it. Under a key for all tenants (a shared connection's) the row alone says it.
    """
    name, bar, _ = (key or b"").partition(b"|")
    text = name.decode(errors="replace")
    if not bar or not _TENANT.fullmatch(text):
        return None
    named = said if isinstance(said, str) and _TENANT.fullmatch(said) else None
    if text == ALL_TENANTS:
        return named
    return text if said is None or named == text else None


def refusal(
    letter: Letter, *, most: int, redriven: Callable[[Letter], bool], partitions: Callable[[str], int]
) -> Refusal | None:
    """Why this letter is not sent again, or None where it may be. `partitions`: of a topic without prefix, 0 for none."""
    if redriven(letter):
        return "redriven_before"
    if letter.replays >= most:
        return "most_replays"
    if letter.step == "transport" or (letter.value is None and not letter.key):
        return "no_row"
    if letter.cut:
        return "cut_off"
    spec = BY_NAME.get(letter.topic)
    if spec is not None and "compact" in spec.cleanup:
        return "compacted"
    count = partitions(letter.topic)
    if not count:
        return "unknown_topic"
    return None if 0 <= letter.origin_partition < count else "unknown_partition"


def replay_headers(letter: Letter) -> list[tuple[str, bytes]]:
    """The original row's headers, and how often it has now been sent again."""
    return [*letter.headers, (REPLAYS_HEADER, str(letter.replays + 1).encode())]


def _json(value: bytes | None) -> dict[str, object]:
    try:
        body = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _number(text: str | None, default: int) -> int:
    try:
        return default if text is None else int(text)
    except ValueError:
        return default

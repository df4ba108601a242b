"""Names whose runs have gone to another name, and names that wait for runs to come. Rows `gone`, `held`, `taken` and `early` of a
desk.

An alias is told to the partitions of both names. The former name's hands over what it has and from then on sends on whatever is
told to it. The other one's keeps what it is told until all of that has come, and takes it then, in its order: so what becomes of it
does not depend on when the handover comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from schemas.envelope import SubjectKind
from schemas.registers import Signal

Who = tuple[str, str]
"""tenant, subject."""
ALIASED: Final = "contact.aliased"
TOPIC: Final = "events.contacts"
FORMER, KNOWN = "former", "known"
KINDS: Final[tuple[SubjectKind, ...]] = ("user", "contact")
"""Subjects of these kinds are aliased; the event speaks of both."""
ROWS: Final = frozenset(("gone", "held", "taken", "early"))
MOST_WORDS: Final = 1_000
"""What one name is told while it waits; then it waits no longer."""
PATIENCE_MS: Final = 600_000
"""So long a name waits for what another partition has to hand over, should nobody there do so."""
DAY_MS: Final = 86_400_000
KEPT_MS: Final = 90 * DAY_MS
"""So long a former name's words are sent on; then it is a name as any other."""


class Word(msgspec.Struct, frozen=True):
    """A record that speaks of a subject, kept or passed on as it came."""

    topic: str
    value: str
    stamp: int
    """The broker's time of the record."""
    path: list[str] = []
    """Former names that it has come by, the one that it names first."""


class Held(msgspec.Struct, array_like=True):
    """What a name waits for, and what it was told meanwhile."""

    awaited: dict[str, int]
    """Alias → the broker's time at which it was told."""
    words: list[Word]


_encode = msgspec.msgpack.Encoder().encode
_gone = msgspec.msgpack.Decoder(tuple[str, int]).decode
_held = msgspec.msgpack.Decoder(Held).decode
_early = msgspec.msgpack.Decoder(dict[str, list[Word]]).decode
_taken = msgspec.msgpack.Decoder(dict[str, int]).decode


def side(signal: Signal) -> str | None:
    """Which side of an alias the signal tells its subject that it is on; None: it tells no such thing.

    One that was sent on from another name is told to the known side, whatever it says.
    """
    if signal.kind != "event" or signal.topic != TOPIC or signal.data.get("type") != ALIASED:
        return None
    kind, _, name = signal.subject.partition(":")
    former, known = signal.data.get("former"), signal.data.get("contact")
    if kind not in KINDS or not former or not known or former == known:
        return None
    return FORMER if name == former else KNOWN if name == known else None


def known_as(signal: Signal) -> str:
    """The subject that the former side's is from now on."""
    return f"{signal.subject.partition(':')[0]}:{signal.data.get('contact')}"


class Aliases:
    """Of one desk. `changed`: names of rows that a checkpoint has to write."""

    def __init__(self, changed: set[tuple[str, ...]]) -> None:
        self._changed = changed
        self._gone: dict[Who, tuple[str, int]] = {}
        """Where to, and since when."""
        self._held: dict[Who, Held] = {}
        self._taken: dict[Who, dict[str, int]] = {}
        """Alias → when."""
        self._early: dict[Who, dict[str, list[Word]]] = {}
        """Alias → rows of its handover, which came before the name was told of it in its order."""
        self._tenants: set[str] = set()
        self._since: dict[Who, int] = {}
        self._aged = 0

    def concerns(self, tenant: str) -> bool:
        """Whether a name of the tenant's in this partition was ever aliased."""
        return tenant in self._tenants

    # --- who has gone ----------------------------------------------------------------------------------------------

    def gone(self, tenant: str, subject: str) -> str | None:
        """Where the subject's runs are; None: here."""
        found = self._gone.get((tenant, subject))
        return None if found is None else found[0]

    def go(self, tenant: str, subject: str, to: str, at: int) -> None:
        """From `at` (event time) on they are there."""
        self._gone[tenant, subject] = (to, at)
        self._note("gone", tenant, subject)

    def stays(self, tenant: str, subject: str, path: list[str]) -> bool:
        """Whether something that has come by these names stays here, for they are aliases of each other: then the first of them, in
        order of the alphabet, goes nowhere.
        """
        if subject not in path:
            return False
        circle = path[len(path) - 1 - path[::-1].index(subject) :]
        if subject != min(circle) or circle[1:2] != [self.gone(tenant, subject)]:
            return False
        del self._gone[tenant, subject]
        self._note("gone", tenant, subject)
        return True

    @property
    def waiting(self) -> bool:
        """Whether anybody waits."""
        return bool(self._held)

    # --- who waits --------------------------------------------------------------------------------------------------

    def waits(self, tenant: str, subject: str) -> bool:
        """Whether the subject waits for runs of another name."""
        return (tenant, subject) in self._held

    def wait(self, tenant: str, subject: str, cause: str, stamp: int) -> bool:
        """Wait for what this alias brings; False where it has come already."""
        if cause in self._taken.get((tenant, subject), {}):
            return False
        self._held.setdefault((tenant, subject), Held({}, [])).awaited[cause] = stamp
        self._note("held", tenant, subject)
        return True

    def keep(self, tenant: str, subject: str, word: Word) -> bool:
        """Keep the word for later; False where that is one too many."""
        held = self._held[tenant, subject]
        held.words.append(word)
        self._note("held", tenant, subject)
        return len(held.words) < MOST_WORDS

    def early(self, tenant: str, subject: str, cause: str, word: Word) -> bool:
        """Put a row of a handover aside, where the subject still waits for others only; whether it does."""
        held = self._held.get((tenant, subject))
        if held is None or cause in held.awaited:
            return False
        self._early.setdefault((tenant, subject), {}).setdefault(cause, []).append(word)
        self._note("early", tenant, subject)
        return True

    def aside(self, tenant: str, subject: str, cause: str | None = None) -> list[Word]:
        """What was put aside of this alias, or of any, which is no longer here."""
        of = self._early.get((tenant, subject), {})
        words = [word for name in ([*of] if cause is None else [cause]) for word in of.pop(name, ())]
        if words:
            self._note("early", tenant, subject)
        if not of:
            self._early.pop((tenant, subject), None)
        return words

    def took(self, tenant: str, subject: str, cause: str, at: int) -> bool:
        """All that this alias of `at` brings has come; whether the subject waits for nothing else, and did wait."""
        self._taken.setdefault((tenant, subject), {})[cause] = at
        self._note("taken", tenant, subject)
        held = self._held.get((tenant, subject))
        if held is None or held.awaited.pop(cause, None) is None:
            return False
        self._note("held", tenant, subject)
        return not held.awaited

    def release(self, tenant: str, subject: str) -> list[Word]:
        """It waits no longer; what it was told meanwhile, in order."""
        held = self._held.pop((tenant, subject))
        for cause, stamp in held.awaited.items():
            self.took(tenant, subject, cause, stamp)
        self._note("held", tenant, subject)
        return held.words

    def overdue(self, now: int, patience_ms: int) -> list[Who]:
        """Who waits for so long by now, from when this was first asked while it waited: a worker that was away is not late by that."""
        self._since = {who: self._since.get(who, now) for who in self._held}
        return sorted(who for who, since in self._since.items() if now >= since + patience_ms)

    def age(self, clock: int) -> None:
        """Let go of what nobody needs by this event time. Looked at once a day of it."""
        if clock < self._aged + DAY_MS:
            return
        self._aged = clock
        old = [("gone", *w) for w, (_, at) in self._gone.items() if at < clock - KEPT_MS]
        old += [("taken", *w) for w, of in self._taken.items() if max(of.values()) < clock - DAY_MS]
        for row, tenant, subject in old:
            self._of(row).pop((tenant, subject), None)
            self._changed.add((row, tenant, subject))

    # --- rows -------------------------------------------------------------------------------------------------------

    def forget(self, holds: Callable[[str, str], bool]) -> int:
        """Forget subjects, and where they went; how many rows went."""
        rows = [("gone", *w) for w, (to, _) in self._gone.items() if holds(*w) or holds(w[0], to)]
        for name, known in (("held", self._held), ("taken", self._taken), ("early", self._early)):
            rows += [(name, *w) for w in known if holds(*w)]
        for row, tenant, subject in rows:
            self.load((row, tenant, subject), None)
            self._changed.add((row, tenant, subject))
        return len(rows)

    def row(self, row: tuple[str, ...]) -> bytes | None:
        """A row of the state; None: it is gone."""
        name, tenant, subject = row
        found = self._of(name).get((tenant, subject))
        return None if found is None else _encode(found)

    def load(self, row: tuple[str, ...], value: bytes | None) -> None:
        """Take a row back; None: it is deleted after all. Raises `msgspec.MsgspecError` where it is none."""
        name, tenant, subject = row
        who = (tenant, subject)
        if value is None:
            self._of(name).pop(who, None)
            return
        self._tenants.add(tenant)
        if name == "early":
            self._early[who] = _early(value)
        elif name == "gone":
            self._gone[who] = _gone(value)
        elif name == "held":
            self._held[who] = _held(value)
        else:
            self._taken[who] = _taken(value)

    def _of(self, row: str) -> dict[Who, Any]:
        rows: dict[str, dict[Who, Any]]
        rows = {"gone": self._gone, "held": self._held, "taken": self._taken, "early": self._early}
        return rows[row]

    def _note(self, row: str, tenant: str, subject: str) -> None:
        self._tenants.add(tenant)
        self._changed.add((row, tenant, subject))

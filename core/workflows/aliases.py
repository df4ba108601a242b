"""Names whose runs have gone to another name, and names that wait for runs to come. Rows `gone`, `held` and `taken` of a desk.

An alias is told to the partitions of both names. The former name's hands over what it has and from then on sends on whatever is
told to it. The other one's keeps what it is told until all of that has come, and takes it then, in its order: so what becomes of it
does not depend on when the handover comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

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
ROWS: Final = frozenset(("gone", "held", "taken"))
MOST_WORDS: Final = 1_000
"""What one name is told while it waits; then it waits no longer."""
PATIENCE_MS: Final = 600_000
"""Of the broker's time: so long a name waits for what another partition has to hand over, should nobody there do so."""
_MOST_TAKEN: Final = 16


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
_gone = msgspec.msgpack.Decoder(str).decode
_held = msgspec.msgpack.Decoder(Held).decode
_taken = msgspec.msgpack.Decoder(list[str]).decode


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
        self._gone: dict[Who, str] = {}
        self._held: dict[Who, Held] = {}
        self._taken: dict[Who, list[str]] = {}
        self._tenants: set[str] = set()

    def concerns(self, tenant: str) -> bool:
        """Whether a name of the tenant's in this partition was ever aliased."""
        return tenant in self._tenants

    # --- who has gone ----------------------------------------------------------------------------------------------

    def gone(self, tenant: str, subject: str) -> str | None:
        """Where the subject's runs are; None: here."""
        return self._gone.get((tenant, subject))

    def go(self, tenant: str, subject: str, to: str) -> None:
        """From now on they are there."""
        self._gone[tenant, subject] = to
        self._note("gone", tenant, subject)

    def stays(self, tenant: str, subject: str, path: list[str]) -> bool:
        """Whether something that has come by these names stays here, for they are aliases of each other: then the first of them, in
        order of the alphabet, goes nowhere.
        """
        if subject not in path or subject != min(path[path.index(subject) :]):
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
        if cause in self._taken.get((tenant, subject), ()):
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

    def took(self, tenant: str, subject: str, cause: str) -> bool:
        """All that this alias brings has come; whether the subject waits for nothing else, and did wait."""
        taken = [c for c in self._taken.get((tenant, subject), ()) if c != cause]
        self._taken[tenant, subject] = [*taken, cause][-_MOST_TAKEN:]
        self._note("taken", tenant, subject)
        held = self._held.get((tenant, subject))
        if held is None or held.awaited.pop(cause, None) is None:
            return False
        self._note("held", tenant, subject)
        return not held.awaited

    def release(self, tenant: str, subject: str) -> list[Word]:
        """It waits no longer; what it was told meanwhile, in order."""
        held = self._held.pop((tenant, subject))
        for cause in held.awaited:
            self.took(tenant, subject, cause)
        self._note("held", tenant, subject)
        return held.words

    def overdue(self, now: int) -> list[Who]:
        """Who has waited too long by the broker's time `now`."""
        return sorted(w for w, held in self._held.items() if now >= min(held.awaited.values(), default=0) + PATIENCE_MS)

    # --- rows -------------------------------------------------------------------------------------------------------

    def forget(self, holds: Callable[[str, str], bool]) -> int:
        """Forget subjects, and where they went; how many rows went."""
        rows = [("gone", *w) for w, to in self._gone.items() if holds(*w) or holds(w[0], to)]
        rows += [("held", *w) for w in self._held if holds(*w)] + [("taken", *w) for w in self._taken if holds(*w)]
        for row, tenant, subject in rows:
            self.load((row, tenant, subject), None)
            self._changed.add((row, tenant, subject))
        return len(rows)

    def row(self, row: tuple[str, ...]) -> bytes | None:
        """A row of the state; None: it is gone."""
        name, tenant, subject = row
        who = (tenant, subject)
        found: object = self._gone.get(who) if name == "gone" else None
        if name != "gone":
            found = self._held.get(who) if name == "held" else self._taken.get(who)
        return None if found is None else _encode(found)

    def load(self, row: tuple[str, ...], value: bytes | None) -> None:
        """Take a row back; None: it is deleted after all. Raises `msgspec.MsgspecError` where it is none."""
        name, tenant, subject = row
        who = (tenant, subject)
        if value is None:
            for row_, of in (("gone", self._gone), ("held", self._held), ("taken", self._taken)):
                if row_ == name:
                    of.pop(who, None)
            return
        self._tenants.add(tenant)
        if name == "gone":
            self._gone[who] = _gone(value)
        elif name == "held":
            self._held[who] = _held(value)
        else:
            self._taken[who] = _taken(value)

    def _note(self, row: str, tenant: str, subject: str) -> None:
        self._tenants.add(tenant)
        self._changed.add((row, tenant, subject))

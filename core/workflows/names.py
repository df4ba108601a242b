"""Which name's desk a word to ORCHESTRATE is for: taken here, kept until another name's runs have come, or sent on to another name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from core.effects import Count, Effect, Emit
from core.workflows.aliases import FORMER, KNOWN, Word, known_as, side
from core.workflows.desk import Desk
from core.workflows.handover import END, Row, arrive, leave
from core.workflows.happened import Came
from schemas.envelope import key as topic_key
from schemas.registers import Signal

FORWARD, HANDOVER = "forward", "handover"
_TOPIC: Final = "signals"
_encode = msgspec.json.Encoder().encode


class _Part(msgspec.Struct):
    """`data` of a signal of kind `handover`: a row of what another name had."""

    former: str
    row: list[str]
    value: bytes
    path: list[str]
    """Names that it has come by, the former one first."""


class Names:
    """Of one desk. `take`: takes a word that is for the subject of this name; `says`: tells the profile of a signal's subject."""

    def __init__(
        self,
        desk: Desk,
        forgotten: Callable[[str, str], bool],
        take: Callable[[Word, str], list[Came]],
        says: Callable[[Signal, int], None],
    ) -> None:
        self._desk, self._aliases = desk, desk.aliases
        self._forgotten, self._take, self._says = forgotten, take, says
        self._effects: list[Effect] = []

    def drain(self) -> list[Effect]:
        """What is to be sent or counted, since the last call."""
        effects, self._effects = self._effects, []
        return effects

    # --- what is told -----------------------------------------------------------------------------------------------

    def signal(self, signal: Signal, word: Word) -> list[Came] | None:
        """What comes of a signal that is kept, sent on, or about names; None: it is to be taken here, as any other.

        `word`: the signal as it came.
        """
        tenant, subject = signal.tenant, signal.subject
        found = KNOWN if word.path and side(signal) else side(signal)
        if found is None and not self._aliases.concerns(tenant):
            return None
        if self._aliases.waits(tenant, subject):
            return self._keep(tenant, subject, word)
        if found == FORMER:
            return self._leave(signal, word.stamp)
        if self._elsewhere(tenant, subject, word.path):
            return self._send_on(signal, word, found)
        if found == KNOWN and self._aliases.wait(tenant, subject, signal.cause, word.stamp):
            came = self._keep(tenant, subject, word)
            return came + self._taken(subject, self._aliases.aside(tenant, subject, signal.cause))
        return None

    def word(
        self, tenant: str, subject: str, topic: str, value: bytes, stamp: int, path: Sequence[str]
    ) -> list[Came] | None:
        """The same, of a record of another topic. `stamp`, `path`: as of a word."""
        if not self._aliases.concerns(tenant):
            return None
        word = Word(topic, value.decode(), stamp, list(path))
        if self._aliases.waits(tenant, subject):
            return self._keep(tenant, subject, word)
        if not self._elsewhere(tenant, subject, word.path):
            return None
        self._forward(tenant, subject, word)
        return []

    def forwarded(self, signal: Signal) -> list[Came]:
        """A word comes from a former name of the subject's. Raises `msgspec.MsgspecError` or `ValueError` where it is none."""
        word = msgspec.convert(signal.data, Word)
        if any(self._forgotten(signal.tenant, name) for name in word.path):
            return []
        return self._take(word, signal.subject)

    def handed_over(self, signal: Signal, word: Word) -> list[Came]:
        """A row comes from a former name of the subject's. Raises `msgspec.MsgspecError` or `ValueError` where it is none."""
        part, tenant, subject = msgspec.convert(signal.data, _Part), signal.tenant, signal.subject
        if self._elsewhere(tenant, subject, part.path):
            part.path.append(subject)
            self._send(signal, self._to(tenant, subject), HANDOVER, part)
            return []
        if self._aliases.early(tenant, subject, signal.cause, word):
            return []
        if part.row == END[0]:
            return (
                self._released(tenant, subject) if self._aliases.took(tenant, subject, signal.cause, signal.at) else []
            )
        if self._forgotten(tenant, part.former):
            return []
        came = (part.former, part.row, part.value, signal.at, signal.cause)
        return arrive(self._desk, tenant, subject, *came, word.stamp)

    def forgotten(self, signal: Signal) -> None:
        """The signal's subject is forgotten: of such a former name nothing is handed over, and who waits for it is told so."""
        if side(signal) == FORMER:
            self._hand_over(signal, [END])

    def overdue(self, now: int, patience_ms: int) -> list[Came]:
        """Names that have waited for longer than that take what they were told."""
        came: list[Came] = []
        for who in self._aliases.overdue(now, patience_ms):
            self._effects.append(Count("uptake_runs_refused_total", 1, ("not_handed_over",)))
            came += self._released(*who)
        return came

    # --- inside -----------------------------------------------------------------------------------------------------

    def _leave(self, signal: Signal, now: int) -> list[Came]:
        came, rows = leave(self._desk, signal.tenant, signal.subject, signal.at, now)
        self._aliases.go(signal.tenant, signal.subject, known_as(signal), signal.at)
        self._hand_over(signal, rows)
        self._says(signal, now)
        return came

    def _keep(self, tenant: str, subject: str, word: Word) -> list[Came]:
        return [] if self._aliases.keep(tenant, subject, word) else self._released(tenant, subject)

    def _released(self, tenant: str, subject: str) -> list[Came]:
        words = self._aliases.release(tenant, subject)
        self._desk.wind(tenant, subject)
        came = self._taken(subject, words)
        if not self._aliases.waits(tenant, subject):
            came += self._taken(subject, self._aliases.aside(tenant, subject))
        return came

    def _taken(self, subject: str, words: list[Word]) -> list[Came]:
        came: list[Came] = []
        for word in words:
            try:
                came += self._take(word, subject)
            except (msgspec.MsgspecError, ValueError):
                # It was no dead letter when it was kept: what follows must not be lost with it.
                self._effects.append(Count("uptake_runs_refused_total", 1, ("invalid",)))
        return came

    def _elsewhere(self, tenant: str, subject: str, path: list[str]) -> bool:
        """Whether the subject's runs are at another name. Names that are aliases of each other agree on one of them."""
        return self._aliases.gone(tenant, subject) is not None and not self._aliases.stays(tenant, subject, path)

    def _send_on(self, signal: Signal, word: Word, found: str | None) -> list[Came] | None:
        """What runs wait for; what is said of the very name stays with it."""
        if signal.kind == "merge":
            return None
        if signal.kind == "segment":
            self._effects.append(Count("uptake_runs_refused_total", 1, ("aliased",)))
            return []
        if signal.kind != "event" or signal.workflows or found:
            self._forward(signal.tenant, signal.subject, word)
        if signal.kind == "event" and not word.path:
            self._says(signal, word.stamp)
        return []

    def _to(self, tenant: str, subject: str) -> str:
        return self._aliases.gone(tenant, subject) or subject

    def _forward(self, tenant: str, subject: str, word: Word) -> None:
        sent = msgspec.structs.replace(word, path=[*word.path, subject])
        signal = Signal(
            tenant=tenant, product="", subject=subject, kind=FORWARD, cause=FORWARD, rules=[], at=word.stamp, data={}
        )
        self._send(signal, self._to(tenant, subject), FORWARD, sent)

    def _hand_over(self, signal: Signal, rows: list[Row]) -> None:
        for row, value in rows:
            self._send(signal, known_as(signal), HANDOVER, _Part(signal.subject, row, value, [signal.subject]))

    def _send(self, signal: Signal, to: str, kind: str, data: Any) -> None:
        sent = Signal(
            tenant=signal.tenant,
            product=signal.product,
            subject=to,
            kind=kind,
            cause=signal.cause,
            rules=[],
            at=signal.at,
            data=msgspec.to_builtins(data),
        )
        self._effects.append(Emit(_TOPIC, topic_key(signal.tenant, to), _encode(sent)))

"""What subjects did, for the rules that remember it: rows wait until event time has passed them, then count in order of time.

    row  a row that waits        memory  what a rule remembers of a subject        watermark  of a product
    fired  a firing that a late row may undo

Rows and deadlines of a product are worked off in one order (time, rows before deadlines, subject, cause), however the log was cut and
however often event time was told; so the same rows give the same firings. METER says which rows come too late, by what their own
partition had told until then: they are counted, and what they undo is undone at the event time at which they came.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
import xxhash

from core.decide.packing import encode, key
from core.room import Room
from core.rules.patterns import Entry, Firing, Seen, advance, wake
from core.rules.waiting import remembers
from core.task import StateRecord
from schemas.definitions import OnAbsence, OnInactivity, Rule

MAX_WAITING: Final = 500_000
"""Rows that wait, and (apart from these) subjects that rules remember, in one partition: of all tenants together, so that memory has
a bound. A tenant that holds little is let in beyond it (`core.room`): another's flood must not make it forget.
"""
MAX_DATA_BYTES: Final = 8_192
"""Of one event's fields; of a larger one only what stands at its top is kept."""
_size = msgspec.json.Encoder().encode
Product = tuple[str, str]
Place = tuple[str, str, str, str]
"""tenant, product, subject, rule."""
Due = tuple[int, int, str, str]
"""(time, what, subject, cause or rule)."""
_ROW, _DEADLINE, _LATE = range(3)
"""What stands in a queue, in this order at one time."""


class Waiting(NamedTuple):
    """A row that waits: for which rules, and as which of their steps."""

    seen: Seen
    rules: dict[str, list[int]]
    late: int = 0
    """Event time at which it came, where that was too late."""


class Fired(NamedTuple):
    """A rule fires for a subject."""

    rule: Rule
    subject: str
    firing: Firing


class Undone(NamedTuple):
    """A row that came too late (`cause`) undoes a firing."""

    rule: Rule
    subject: str
    firing: Firing
    cause: str


LATE_MS: Final = 600_000
"""How long after a firing (event time) a late row may undo it."""


class Memories:
    """All that one partition of `signals` remembers. `rule_of`: the rule of that name in force for a tenant."""

    def __init__(self, rule_of: Callable[[str, str], Rule | None]) -> None:
        self._rule_of = rule_of
        self._rows: Room[Place, Waiting] = Room()
        self._entries: Room[Place, Entry] = Room()
        self._signatures: dict[tuple[str, str, int], str] = {}
        self._signed: dict[Place, str] = {}
        self._watermarks: dict[Product, int] = {}
        self._queues: defaultdict[Product, list[Due]] = defaultdict(list)
        self._queued: dict[Place, int] = {}
        """The next time in the queue at which a subject is looked at, so that it stands there once: at its deadline, or before."""
        self._changed: set[tuple[str, ...]] = set()
        self._fired: dict[Place, Firing] = {}
        """Firings that led to commands and that late rows may undo."""

    def commanded(self, tenant: str, product: str, found: Fired) -> None:
        """What fired led to a command of a rule that minds late data."""
        place = (tenant, product, found.subject, found.rule.name)
        self._fired[place] = found.firing
        self._changed.add(("fired", *place))

    def add(
        self, tenant: str, product: str, subject: str, seen: Seen, rules: dict[str, list[int]], late: int = 0
    ) -> str | None:
        """A row comes; why it is not taken, where it is not: `late` or `full`. `late`: when it came (event time), if too late."""
        watermark = self._watermarks.get((tenant, product), 0)
        if late or seen.at < watermark:
            late = max(late, watermark)
            rules = {name: steps for name, steps in rules.items() if self._minds(tenant, name)}
            if not rules:
                return "late"
        if not self._rows.open_to(tenant, MAX_WAITING):
            return "full"
        place = (tenant, product, subject, seen.cause)
        small = _small(seen.data)
        self._rows[place] = Waiting(seen if small is seen.data else seen._replace(data=small), rules, late)
        self._changed.add(("row", *place))
        self._wait(place, self._rows[place])
        return "late" if late else None

    def tell(self, tenant: str, product: str, watermark: int) -> Iterator[Fired | Undone | str]:
        """Event time of the product moves on: what fires, in order; a text is the reason why something was let go."""
        if watermark <= self._watermarks.get((tenant, product), 0):
            return
        self._watermarks[tenant, product] = watermark
        self._changed.add(("watermark", tenant, product))
        queue = self._queues[tenant, product]
        while queue and queue[0][0] < watermark:
            at, kind, subject, name = heapq.heappop(queue)
            if kind == _ROW:
                yield from self._row((tenant, product, subject, name))
            elif kind == _DEADLINE:
                yield from self._deadline((tenant, product, subject, name), at)
            else:
                yield from self._undo((tenant, product, subject, name))
        for place in [p for p, f in self._fired.items() if p[:2] == (tenant, product) and f.at + LATE_MS < watermark]:
            del self._fired[place]
            self._changed.add(("fired", *place))

    def forget(self, holds: Callable[[str, str], bool]) -> int:
        """Forget the subjects of which `holds(tenant, subject)`; how much went."""
        rows = [place for place in self._rows if holds(place[0], place[2])]
        entries = [place for place in self._entries if holds(place[0], place[2])]
        for place in rows:
            del self._rows[place]
            self._changed.add(("row", *place))
        for place in entries:
            self._put(place, None, "")
        for place in [place for place in self._fired if holds(place[0], place[2])]:
            del self._fired[place]
            self._changed.add(("fired", *place))
        return len(rows) + len(entries)

    def watermark(self, tenant: str, product: str) -> int | None:
        """Event time of the product as it was told last."""
        return self._watermarks.get((tenant, product))

    def entry(self, tenant: str, product: str, subject: str, rule: str) -> Entry | None:
        """What is remembered of the subject for the rule, if its trigger is still the one for which it was."""
        place = (tenant, product, subject, rule)
        known = self._rule_of(tenant, rule)
        return (
            self._entries.get(place)
            if known is not None and self._signed.get(place) == self._signature(known)
            else None
        )

    # --- state --------------------------------------------------------------------------------------------------------

    def drain(self) -> list[StateRecord]:
        """Rows that changed since the last drain."""
        records: list[StateRecord] = []
        for row, *rest in sorted(self._changed):
            records.append((key(row, *rest), self._content(row, rest)))
        self._changed.clear()
        return records

    def let_go(self) -> None:
        """Instead of `drain`, where nobody writes checkpoints."""
        self._changed.clear()

    def load(self, row: str, rest: list[Any], content: Any) -> bool:
        """Take one row back; False where it is none of ours."""
        match row:
            case "row":
                tenant, product, subject, cause = rest
                seen, *more = content
                place = (tenant, product, subject, cause)
                self._rows[place] = Waiting(Seen(*seen), *more)
                self._wait(place, self._rows[place])
            case "memory":
                tenant, product, subject, rule = rest
                due, times, anchor, signature = content
                place = (tenant, product, subject, rule)
                self._entries[place] = Entry(due, times, Seen(*anchor) if anchor else None)
                self._signed[place] = signature
                self._queue(place, due)
            case "fired":
                tenant, product, subject, rule = rest
                at, seen, first_at, cause = content
                self._fired[tenant, product, subject, rule] = Firing(at, Seen(*seen), first_at, cause)
            case "watermark":
                tenant, product = rest
                self._watermarks[tenant, product] = content
            case _:
                return False
        return True

    def _content(self, row: str, rest: list[str]) -> bytes | None:
        if row == "watermark":
            tenant, product = rest
            return encode(self._watermarks[tenant, product])
        tenant, product, subject, name = rest
        if row == "row":
            waiting = self._rows.get((tenant, product, subject, name))
            return encode([list(waiting.seen), *waiting[1:]]) if waiting else None
        if row == "fired":
            firing = self._fired.get((tenant, product, subject, name))
            return encode([firing.at, list(firing.seen), firing.first_at, firing.cause]) if firing else None
        entry = self._entries.get((tenant, product, subject, name))
        if entry is None:
            return None
        anchor = list(entry.anchor) if entry.anchor else None
        return encode([entry.due, entry.times, anchor, self._signed[tenant, product, subject, name]])

    # --- work ---------------------------------------------------------------------------------------------------------

    def _minds(self, tenant: str, name: str) -> bool:
        """Whether what comes late may undo the rule's commands."""
        rule = self._rule_of(tenant, name)
        return rule is not None and rule.late != "drop"

    def _wait(self, row: Place, waiting: Waiting) -> None:
        tenant, product, subject, cause = row
        due = (waiting.late, _LATE) if waiting.late else (waiting.seen.at, _ROW)
        heapq.heappush(self._queues[tenant, product], (*due, subject, cause))

    def _undo(self, at: Place) -> Iterator[Undone]:
        """A row that came too late: the firings that would not have been, had it been there. Each is told once."""
        waiting = self._rows.pop(at, None)
        if waiting is None:
            return
        self._changed.add(("row", *at))
        (tenant, product, subject, _), seen = at, waiting.seen
        for name in sorted(waiting.rules):
            place = (tenant, product, subject, name)
            rule, firing = self._rule_of(tenant, name), self._fired.get(place)
            if rule is None or firing is None or not firing.first_at < seen.at <= firing.at:
                continue
            if firing.at + LATE_MS < waiting.late or (
                isinstance(rule.trigger, OnAbsence) and 1 not in waiting.rules[name]
            ):
                continue
            del self._fired[place]
            self._changed.add(("fired", *place))
            if isinstance(rule.trigger, OnInactivity):  # it goes on from there
                self._put(place, Entry(due=seen.at + rule.trigger.after_s * 1000, anchor=seen), self._signature(rule))
            yield Undone(rule, subject, firing, seen.cause)

    def _row(self, at: tuple[str, str, str, str]) -> Iterator[Fired | str]:
        waiting = self._rows.pop(at, None)
        if waiting is None:
            return
        self._changed.add(("row", *at))
        tenant, product, subject, _ = at
        for name in sorted(waiting.rules):
            rule = self._rule_of(tenant, name)
            trigger = remembers(rule.trigger) if rule is not None else None
            if rule is None or trigger is None:
                continue
            place, signature = (tenant, product, subject, rule.name), self._signature(rule)
            entry = self._entries.get(place) if self._signed.get(place) == signature else None
            after, firing = advance(trigger, entry, waiting.seen, waiting.rules[name])
            if after is not None and place not in self._entries and not self._entries.open_to(tenant, MAX_WAITING):
                yield "full"
            else:
                self._put(place, after, signature)
            if firing is not None:
                yield Fired(rule, subject, firing)

    def _deadline(self, place: Place, due: int) -> Iterator[Fired]:
        if self._queued.get(place) == due:
            del self._queued[place]
        entry = self._entries.get(place)
        if entry is None or entry.due < due:
            return
        if entry.due > due:  # the deadline has moved on since
            self._queue(place, entry.due)
            return
        tenant, _, subject, name = place
        rule = self._rule_of(tenant, name)
        trigger = remembers(rule.trigger) if rule is not None else None
        signed = self._signed.get(place)
        self._put(place, None, "")
        if rule is None or trigger is None or signed != self._signature(rule):
            return
        firing = wake(trigger, entry)
        if firing is not None:
            yield Fired(rule, subject, firing)

    def _put(self, place: Place, entry: Entry | None, signature: str) -> None:
        before = self._entries.get(place)
        if entry is None and before is None:
            return
        self._changed.add(("memory", *place))
        if entry is None:
            del self._entries[place]
            self._signed.pop(place, None)
            return
        self._entries[place], self._signed[place] = entry, signature
        self._queue(place, entry.due)

    def _queue(self, place: Place, due: int) -> None:
        """Look at the subject at `due`, unless it is looked at before that anyway."""
        tenant, product, subject, name = place
        if place not in self._queued or due < self._queued[place]:
            self._queued[place] = due
            heapq.heappush(self._queues[tenant, product], (due, _DEADLINE, subject, name))

    def _signature(self, rule: Rule) -> str:
        """Of the trigger: what was remembered for another one is of no use. Other changes of a rule keep its memory."""
        known = (rule.tenant, rule.name, rule.version)
        found = self._signatures.get(known)
        if found is None:
            if len(self._signatures) > 10_000:
                self._signatures.clear()
            found = self._signatures[known] = xxhash.xxh3_64_hexdigest(rule.trigger.model_dump_json().encode())
        return found


def _small(data: dict[str, Any]) -> dict[str, Any]:
    if len(_size(data)) <= MAX_DATA_BYTES:
        return data
    return {k: v for k, v in data.items() if not isinstance(v, (dict, list)) and len(str(v)) <= 256}

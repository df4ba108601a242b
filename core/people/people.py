"""The people of one partition of `signals`: what events say of them waits until event time has passed it, and counts in its order.

So whoever is judged at a time is judged by all that had happened until then, whichever topic it came by. What came too late, as METER
says, counts at the event time at which it came: the profile ends the same, but what was decided is not decided again.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from core.decide.packing import decode, encode, key
from core.definitions import Catalogue
from core.people.asked import Asked
from core.people.facts import facts_of
from core.people.profile import Profile
from core.room import Room
from core.rules.conditions import flatten, holds
from core.task import StateRecord
from schemas.definitions import Campaign, Segment
from schemas.envelope import derived_id

DAY_MS: Final = 86_400_000
MAX_PROFILES: Final = 500_000
"""Profiles, and (apart from these) rows that wait, in one partition."""
KINDS: Final = ("user", "contact", "account")
_signature = msgspec.json.Encoder().encode
Place = tuple[str, str, str]
"""tenant, product, subject."""


class Told(NamedTuple):
    """An event about a subject: it changes the profile (`word`), or rules wait to be judged on it (`rules`), or both."""

    at: int
    cause: str
    word: dict[str, Any] | None
    rules: list[str]
    signal: bytes
    """As it came, for those rules; empty where there are none."""
    broker: int
    act: bool | None = None
    """Whether METER lets it act; None in a row of before this was kept: then what is a day old may not."""
    late: int = 0
    """Event time at which it came, where that was too late."""

    @property
    def acts(self) -> bool:
        """Whether what follows from it may act."""
        return recent(self.at, self.broker) if self.act is None else self.act

    @property
    def counts(self) -> int:
        """Event time at which it counts."""
        return max(self.at, self.late)


class Judge(NamedTuple):
    """Event time has come for rules that look at the profile."""

    rules: list[str]
    signal: bytes
    broker: int


class Edge(NamedTuple):
    """A subject entered or left a live segment."""

    tenant: str
    product: str
    subject: str
    segment: str
    edge: str
    at: int
    cause: str
    broker: int
    act: bool


class Aliased(NamedTuple):
    """A subject is known by another name: what is known of it belongs there too."""

    tenant: str
    product: str
    subject: str
    known: str
    at: int
    cause: str
    row: list[Any]


Outcome = Judge | Edge | Aliased | str
"""A text is the reason why something was let go."""


def recent(at: int, broker: int) -> bool:
    """Whether what happened then may act without anybody saying so."""
    return at >= broker - DAY_MS


class People:
    """Profiles and segments of one partition."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.asked = Asked(catalogue)
        self._profiles: Room[Place, Profile] = Room()
        self._waiting: Room[tuple[str, str, str, str], Told] = Room()
        self._queues: defaultdict[tuple[str, str], list[tuple[int, str, str]]] = defaultdict(list)
        self._heard: dict[tuple[str, str], int] = {}
        self._signed: dict[tuple[str, str], str] = {}
        """Product → of which segments its profiles are in force; another one has everybody looked at again."""
        self._generation = -1
        self._segments: dict[tuple[str, str], list[Segment]] = {}
        self._campaigns: dict[tuple[str, str], dict[str, Campaign]] = {}
        self._changed: set[tuple[str, ...]] = set()

    def __len__(self) -> int:
        return len(self._profiles)

    def take(self, place: Place, told: Told) -> list[Outcome]:
        """An event comes; what comes of it at once, and that it is late."""
        tenant, product, subject = place
        if told.counts < self._heard.get((tenant, product), 0):
            return ["late", *self._apply(place, told)]
        if not self._waiting.open_to(tenant, MAX_PROFILES):
            return ["full", *self._apply(place, told)]
        row = (*place, told.cause)
        self._waiting[row] = told
        self._changed.add(("told", *row))
        heapq.heappush(self._queues[tenant, product], (told.counts, told.cause, subject))
        return ["late"] if told.late else []

    def first(self) -> tuple[int, str, str] | None:
        """When the next row counts at the earliest, and of which tenant and product; None: none waits."""
        return min(((queue[0][0], *of) for of, queue in self._queues.items() if queue), default=None)

    def products(self) -> list[tuple[str, str]]:
        """(tenant, product) of all that have profiles."""
        return sorted({(tenant, product) for tenant, product, _ in self._profiles})

    def advance(self, tenant: str, product: str, upto: int) -> Iterator[Outcome]:
        """Everything up to this time counts, in order."""
        queue = self._queues.get((tenant, product))
        while queue and queue[0][0] <= upto:
            _, cause, subject = heapq.heappop(queue)
            row = (tenant, product, subject, cause)
            told = self._waiting.pop(row, None)
            if told is not None:
                self._changed.add(("told", *row))
                yield from self._apply((tenant, product, subject), told)

    def hear(self, tenant: str, product: str, watermark: int, broker: int) -> Iterator[Outcome]:
        """No row before the watermark will come any more."""
        yield from self.advance(tenant, product, watermark - 1)
        if watermark > self._heard.get((tenant, product), 0):
            self._heard[tenant, product] = watermark
            self._changed.add(("heard", tenant, product))
        yield from self.redefined(tenant, product, watermark, broker)

    def merge(self, place: Place, row: list[Any], at: int, cause: str, broker: int) -> list[Outcome]:
        """What another name of the subject was known for is the subject's."""
        profile = self._profile(place)
        if profile is None:
            return ["full"]
        changed, refused = profile.join(Profile.of(row))
        if not changed:
            return [*refused]
        self._changed.add(("person", *place))
        gone = self._gone(place, profile, at, cause)
        return [*refused, *self._edges(place, profile, at, cause, broker, recent(at, broker)), *gone]

    def facts(self, tenant: str, product: str, subject: str) -> dict[str, Any]:
        """What conditions and templates see of the subject now; nothing where subjects of its kind have no profiles."""
        if subject.partition(":")[0] not in KINDS:
            return {}
        profile = self._profiles.get((tenant, product, subject)) or Profile()
        return facts_of(subject, profile, self._in(tenant, product, subject, profile), self._of(tenant, product)[1])

    def known(self, tenant: str, product: str, subject: str) -> list[Any]:
        """What is known of the subject, as `merge` takes it."""
        return (self._profiles.get((tenant, product, subject)) or Profile()).row()

    def take_away(self, tenant: str, subject: str) -> list[tuple[str, Told]]:
        """(product, row) of what waits for rules to be judged: nobody is judged on it here any more; it still changes the profile."""
        found = sorted(r for r, told in self._waiting.items() if (r[0], r[2]) == (tenant, subject) and told.rules)
        taken = []
        for row in found:
            told = self._waiting[row]
            taken.append((row[1], told))
            self._changed.add(("told", *row))
            if told.word is None:
                del self._waiting[row]
            else:
                self._waiting[row] = told._replace(rules=[], signal=b"")
        return taken

    def forget(self, gone: Any) -> int:
        """Forget the subjects of which `gone(tenant, subject)`; how many profiles went.

        What was counted of them, where they are known by another name, loses theirs.
        """
        places = [p for p in self._profiles if gone(p[0], p[2])]
        for place in places:
            del self._profiles[place]
            self._changed.add(("person", *place))
        for row in [r for r in self._waiting if gone(r[0], r[2])]:
            del self._waiting[row]
            self._changed.add(("told", *row))
        for place, profile in self._profiles.items():
            for origin in [o for o in profile.counts if o != place[2] and gone(place[0], o)]:
                profile.counts[f"forgotten:{derived_id('origin', *place, origin)}"] = profile.counts.pop(origin)
                self._changed.add(("person", *place))
        return len(places)

    # --- state --------------------------------------------------------------------------------------------------------

    def drain(self) -> list[StateRecord]:
        """Rows that changed since the last drain."""
        records: list[StateRecord] = []
        for name, *rest in sorted(self._changed):
            value: Any
            if name == "person":
                profile = self._profiles.get((rest[0], rest[1], rest[2]))
                value = profile.row() if profile is not None else None
            elif name == "told":
                told = self._waiting.get((rest[0], rest[1], rest[2], rest[3]))
                value = list(told) if told is not None else None
            else:
                value = [self._heard.get((rest[0], rest[1]), 0), self._signed.get((rest[0], rest[1]), "")]
            records.append((key(name, *rest), encode(value) if value is not None else None))
        self._changed.clear()
        return records

    def let_go(self) -> None:
        """Instead of `drain`, where nobody writes checkpoints."""
        self._changed.clear()

    def load(self, row: str, rest: list[Any], content: Any) -> bool:
        """Take one row back; False where it is none of ours."""
        match row:
            case "person":
                self._profiles[rest[0], rest[1], rest[2]] = Profile.of(content)
            case "told":
                told = Told(*content)
                self._waiting[rest[0], rest[1], rest[2], rest[3]] = told
                heapq.heappush(self._queues[rest[0], rest[1]], (told.counts, told.cause, rest[2]))
            case "heard":
                self._heard[rest[0], rest[1]], self._signed[rest[0], rest[1]] = content
            case _:
                return False
        return True

    # --- work ---------------------------------------------------------------------------------------------------------

    def _apply(self, place: Place, told: Told) -> Iterator[Outcome]:
        if told.word is not None:
            profile = self._profile(place)
            if profile is None:
                yield "full"
            else:
                word = _of_side(told.word, place[2])
                yield from profile.fold(word, told.at, told.cause, place[2])
                self._changed.add(("person", *place))
                yield from self._edges(place, profile, told.at, told.cause, told.broker, told.acts)
                yield from self._gone(place, profile, told.at, told.cause)
        if told.rules:
            yield Judge(told.rules, told.signal, told.broker)

    def _gone(self, place: Place, profile: Profile, at: int, cause: str) -> Iterator[Aliased]:
        """Where the subject is known by another name, all that is known of it goes there, again with every change."""
        known, (kind, _, name) = profile.value("alias"), place[2].partition(":")
        if isinstance(known, str) and known != name:
            yield Aliased(*place, f"{kind}:{known}", at, cause, profile.row())

    def _profile(self, place: Place) -> Profile | None:
        found = self._profiles.get(place)
        if found is None and self._profiles.open_to(place[0], MAX_PROFILES):
            found = self._profiles[place] = Profile()
        return found

    def _edges(self, place: Place, profile: Profile, at: int, cause: str, broker: int, act: bool) -> Iterator[Edge]:
        """Look at the segments of the subject again."""
        tenant, product, subject = place
        segments, campaigns = self._of(tenant, product)
        kind = subject.partition(":")[0]
        mine = [s for s in segments if s.of == kind]
        flat = flatten(facts_of(subject, profile, (), campaigns)) if mine else {}
        aliased = profile.value("alias") is not None
        inside = {s.name for s in mine if s.where is not None and not aliased and holds(s.where, flat)}
        for name in sorted({*profile.segments, *inside}):
            if (name in inside) == (name in profile.segments):
                continue
            edge = "entered" if name in inside else "left"
            if name in inside:
                profile.segments[name] = at
            else:
                del profile.segments[name]
            yield Edge(tenant, product, subject, name, edge, at, f"{name}/{edge}/{cause}", broker, act)

    def _in(self, tenant: str, product: str, subject: str, profile: Profile) -> list[str]:
        kind, _, name = subject.partition(":")
        listed = {s.name for s in self._of(tenant, product)[0] if kind == s.of and name in s.users}
        return sorted(listed | set(profile.segments))

    def _of(self, tenant: str, product: str) -> tuple[list[Segment], dict[str, Campaign]]:
        if self._generation != self._catalogue.generation:
            self._generation = self._catalogue.generation
            self._segments.clear()
            self._campaigns.clear()
        at = (tenant, product)
        if at not in self._segments:
            mine = [s for s in self._catalogue.of(Segment, tenant) if s.product == product]
            named = {s.name: s for s in sorted(mine, key=lambda s: s.tenant == tenant)}
            self._segments[at] = [named[name] for name in sorted(named)]
            led = [c for c in self._catalogue.of(Campaign, tenant) if c.product == product]
            self._campaigns[at] = {c.name: c for c in sorted(led, key=lambda c: c.tenant == tenant)}
        return self._segments[at], self._campaigns[at]

    def redefined(self, tenant: str, product: str, at: int, broker: int) -> Iterator[Outcome]:
        """Where the product's segments have changed, everybody is looked at again."""
        live = [s for s in self._of(tenant, product)[0] if s.where is not None]
        signed = derived_id(
            "segments", *(_signature([s.name, s.of, s.where.model_dump()]).decode() for s in live if s.where)
        )
        if signed == self._signed.get((tenant, product)):
            return
        self._signed[tenant, product] = signed
        self._changed.add(("heard", tenant, product))
        for place in sorted(p for p in self._profiles if p[:2] == (tenant, product)):
            cause, act = f"defined/{signed}", recent(at, broker)
            edges = list(self._edges(place, self._profiles[place], at, cause, broker, act))
            if edges:
                self._changed.add(("person", *place))
            yield from edges


def members(rows: Mapping[bytes, bytes], tenant: str, product: str, segment: str) -> list[str]:
    """The names of those who are in a live segment, by the state rows of a partition."""
    found = []
    for raw, value in rows.items():
        row, *rest = msgspec.json.decode(raw)
        if row == "person" and rest[:2] == [tenant, product] and segment in Profile.of(decode(value)).segments:
            found.append(rest[2].partition(":")[2])
    return sorted(found)


def _of_side(word: dict[str, Any], subject: str) -> dict[str, Any]:
    """The event, as one side of an alias sees it: only the former name learns the new one, and only the new one the rest."""
    if word.get("type") != "contact.aliased":
        return word
    name = subject.partition(":")[2]
    if name == word.get("former") and name != word.get("contact"):
        return {"type": "contact.aliased", "contact": word.get("contact")}
    return {k: v for k, v in word.items() if k not in ("contact", "former")} | {"type": "contact.identified"}

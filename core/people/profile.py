"""A profile: what events have said about one contact, user or account of a product.

Everything in it is a register with a time (the later word wins, ties by event id), or a count by whom it was counted of. So any order
of the same events gives the same profile, and uniting two profiles (`join`) twice is uniting them once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

TOPICS: Final = ("events.contacts", "events.commerce", "events.engagement", "events.feedback")
"""Those whose events say something about people."""
MAX_VALUES: Final = 256
"""Registers of one profile: tags, lists, campaigns, the sender's own fields and all others together."""
MAX_TEXT: Final = 512
MAX_LIST: Final = 32
UNIT: Final = 10_000
"""Amounts and ratings are added up in whole ten-thousandths, so that their order does not matter."""
MAX_AMOUNT: Final = 1e12
MAX_SUM: Final = 9 * 10**18
MAX_ORIGINS: Final = 64
"""Names whose histories one profile unites."""
COUNTED: Final = {
    "message.sent": "sent",
    "message.delivered": "delivered",
    "message.opened": "opened",
    "message.clicked": "clicked",
    "message.replied": "replied",
    "message.bounced": "bounced",
    "form.submitted": "forms",
    "purchase.completed": "purchases",
    "cart.created": "carts",
    "rating.given": "ratings",
}
"""Event type → the count it adds one to."""
SUMS: Final = (*COUNTED.values(), "spent", "rated", "last_purchase_at", "last_opened_at", "last_seen_at")
_LATEST: Final = {"purchase.completed": "last_purchase_at", "message.opened": "last_opened_at"}
_PLAIN: Final = ("stage", "status", "time_zone", "score")
Register = tuple[int, str, Any]
"""(event time, event id, value); a value of None: taken away."""


@dataclass(slots=True)
class Profile:
    """One subject's."""

    registers: dict[str, Register] = field(default_factory=dict)
    """`stage`, `fields.plan`, `tags.vip` (true: has it) … → the last word."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Subject it was counted of → count → value; `n`: how many events that were."""
    segments: dict[str, int] = field(default_factory=dict)
    """Live segments it is in, and since when."""

    def fold(self, word: Mapping[str, Any], at: int, id: str, origin: str) -> list[str]:
        """Take an event about `origin`; the reasons why some of it was not taken."""
        refused: list[str] = []
        for name, value in words(word, origin.partition(":")[0]):
            reason = self._put(name, (at, id, value))
            if reason is not None:
                refused.append(reason)
        self._count(word, at, origin)
        return refused

    def join(self, other: Profile) -> tuple[bool, list[str]]:
        """Unite another's registers and counts with these: whether that changed anything, and why some of it was not taken.

        Where the other has gone (`alias`) stays its own.
        """
        before = dict(self.registers)
        told = ((name, register) for name, register in other.registers.items() if name != "alias")
        refused = [why for name, register in told if (why := self._put(name, register)) is not None]
        changed = before != self.registers
        for origin, counts in other.counts.items():
            mine = self.counts.get(origin)
            if mine is None and len(self.counts) >= MAX_ORIGINS:
                refused.append("profile_full")
            elif mine is None or mine["n"] < counts["n"]:
                self.counts[origin], changed = dict(counts), True
        return changed, refused

    def total(self, name: str) -> int:
        """A count over all names whose histories are united here; of a time the latest, of an amount ten-thousandths."""
        values = [c[name] for c in self.counts.values() if name in c]
        return max(values, default=0) if name.endswith("_at") else sum(values)

    def value(self, name: str) -> Any:
        """The register's last word; None where there is none."""
        found = self.registers.get(name)
        return found[2] if found is not None else None

    def under(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """Registers below a prefix that hold something, by the rest of their names, sorted."""
        for name in sorted(self.registers):
            if name.startswith(prefix) and self.registers[name][2] not in (None, False):
                yield name[len(prefix) :], self.registers[name][2]

    def row(self) -> list[Any]:
        """As plain values."""
        return [{k: list(v) for k, v in self.registers.items()}, self.counts, self.segments]

    @staticmethod
    def of(row: list[Any]) -> Profile:
        """What `row` gave."""
        return Profile({k: (v[0], v[1], v[2]) for k, v in row[0].items()}, row[1], row[2])

    def _put(self, name: str, told: Register) -> str | None:
        before = self.registers.get(name)
        if before is None and len(self.registers) >= MAX_VALUES:
            return "profile_full"
        if not _small(told[2]) or len(name) > MAX_TEXT:
            return "profile_value"
        if before is None or before[:2] < told[:2]:
            self.registers[name] = told
        return None

    def _count(self, word: Mapping[str, Any], at: int, origin: str) -> None:
        counts = self.counts.setdefault(origin, {"n": 0})
        counts["n"] += 1
        counts["last_seen_at"] = max(counts.get("last_seen_at", 0), at)
        kind = str(word.get("type"))
        counted = COUNTED.get(kind)
        if counted is None:
            return
        counts[counted] = counts.get(counted, 0) + 1
        if kind in _LATEST:
            counts[_LATEST[kind]] = max(counts.get(_LATEST[kind], 0), at)
        for name, of, given in (("spent", "purchases", "amount"), ("rated", "ratings", "rating")):
            amount = word.get(given)
            if counted == of and isinstance(amount, (int, float)) and not isinstance(amount, bool):
                added = round(max(-MAX_AMOUNT, min(MAX_AMOUNT, amount)) * UNIT)
                counts[name] = max(-MAX_SUM, min(MAX_SUM, counts.get(name, 0) + added))


def words(word: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Any]]:
    """(register, value) that an event says of a subject of this kind."""
    type = str(word.get("type"))
    if type.startswith("account.") != (kind == "account"):
        return
    if kind != "account" and isinstance(word.get("account"), str):
        yield "account", word["account"]
    for name in _PLAIN:
        if name in word and type.partition(".")[0] in ("contact", "account"):
            yield name, word[name]
    for name in ("fields", "demographics"):
        given = word.get(name)
        if isinstance(given, Mapping):
            yield from ((f"{name}.{key}", value) for key, value in sorted(given.items()))
    tags = word.get("tags")
    if isinstance(tags, list):
        yield from ((f"tags.{tag}", type != "contact.untagged") for tag in tags)
    if type in ("list.joined", "list.left"):
        yield f"lists.{word.get('list')}", type == "list.joined"
    if type == "contact.aliased":
        yield "alias", word.get("contact")
    campaign = word.get("campaign")
    if type.startswith("campaign.") and isinstance(campaign, str):
        if type in ("campaign.joined", "campaign.left"):
            yield f"campaign.{campaign}.member", type == "campaign.joined"
        for name in ("position", "variant"):
            if word.get(name) is not None:
                yield f"campaign.{campaign}.{name}", word[name]


def _small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_TEXT
    if isinstance(value, list):
        return len(value) <= MAX_LIST and all(not isinstance(v, (list, dict)) and _small(v) for v in value)
    return not isinstance(value, dict)

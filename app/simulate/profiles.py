"""What a test says is known of somebody, as the raw events that say so: contacts, purchases, messages, ratings, campaigns.

A test may give `contact.…`, `account.…` and `campaign.NAME.…` as facts. Nobody writes a profile: it is what events before said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from core.people.asked import ROOTS
from core.people.facts import RATES
from core.people.profile import COUNTED

HOUR_MS: Final = 3_600_000
_EARLIER: Final = {
    "events.contacts": 4 * HOUR_MS,
    "events.commerce": 3 * HOUR_MS,
    "events.engagement": 2 * HOUR_MS,
    "events.feedback": HOUR_MS,
}
"""How long before the test's own event those of a topic come: all tests alike, so what one topic brings is one step of all of them."""
_LEAVES_MS: Final = HOUR_MS // 2
_TOPIC: Final = {"purchase": "events.commerce", "cart": "events.commerce", "rating": "events.feedback"}
_OF_ALL: Final = {"spent": ("purchases", "amount"), "rating": ("ratings", "rating")}
"""Facts that are told with the events of a count, in equal parts or alike."""
_FOLLOWS: Final = {"id", "rating", "spent", *RATES, "last_purchase_at", "last_opened_at", "last_seen_at"}


class Said(NamedTuple):
    """An event to be made, so long before the test's own."""

    topic: str
    before_ms: int
    body: dict[str, Any]


def known(given: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a test that are of a profile."""
    return {name: given[name] for name in ROOTS if isinstance(given.get(name), Mapping)}


def told(given: Mapping[str, Any], name: str) -> list[Said]:
    """The events after which these facts hold of `name`, in order of time. Raises `ValueError` where no event tells a fact."""
    said: list[Said] = []
    for root, facts in known(given).items():
        bodies = _joined(facts) if root == "campaign" else _about(root, facts, name)
        for n, (topic, body) in enumerate(bodies):
            earlier = _LEAVES_MS if body["type"] == "campaign.left" else _EARLIER[topic]
            whom = {} if root == "account" else {"user" if topic == "events.commerce" else "contact": name}
            said.append(Said(topic, earlier - n, whom | body))
    return sorted(said, key=lambda s: -s.before_ms)


def _about(root: str, facts: Mapping[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    contacts = "events.contacts"
    if untold := sorted(r for r, (part, whole) in RATES.items() if r in facts and not {part, whole} <= facts.keys()):
        raise ValueError(f"a rate follows from counts: give them beside {', '.join(untold)}")
    words = {k: facts[k] for k in ("fields", "demographics", "status", "time_zone", "score", "account") if k in facts}
    if root == "account":
        words |= {"account": name} | ({"stage": facts["stage"]} if "stage" in facts else {})
    if words:
        yield contacts, {"type": f"{root}.updated", **words}
    if "tags" in facts:
        yield contacts, {"type": f"{root}.tagged", "tags": facts["tags"]}
    for one in facts.get("lists", ()):
        yield contacts, {"type": "list.joined", "list": one}
    if root == "contact" and "stage" in facts:
        yield contacts, {"type": "contact.stage_changed", "stage": facts["stage"]}
    for type_, count in COUNTED.items():
        times = facts.get(count, 0)
        body = {"type": type_}
        for fact, (of, field) in _OF_ALL.items():
            if of == count and fact in facts:
                body[field] = facts[fact] / times if fact == "spent" else facts[fact]
        for _ in range(times):
            yield _TOPIC.get(type_.partition(".")[0], "events.engagement"), dict(body)
    handled = {*words, "tags", "lists", "stage", *COUNTED.values(), *_FOLLOWS}
    if untold := sorted(facts.keys() - handled):
        raise ValueError(f"no event says what `{root}.{untold[0]}` is")


def _joined(campaigns: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, stands in campaigns.items():
        where = {k: stands[k] for k in ("position", "variant") if stands.get(k) is not None}
        yield "events.contacts", {"type": "campaign.joined", "campaign": name, **where}
        if not stands.get("member", True):
            yield "events.contacts", {"type": "campaign.left", "campaign": name}

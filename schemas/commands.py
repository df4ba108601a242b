"""Commands: orders to act, imperative. Topic `commands.<domain>`, key `tenant|kind:subject`. A public contract."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, JsonValue

from schemas.envelope import Millis, Tenant, Word, derived_id

Domain = Literal["product", "engineering", "marketing", "sales", "success", "executive"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)
Priority = Literal["urgent", "normal", "low"]
CommandType = Annotated[
    str, Field(pattern=r"^(product|engineering|marketing|sales|success|executive)(\.[a-z0-9_]+){2,}$")
]
"""`domain.object.verb`; the first segment names the topic."""


class SegmentReference(Word):
    """Many subjects at once: who, how many, and where to page through them."""

    name: str
    size: int
    link: str


class Why(Word):
    """What a person needs to judge the command: the finding, its numbers, the window, the limits, links."""

    rule: str
    rule_version: int
    reason: str
    """One readable sentence."""
    detection: str | None = None
    """Id of the detection, where one caused it."""
    numbers: dict[str, float | None]
    thresholds: dict[str, float]
    window: str | None = None
    window_start: Millis | None = None
    window_end: Millis | None = None
    links: dict[str, str]


class Command(Word):
    """One order. Its `id` is also the idempotency key of everything done because of it."""

    id: str
    tenant: Tenant
    product: str
    type: CommandType
    subject: str
    rule: str
    """The rule's id, e.g. `A1.2`."""
    rule_version: int
    cause: str
    step: str = "1"
    priority: Priority
    issued_at: Millis
    """Event time at which it was decided."""
    expires_at: Millis
    """After this broker time nobody acts on it any more."""
    title: str
    text: str
    payload: dict[str, JsonValue]
    why: Why
    segment: SegmentReference | None = None
    revises: str | None = None
    """The command that this one corrects, or takes back, because data came late."""
    stands: bool = True
    """With `revises`: whether it would still be ordered; false in a command that only corrects what is known."""
    traceparent: str | None = None

    @property
    def domain(self) -> str:
        """The topic's name after `commands.`."""
        return self.type.split(".", 1)[0]


def command_id(tenant: str, rule: str, subject: str, cause: str, step: str = "1") -> str:
    """uuid5 of (tenant, rule, subject, cause, step); the rule's version is no part of it."""
    return derived_id("command", tenant, rule, subject, cause, step)

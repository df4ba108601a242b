"""The answer to "why, or why not": what a rule or workflow was asked of, and what every part of it said."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from schemas.activity import Activity
from schemas.envelope import Millis, Word

Verdict = Literal[
    "fired", "suppressed", "failed", "condition", "not_met", "nothing_seen", "waiting", "not_judged", "not_in_force", "held_back",
    "running", "ended", "refused", "unknown",
]  # fmt: skip
"""fired: it gave a command (or began a run that has ended otherwise) · suppressed, failed: it matched, and no command came of it ·
condition: its trigger woke it, its condition did not hold · not_met: what was seen is not what it waits for · nothing_seen ·
waiting: part of what it waits for was seen · not_judged: event time has not come so far · not_in_force: it applies from later on ·
held_back: it would be suppressed now · running, ended: how the newest run stands · refused: a trigger began no run ·
unknown: the log does not tell (any more)."""


class Check(Word):
    """One predicate, and what it was asked of."""

    text: str
    """As CEL, or as a sentence where it is no condition."""
    value: JsonValue = None
    """Of the fact it looks at; of several facts an object."""
    held: bool | None
    """Null: the value is not known here."""
    parts: list[Check] = Field(default_factory=list)
    """Of what is true if any (or none) of some predicates is: these."""


class Seen(Word):
    """What woke the rule, or came nearest to it."""

    what: str
    at: Millis
    cause: str
    """Id of the detection or the event."""


class Answer(Word):
    """Why a rule fired for a subject, or why it did not, at a moment."""

    tenant: str
    rule: str
    """The id."""
    kind: Literal["rule", "workflow"]
    version: int
    subject: str
    product: str | None
    at: Millis | None
    """The moment asked about; null: now."""
    watermark: Millis | None
    """Event time up to which the product is judged; null: not known (no state yet)."""
    verdict: Verdict
    reason: str
    """One sentence."""
    seen: Seen | None = None
    trigger: list[Check] = Field(default_factory=list)
    condition: list[Check] = Field(default_factory=list)
    guards: list[Check] = Field(default_factory=list)
    """What keeps a rule from acting: pauses, silences, cool-down, ceiling, the time from which it applies."""
    due: Millis | None = None
    """When something comes of it if nothing else happens; the end of a wait."""
    waits_for: list[str] = Field(default_factory=list)
    looked: str = ""
    """How far back was looked."""
    activity: list[Activity] = Field(default_factory=list)
    """The newest lines of the activity log about it."""

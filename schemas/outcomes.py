"""What a rule is measured by: hold-outs, outcomes, verdicts. Words of `Rule.outcome`, and the public row of topic `outcomes`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from schemas.conditions import Bounded
from schemas.described import SomeSeconds
from schemas.detectors import Metric
from schemas.envelope import Millis, SubjectKind, Word
from schemas.limits import MAX_NAME_CHARS
from schemas.tables import WindowName
from schemas.triggers import Topic

MAX_HOLDOUT: Final = 0.5
PEOPLE: Final[tuple[SubjectKind, ...]] = ("user", "contact", "account")
"""Subjects of which some can be held out, because there are many alike."""
Verdict = Literal["no_effect_yet", "working", "harmful"]
WINDOW_S: Final[dict[WindowName, int]] = {"5m": 300, "1h": 3_600, "1d": 86_400, "7d": 604_800, "28d": 2_419_200}


class Conversion(Word):
    """The subject does this: an event of its own for which `where` holds."""

    kind: Literal["conversion"] = "conversion"
    topic: Topic = "events.usage"
    where: Bounded
    value: Annotated[str, Field(max_length=MAX_NAME_CHARS)] | None = None
    """A field that says what it was worth (money); summed over all the subject's conversions within the time."""


class Figure(Word):
    """A figure of the product (or of the rule's feature or service), in a window."""

    kind: Literal["figure"] = "figure"
    metric: Metric
    of: Annotated[str, Field(max_length=MAX_NAME_CHARS)] | None = None
    """A feature or `service:x`; absent: the feature or service that the rule is about, else the product's total."""
    window: WindowName = "1d"


class Measure(Word):
    """How it is judged whether a rule helps."""

    metric: Annotated[Conversion | Figure, Field(discriminator="kind")]
    within_s: SomeSeconds
    """Time that the rule has to show its effect, from the command on."""
    direction: Literal["up", "down"] = "up"
    """Which way is better."""
    alpha: Annotated[float, Field(ge=0.001, le=0.2)] = 0.05
    """Largest probability that a rule without effect is ever called working or harmful, however often one looks."""
    on_harm: Literal["pause", "tell"] = "pause"
    """What a harmful verdict does, besides telling."""

    @model_validator(mode="after")
    def _apart(self) -> Measure:
        if isinstance(self.metric, Figure) and self.within_s < WINDOW_S[self.metric.window]:
            raise ValueError(
                f"within_s: the window after the command ({self.metric.window}) would hold time from before it; give at "
                f"least {WINDOW_S[self.metric.window]} or a shorter window"
            )
        return self


def refused_holdout(trigger: str, subject: str, bands: list[str], level: int | None, transactional: bool) -> str | None:
    """Why nobody may be held out of such a rule; None where some may be.

    >>> refused_holdout("event", "user", [], 1, False)
    >>> refused_holdout("event", "user", [], 2, False)
    'interventions of level 2 and 3 are never held out: a person has been asked to help already; take `holdout` away'
    """
    if "critical" in bands:
        return "what a critical product needs is never held out; take `holdout` away"
    if transactional:
        return "what a subject asked for or is owed (`transactional`) is never held out; take `holdout` away"
    if level is not None and level > 1:
        return "interventions of level 2 and 3 are never held out: a person has been asked to help already; take `holdout` away"
    if subject not in PEOPLE:
        return (
            f"a rule on `{trigger}` is about a {subject}, of which there is one: nothing is left to compare with. Take "
            "`holdout` away and give `outcome` a figure, which is compared with the time before"
        )
    return None


class Arm(Word):
    """One side of a comparison."""

    subjects: int
    """Whose time to convert is over."""
    converted: int
    rate: float | None
    value: float = 0
    """Sum of what conversions were worth."""


class OutcomeRow(Word):
    """What a rule has done so far for a product's subjects. Topic `outcomes`, key `tenant|product|rule`."""

    tenant: str
    product: str
    rule: str
    """The rule's id."""
    rule_version: int
    """The newest version that was measured; an edit that changes what is measured begins anew."""
    command_type: str
    trigger: str
    """Kind of the rule's trigger."""
    measure: Literal["conversion", "figure"]
    metric: str
    """The figure's name, or `conversion`."""
    direction: Literal["up", "down"]
    within_s: int
    holdout: float
    at: Millis
    """Event time up to which everything is counted."""
    since: Millis
    """When the first exposure that counts ended."""
    treated: Arm | None
    held: Arm | None
    """Of conversions."""
    pairs: int
    """Of figures: comparisons of the time after a command with the time before."""
    uplift: float | None
    """Treated less held (a difference of shares), or the mean of after less before. Null without data."""
    low: float | None
    high: float | None
    """It lies between these at all times at once with probability 1 - alpha; null where nothing can be said yet."""
    alpha: float
    verdict: Verdict
    verdict_at: Millis | None
    """When the verdict became what it is."""
    gain: float | None = None
    """Of conversions with a value: what the treated brought in beyond what as many of the held would have."""
    gain_low: float | None = None
    gain_high: float | None = None
    """95 % interval of it, for one look."""
    version: int
    """Grows with each row of the key."""

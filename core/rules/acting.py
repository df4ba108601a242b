"""What a match becomes: a command, or a suppression with its reason, or a counted failure. And the books of all three.

In this order: paused · backfill · cool-down · ceiling · rendered · held out. matched = commanded + suppressed + failed, always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from core.accounts import Book
from core.decide.explain import Case, segment
from core.definitions import Catalogue
from core.effects import Count, Effect, Emit, Observe
from core.forgetting import Forgetting
from core.outcomes.arms import Exposed, is_held
from core.rules.conditions import flatten, holds
from core.rules.render import Renderer, RenderError
from schemas.commands import Command, Why, command_id
from schemas.definitions import CommandTemplate, Rule
from schemas.delivery import Receipt, SuppressionReason
from schemas.envelope import derived_id, key

HOUR_MS = 3_600_000
_HOURS_KEPT = 48
_QUIET_MS = 400 * 24 * HOUR_MS
_SWEEP_EVERY = 4096
_LATENCY_KNOWN_MS = HOUR_MS
"""Replays are older than this; their age is no latency."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """Something that meets a rule."""

    tenant: str
    product: str
    subject: str
    cause: str
    at: int
    """Event time judged."""
    act: bool
    facts: Mapping[str, object]
    """For the condition and the templates."""
    case: Case
    broker_time: int
    """Of the record that brought the last missing piece."""
    traceparent: str | None = None
    by_hand: bool = False
    """A person asked for it: neither condition nor cool-down applies."""
    bucketed: bool = False
    """A cool-down is an event-time bucket whose start is the cause (single events), not a pause since the last command."""


@dataclass(slots=True)
class Books:
    """Sums over everything this task has met."""

    matched: int = 0
    commanded: int = 0
    suppressed: int = 0
    failed: int = 0

    @property
    def difference(self) -> int:
        """What is unaccounted for: zero."""
        return self.matched - self.commanded - self.suppressed - self.failed


class Memory:
    """What acting remembers, as keyed rows: cool-downs and ceilings."""

    def __init__(self) -> None:
        self.last: dict[tuple[str, str, str, str], dict[int, int]] = {}
        """(rule, tenant, product, subject) → bucket (0: not bucketed) → event time of the last command."""
        self.hours: dict[tuple[str, str, str], dict[int, int]] = {}
        """(rule, tenant, product) → hour → commands in it."""
        self.changed: set[tuple[str, ...]] = set()
        """Keys since the last checkpoint, "last" or "hours" before each."""
        self._newest = 0
        self._added = 0

    def issued(self, rule: Rule, occasion: Occasion, bucket: int | None, held: bool = False) -> None:
        """A command was given, or (`held`) would have been: then it cools down alike and takes none of the hour's room.

        `bucket`: of the cool-down, None where the rule has none.
        """
        if held:
            self._cool(rule, occasion, bucket)
            return
        scope = (_remembered(rule), occasion.tenant, occasion.product)
        hours = self.hours.setdefault(scope, {})
        hour = occasion.at // HOUR_MS
        hours[hour] = hours.get(hour, 0) + 1
        horizon = max(hours) - _HOURS_KEPT
        for old in [h for h in hours if h < horizon]:
            del hours[old]
        self.changed.add(("hours", *scope))
        self._cool(rule, occasion, bucket)

    def _cool(self, rule: Rule, occasion: Occasion, bucket: int | None) -> None:
        if bucket is None:
            return
        cooled = _cooled(rule, occasion)
        buckets = self.last.setdefault(cooled, {})
        buckets[bucket] = occasion.at
        horizon = max(buckets) - max(2 * rule.cooldown_s * 1000, _HOURS_KEPT * HOUR_MS)
        for old in [b for b in buckets if b and b < horizon]:
            del buckets[old]
        self.changed.add(("last", *cooled))
        self._newest = max(self._newest, occasion.at)
        self._added += 1
        if self._added % _SWEEP_EVERY == 0:
            self._sweep()

    def forget(self, holds: Callable[[str, str], bool]) -> int:
        """Forget the subjects of which `holds(tenant, subject)`; how many rows went."""
        gone = [cooled for cooled in self.last if holds(cooled[1], cooled[3])]
        for cooled in gone:
            del self.last[cooled]
            self.changed.add(("last", *cooled))
        return len(gone)

    def _sweep(self) -> None:
        """Forget subjects long quiet: a rule may cool down for weeks, so only what is far older than that goes."""
        for cooled in [k for k, b in self.last.items() if max(b.values()) < self._newest - _QUIET_MS]:
            del self.last[cooled]
            self.changed.add(("last", *cooled))


class Actor:
    """Turns occasions into effects. `shares`: the ceilings are shared by that many partitions."""

    def __init__(self, catalogue: Catalogue, step: str, shares: int = 1, book: Book | None = None) -> None:
        self._catalogue, self.step, self._shares = catalogue, step, shares
        self._book = book or Book("matched")
        self.written = 0
        """Matches that the last checkpoint's books hold."""
        self._render = Renderer()
        self.books = Books()
        self.memory = Memory()
        self._forgotten = Forgetting(catalogue)
        self.forgot = 0
        """Grows when there are more subjects to forget, and `forget` has seen them."""
        self.given: list[tuple[str, str]] = []
        """(cause, rule's name) of the commands of rules that mind late data, since the caller looked last."""
        self.exposed: list[tuple[Exposed, str]] = []
        """Who met a measured rule since the caller looked last, each with the cause."""

    def forget(self) -> list[Effect]:
        """Forget the subjects that the definitions say to, where that is new."""
        if self.forgot == self._forgotten.version:
            return []
        self.forgot = self._forgotten.version
        gone = self.memory.forget(self._forgotten.holds)
        return [Count("uptake_forgotten_total", gone, ("decide",))] if gone else []

    def knows_not(self, tenant: str, subject: str) -> bool:
        """Whether the subject is to be forgotten: nothing is decided about it any more."""
        return self._forgotten.holds(tenant, subject)

    def meet(self, rules: Iterable[Rule], occasion: Occasion) -> list[Effect]:
        """What comes of it; rules whose condition does not hold, or that are not in force yet, are no match."""
        effects: list[Effect] = []
        facts: dict[str, object] | None = None
        for rule in rules:
            if not occasion.by_hand:
                if rule.effective_from > occasion.at:
                    continue
                if rule.condition is not None:
                    facts = flatten(occasion.facts) if facts is None else facts
                    if not holds(rule.condition, facts):
                        continue
            effects += self._matched(rule, occasion)
        if effects:
            effects.append(self.balance())
        return effects

    def balance(self) -> Effect:
        """The books' difference, exported."""
        return self._book.put(self.step, self.books.difference)

    def _matched(self, rule: Rule, occasion: Occasion) -> list[Effect]:
        self.books.matched += 1
        bucket = _bucket(rule, occasion)
        cause = str(bucket) if bucket is not None and occasion.bucketed else occasion.cause
        effects: list[Effect] = [Count("uptake_matches_total", 1, (rule.id,))]
        reason = self._reason(rule, occasion, bucket)
        if reason is not None:
            self.books.suppressed += 1
            return [*effects, *self._suppressed(rule, occasion, cause, reason)]
        try:
            command = self._command(rule, occasion, cause)
        except RenderError as error:
            self.books.failed += 1
            told = self._told(rule, occasion, cause, "failed", error.reason, str(error))
            return [*effects, told, Count("uptake_failed_total", 1, (self.step, error.reason))]
        if rule.mode == "shadow":  # whom a real command would have left alone is no matter: nobody is treated
            self.memory.issued(rule, occasion, bucket)
            self.books.suppressed += 1
            told = self._told(rule, occasion, cause, "suppressed", "shadow", shadowed=command)
            return [*effects, told, Count("uptake_suppressed_total", 1, (self.step, "shadow"))]
        held = not occasion.by_hand and is_held(occasion.tenant, rule.id, occasion.subject, rule.holdout)
        self.memory.issued(rule, occasion, bucket, held)
        if rule.outcome is not None and not occasion.by_hand:
            self.exposed.append((_exposed(rule, occasion, held), occasion.cause))
        if held:
            self.books.suppressed += 1
            return [*effects, *self._suppressed(rule, occasion, cause, "hold_out")]
        self.books.commanded += 1
        if rule.late != "drop" and not occasion.by_hand:
            self.given.append((occasion.cause, rule.name))
        return [*effects, *_issued(command, occasion)]

    def revise(self, rule: Rule, occasion: Occasion, stands: bool) -> list[Effect]:
        """Late data have changed what a command was decided on; `occasion` is that of the command, with corrected facts."""
        if rule.late == "drop" or (rule.late == "compensate" and stands):
            return []
        original = command_id(occasion.tenant, rule.id, occasion.subject, occasion.cause)
        undoes = rule.late == "compensate" and rule.undo is not None
        template, step = (rule.undo, "undo") if undoes and rule.undo is not None else (rule.command, "revised")
        self.books.matched += 1
        effects: list[Effect] = [Count("uptake_matches_total", 1, (rule.id,))]
        names = {rule.id, rule.name}
        if any(self._catalogue.paused(occasion.tenant, rule=name) for name in names):
            self.books.suppressed += 1
            return [*effects, *self._suppressed(rule, occasion, occasion.cause, "paused", step), self.balance()]
        try:
            command = self._command(rule, occasion, occasion.cause, template, step, {"command": original})
        except RenderError as error:
            self.books.failed += 1
            told = self._told(rule, occasion, occasion.cause, "failed", error.reason, str(error), step)
            return [*effects, told, Count("uptake_failed_total", 1, (self.step, error.reason)), self.balance()]
        self.books.commanded += 1
        command = command.model_copy(update={"revises": original, "stands": stands})
        counted = Count("uptake_revisions_total", 1, (rule.id, step))
        return [*effects, counted, *_issued(command, occasion), self.balance()]

    def _reason(self, rule: Rule, occasion: Occasion, bucket: int | None) -> SuppressionReason | None:
        if any(self._catalogue.paused(occasion.tenant, rule=name) for name in {rule.id, rule.name}):
            return "paused"
        if not occasion.act:
            return "backfill"
        scope = (_remembered(rule), occasion.tenant, occasion.product)
        if bucket is not None:
            last = self.memory.last.get(_cooled(rule, occasion), {}).get(bucket)
            if last is not None and (occasion.bucketed or occasion.at < last + rule.cooldown_s * 1000):
                return "cooldown"
        used = self.memory.hours.get(scope, {}).get(occasion.at // HOUR_MS, 0)
        return "ceiling" if used >= -(-rule.ceiling_per_hour // self._shares) else None

    def _command(
        self,
        rule: Rule,
        occasion: Occasion,
        cause: str,
        template: CommandTemplate | None = None,
        step: str = "1",
        more: Mapping[str, object] | None = None,
    ) -> Command:
        case, template = occasion.case, template or rule.command
        whom = segment(template, occasion.tenant, occasion.product, case)
        facts = {
            **occasion.facts,
            "tenant": occasion.tenant,
            "product": occasion.product,
            "subject": occasion.subject,
            "reason": case.reason,
            "numbers": case.numbers,
            "thresholds": case.thresholds,
            "links": case.links,
            "segment": whom.model_dump() if whom else None,
            "owner": rule.owner,
            **(more or {}),
        }
        payload = self._render.payload(template.payload, facts, "payload")
        return Command(
            id=command_id(occasion.tenant, rule.id, occasion.subject, cause, step),
            tenant=occasion.tenant,
            product=occasion.product,
            type=template.type,
            subject=occasion.subject,
            rule=rule.id,
            rule_version=rule.version,
            cause=cause,
            step=step,
            priority=rule.priority,
            issued_at=occasion.at,
            expires_at=occasion.broker_time + rule.expires_after_s * 1000,
            title=self._render.text(template.title, facts, "title"),
            text=self._render.text(template.text, facts, "text"),
            payload=payload if isinstance(payload, dict) else {},
            why=_why(rule, case),
            segment=whom,
            traceparent=occasion.traceparent,
        )

    def _suppressed(
        self, rule: Rule, occasion: Occasion, cause: str, reason: SuppressionReason, step: str = "1"
    ) -> list[Effect]:
        return [
            self._told(rule, occasion, cause, "suppressed", reason, step=step),
            Count("uptake_suppressed_total", 1, (self.step, reason)),
        ]

    def _told(
        self,
        rule: Rule,
        occasion: Occasion,
        cause: str,
        status: Literal["suppressed", "failed"],
        reason: str,
        detail: str | None = None,
        step: str = "1",
        shadowed: Command | None = None,
    ) -> Effect:
        """The receipt of a match that became no command."""
        command = command_id(occasion.tenant, rule.id, occasion.subject, cause, step)
        receipt = Receipt(
            id=derived_id("receipt", command, self.step, reason),
            delivery=None,
            command=command,
            command_type=rule.command.type,
            tenant=occasion.tenant,
            product=occasion.product,
            subject=occasion.subject,
            rule=rule.id,
            connection=None,
            integration=None,
            sandboxed=False,
            attempt=0,
            status=status,
            final=True,
            reason=reason,
            at=occasion.broker_time,
            traceparent=occasion.traceparent,
            judged_at=occasion.at,
            why=_why(rule, occasion.case),
            detail=detail,
            shadowed=shadowed,
        )
        return Emit("receipts", key(occasion.tenant, occasion.subject), receipt.model_dump_json().encode())


def _exposed(rule: Rule, occasion: Occasion, held: bool) -> Exposed:
    said = occasion.facts.get("probability")
    probability = (
        float(said) if isinstance(said, (int, float)) and not isinstance(said, bool) and 0 <= said <= 1 else None
    )
    return Exposed(rule, occasion.tenant, occasion.product, occasion.subject, occasion.at, held, probability)


def _bucket(rule: Rule, occasion: Occasion) -> int | None:
    """Start of the cool-down's bucket; 0 where it counts from the last command; None without a cool-down."""
    if rule.cooldown_s == 0 or occasion.by_hand:
        return None
    width = rule.cooldown_s * 1000
    return occasion.at // width * width if occasion.bucketed else 0


def _cooled(rule: Rule, occasion: Occasion) -> tuple[str, str, str, str]:
    """What a cool-down is counted by. A bucket's start is the cause, and ids know no product: one for all products."""
    product = "" if occasion.bucketed else occasion.product
    return _remembered(rule), occasion.tenant, product, occasion.subject


def _remembered(rule: Rule) -> str:
    """The name it is remembered by. A rule in shadow cools down by itself: nothing of it holds back what acts later."""
    return rule.name if rule.mode == "act" else f"{rule.name}#shadow"


def _issued(command: Command, occasion: Occasion) -> list[Effect]:
    effects: list[Effect] = [
        Emit(
            f"commands.{command.domain}",
            key(command.tenant, command.subject),
            command.model_dump_json().encode(),
        ),
        Count("uptake_commands_total", 1, (command.domain, command.rule)),
    ]
    took = occasion.broker_time - occasion.at
    if 0 <= took < _LATENCY_KNOWN_MS:
        effects.append(Observe("uptake_event_to_command_seconds", took / 1000))
    return effects


def _why(rule: Rule, case: Case) -> Why:
    return Why(
        rule=rule.id,
        rule_version=rule.version,
        reason=case.reason,
        detection=case.detection,
        numbers=case.numbers,
        thresholds=case.thresholds,
        window=case.window,
        window_start=case.window_start,
        window_end=case.window_end,
        links=case.links,
    )

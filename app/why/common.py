"""What every kind of answer needs: what became of a match, what keeps a rule from acting, and the answer's frame."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from app.store import queries
from app.why.sources import Question, Sources
from core.delivery.routing import matches
from core.rules.acting import HOUR_MS, Actor
from core.rules.conditions import flatten
from core.rules.why import checks, first_failed, rule_checks, told
from schemas.commands import Command, command_id
from schemas.definitions import Rule, Silence, Workflow
from schemas.delivery import Receipt
from schemas.why import Answer, Check, Seen, Verdict


def frame(question: Question, product: str | None, watermark: int | None, **told: Any) -> Answer:
    """The answer with what the question says."""
    asked = question.asked
    return Answer(
        tenant=question.tenant,
        rule=asked.id,
        kind=asked.kind,
        version=asked.version,
        subject=question.subject,
        product=product,
        at=question.at,
        watermark=watermark if watermark is not None and watermark >= 0 else None,
        **told,
    )


async def became(sources: Sources, question: Question, rule: Rule, cause: str, at: int) -> Command | Receipt | None:
    """What became of a match at `at` with this cause: its command, or the receipt that says why there is none; None: unknown."""
    id_ = command_id(question.tenant, rule.id, question.subject, cause)
    command = await queries.command(sources.store, id_, tenant=question.tenant)
    if command is not None and command.issued_at == at:
        return command
    for receipt in await queries.list_receipts(sources.store, tenant=question.tenant, command=id_):
        if receipt.judged_at == at:
            return receipt
    return command


async def judged(
    sources: Sources, question: Question, rule: Rule, facts: Mapping[str, object], cause: str, at: int
) -> tuple[Verdict, str, list[Check]]:
    """Of an occasion that met the rule's trigger: the verdict, a sentence, and the condition's predicates."""
    condition = checks(rule.condition, flatten(facts))
    came = await became(sources, question, rule, cause, at)
    match came:
        case Command():
            return "fired", f"it fired at {when(came.issued_at)}, because {came.why.reason}", condition
        case Receipt(status="failed"):
            return (
                "failed",
                f"it matched at {when(at)}, and no command could be made of it ({came.reason}): {came.detail}",
                condition,
            )
        case Receipt():
            return "suppressed", f"it matched at {when(at)}, and was held back: {came.reason}", condition
    if rule.effective_from > at:
        return (
            "not_in_force",
            f"version {rule.version} applies to what happens from {when(rule.effective_from)} on",
            condition,
        )
    failed = first_failed(condition)
    if failed is not None:
        return "condition", told(failed), condition
    return (
        "unknown",
        "what woke it is known and its condition holds, but neither a command nor a receipt is: the rule was published later, or "
        "the read model has not read it yet (it follows by about a second)",
        condition,
    )


async def guards(sources: Sources, question: Question, rule: Rule, product: str, at: int, actor: Actor) -> list[Check]:
    """What keeps the rule from acting at event time `at`. `actor`: DECIDE's memory as it is now; of the past, commands tell."""
    bucketed = rule.trigger.kind == "event"
    width = rule.cooldown_s * 1000
    bucket = at // width * width if bucketed and width else 0
    shares = sources.settings.partitions if bucketed or rule.trigger.kind in _REMEMBERING else 1
    if question.at is None:
        cooled = (rule.name, question.tenant, "" if bucketed else product, question.subject)
        last = actor.memory.last.get(cooled, {}).get(bucket)
        used = actor.memory.hours.get((rule.name, question.tenant, product), {}).get(at // HOUR_MS, 0)
    else:
        before = await queries.list_commands(
            sources.store, tenant=question.tenant, rule=rule.id, subject=question.subject, before=(at, ""), limit=1
        )
        last = next((c.issued_at for c in before if not bucketed or c.issued_at >= bucket), None)
        hour = at // HOUR_MS * HOUR_MS
        counted = await queries.commands_by_rule(
            sources.store, tenant=question.tenant, product=product, since=hour, until=at
        )
        used = counted.get(rule.id, 0)
        shares = 1  # commands do not tell which partition gave them
    paused = any(sources.catalogue.paused(question.tenant, rule=name) for name in {rule.id, rule.name})
    made = rule_checks(rule, at, paused, last, used, -(-rule.ceiling_per_hour // shares))
    return [*made, *silences(sources, question, rule)]


def silences(sources: Sources, question: Question, asked: Rule | Workflow) -> list[Check]:
    """Silences that are about it; they hold back commands between two times of the broker's clock."""
    mine = [
        s
        for s in sources.catalogue.of(Silence, question.tenant)
        if matches(asked.id, s.rules) and matches(question.subject, s.subjects)
    ]
    return [
        Check(
            text=f"silence {s.name}: {', '.join(s.types) or 'every command'}", value=[s.starts_at, s.ends_at], held=None
        )
        for s in mine
    ]


def when(at: int | None) -> str:
    """A time in a sentence."""
    if at is None:
        return "an unknown time"
    try:
        return f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"
    except (ValueError, OverflowError, OSError):  # behind the calendar's last year
        return f"{at} ms"


def seen(what: str, at: int, cause: str) -> Seen:
    """What woke it."""
    return Seen(what=what, at=at, cause=cause)


_REMEMBERING = ("count", "sequence", "absence", "inactivity")

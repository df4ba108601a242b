"""Rules that wake on what subjects did: one event, or several that are remembered."""

from __future__ import annotations

from typing import Any, Final

from app.why.common import frame, guards, judged, seen, when
from app.why.sources import Question, Sources, Tail, events_of, signals_of
from core.decide.task import RegistersTask
from core.rules.conditions import flatten
from core.rules.patterns import NEVER, Entry, Firing, Seen, advance, wake
from core.rules.waiting import steps_met
from core.rules.why import checks, first_failed, share_held, told
from schemas.celtext import to_cel
from schemas.conditions import Condition
from schemas.definitions import OnAbsence, OnCount, OnEvent, OnInactivity, OnSegment, OnSequence, Rule
from schemas.envelope import key
from schemas.registers import Signal
from schemas.triggers import Remembering, happenings
from schemas.why import Answer, Check

_CANDIDATES: Final = 1_000
"""Newest events of a subject among which the nearest to the trigger is looked for."""


async def did(sources: Sources, question: Question, rule: Rule, trigger: OnEvent) -> Answer:
    """A rule of single events: the newest that woke it, or the one that came nearest."""
    if question.kind != trigger.subject:
        said = f"the rule is about subjects of kind {trigger.subject}, not {question.kind}"
        return frame(question, question.product, None, verdict="not_met", reason=said)
    tail = await sources.tail("signals", key(question.tenant, question.subject))
    task = await sources.signals(question.tenant, question.subject)
    mine = [s for s in _signals(tail, question) if rule.name in s.rules]
    met = max((s for s in mine if _holds(trigger.where, _facts(s))), key=lambda s: s.at, default=None)
    product = met.product if met is not None else question.product
    watermark = await judged_up_to(sources, question, product)
    at = question.at if question.at is not None else (met.at if met is not None else watermark or 0)
    held = await guards(sources, question, rule, product or "", at, task.actor)
    if met is not None:
        width = rule.cooldown_s * 1000
        cause = str(met.at // width * width) if width else met.cause
        facts = {**_facts(met), **task.people.facts(question.tenant, met.product, question.subject)}
        verdict, reason, condition = await judged(sources, question, rule, facts, cause, met.at)
        return frame(
            question, product, watermark, verdict=verdict, reason=reason, seen=seen(str(met.data.get("type")), met.at, met.cause),
            trigger=_asked(trigger.where, _facts(met)), condition=condition, guards=held, looked=looked(tail, "signals"),
        )  # fmt: skip
    return await _nearest(sources, question, trigger.topic, [trigger.where], tail, product, watermark, held)


async def entered(sources: Sources, question: Question, rule: Rule, trigger: OnSegment) -> Answer:
    """A rule that wakes when somebody enters or leaves a segment: when they last did, and whether they are in it now."""
    tail = await sources.tail("signals", key(question.tenant, question.subject))
    task = await sources.signals(question.tenant, question.subject)
    woke = max(edges(tail, question, trigger), key=lambda s: s.at, default=None)
    product = woke.product if woke is not None else question.product
    watermark = task.memories.watermark(question.tenant, product) if product is not None else None
    at = question.at if question.at is not None else (watermark or (woke.at if woke is not None else 0))
    held = await guards(sources, question, rule, product or "", at, task.actor)
    person = task.people.facts(question.tenant, product, question.subject) if product is not None else {}
    known: Any = person.get("segments")
    now = Check(
        text=f'"{trigger.segment}" in segments (now)',
        value=known,
        held=trigger.segment in known if known is not None else None,
    )
    common: dict[str, Any] = {"trigger": [now], "guards": held, "looked": looked(tail, "signals")}
    if woke is None:
        nothing = f"{question.subject} was not seen to have {trigger.edge} {trigger.segment}"
        return frame(question, product, watermark, verdict="nothing_seen", reason=nothing, **common)
    facts = {**woke.data, **person}
    verdict, reason, condition = await judged(sources, question, rule, facts, woke.cause, woke.at)
    what = seen(f"{trigger.edge} segment {trigger.segment}", woke.at, woke.cause)
    return frame(question, product, watermark, verdict=verdict, reason=reason, seen=what, condition=condition, **common)


def edges(tail: Tail, question: Question, trigger: OnSegment) -> list[Signal]:
    """When the subject entered (or left) the segment, up to then."""
    return [
        s
        for s in signals_of(tail)
        if s.kind == "segment"
        and (s.data.get("segment"), s.data.get("edge")) == (trigger.segment, trigger.edge)
        and s.at <= question.until
        and question.product in (None, s.product)
    ]


async def remembered(sources: Sources, question: Question, rule: Rule, trigger: Remembering) -> Answer:
    """A rule that remembers: what it has seen of the subject, what is missing, and when it is decided."""
    tail = await sources.tail("signals", key(question.tenant, question.subject))
    task = await sources.signals(question.tenant, question.subject)
    mine = [s for s in _signals(tail, question) if rule.name in s.rules and rule.effective_from <= s.at]
    product = question.product or max(((s.at, s.product) for s in mine), default=(0, None))[1]
    mine = [s for s in mine if s.product == product]
    told_at = task.memories.watermark(question.tenant, product) if product is not None else None
    until = question.until if told_at is None else min(question.until, told_at)
    entry, fired = fold(trigger, mine, until)
    if question.at is None and product is not None:
        kept = task.memories.entry(question.tenant, product, question.subject, rule.name)
        entry = kept if kept is not None and (told_at is None or kept.due >= told_at) else entry
    at = question.at if question.at is not None else (told_at or 0)
    held = await guards(sources, question, rule, product or "", at, task.actor)
    common: dict[str, Any] = {
        "guards": held,
        "looked": looked(tail, "signals, and DECIDE's state as of its last checkpoint"),
    }
    common |= {"trigger": _progress(trigger, entry), "due": entry.due if entry is not None else None}
    if entry is not None:
        common["waits_for"] = _missing(trigger, entry)
    if fired is not None and (entry is None or not isinstance(trigger, (OnAbsence, OnInactivity))):
        facts = {
            **fired.seen.data,
            "first_at": fired.first_at,
            "last_at": fired.seen.at,
            **_about(question, product, fired.at),
        }
        if isinstance(trigger, OnCount):
            facts["times"] = trigger.times
        if product is not None:
            facts |= task.people.facts(question.tenant, product, question.subject)
        verdict, reason, condition = await judged(sources, question, rule, facts, fired.cause, fired.at)
        what = seen(str(fired.seen.data.get("type")), fired.at, fired.cause)
        return frame(
            question, product, told_at, verdict=verdict, reason=reason, seen=what, condition=condition, **common
        )
    if entry is not None:
        last = entry.anchor.at if entry.anchor is not None else max(entry.times)
        said = f"part of it was seen, last at {when(last)}; still missing: {'; '.join(common['waits_for'])}"
        if told_at is not None and question.at is not None and question.at > told_at:
            said += f"; event time of {product} has come to {when(told_at)}"
        return frame(question, product, told_at, verdict="waiting", reason=said, **common)
    late = [s for s in mine if told_at is None or s.at >= told_at]
    if late:
        said = (
            f"an event at {when(late[-1].at)} waits until all data up to it has been read; event time of {product} has come to "
            f"{when(told_at)}"
        )
        what = seen(str(late[-1].data.get("type")), late[-1].at, late[-1].cause)
        return frame(question, product, told_at, verdict="not_judged", reason=said, seen=what, **common)
    first = happenings(trigger)[0]
    return await _nearest(
        sources, question, first.topic, [h.where for h in happenings(trigger)], tail, product, told_at, held
    )


def fold(trigger: Remembering, signals: list[Signal], until: int) -> tuple[Entry | None, Firing | None]:
    """What the trigger remembers of a subject's signals at `until`, and its last firing, in order of time as DECIDE works them off."""
    entry: Entry | None = None
    fired: Firing | None = None
    for signal in sorted(signals, key=lambda s: (s.at, s.cause)):
        if signal.at >= until:
            break
        if entry is not None and entry.due < signal.at:
            fired, entry = wake(trigger, entry) or fired, None
        steps = steps_met(trigger, signal.subject, _facts(signal), signal.topic)
        if steps:
            seen_ = Seen(signal.at, signal.cause, signal.data, signal.act, signal.traceparent)
            entry, firing = advance(trigger, entry, seen_, steps)
            fired = firing or fired
    if entry is not None and entry.due < until:
        fired, entry = wake(trigger, entry) or fired, None
    return entry, fired


async def judged_up_to(sources: Sources, question: Question, product: str | None) -> int | None:
    """Event time of the product as DECIDE has judged it."""
    if product is None:
        return None
    task: RegistersTask = await sources.registers(question.tenant, product)
    state = task.product(question.tenant, product)
    return None if state is None else state.judged


def looked(tail: Tail, what: str) -> str:
    """How far back a tail was read."""
    reach = "all that the topic holds" if tail.whole else f"the newest rows, from {when(tail.since)} on (broker time)"
    return f"{what}: {reach}"


async def _nearest(
    sources: Sources,
    question: Question,
    topic: str,
    wheres: list[Condition | None],
    signals: Tail,
    product: str | None,
    watermark: int | None,
    held: list[Check],
) -> Answer:
    """No row woke the rule: the subject's row that came nearest, and its first predicate that failed."""
    rows = [(s.at, {**_facts(s)}) for s in _signals(signals, question)]
    said = looked(signals, "signals")
    if question.kind in ("user", "contact"):
        tail = await sources.tail(topic, f"{question.tenant}|{question.name}".encode())
        rows = [
            (at, {**fields, **_about(question, str(fields.get("product")), at)})
            for at, fields in events_of(tail)
            if at <= question.until and question.product in (None, fields.get("product"))
        ]
        said = looked(tail, topic)
    common: dict[str, Any] = {"guards": held, "looked": said}
    if not rows:
        nothing = f"no event of {question.subject} was seen on {topic}"
        return frame(question, product, watermark, verdict="nothing_seen", reason=nothing, **common)
    best: tuple[float, int, list[Check], dict[str, object]] | None = None
    for at, facts in rows[-_CANDIDATES:]:
        flat = flatten(facts)
        for where in wheres:
            asked = checks(where, flat)
            if best is None or (share_held(asked), at) > best[:2]:
                best = share_held(asked), at, asked, flat
    assert best is not None
    _, at, asked, flat = best
    what = seen(str(flat.get("type")), at, str(flat.get("id")))
    common |= {"seen": what, "trigger": asked}
    failed = first_failed(asked)
    if failed is not None:
        near = (
            f"the event of {question.subject} that came nearest ({what.what} at {when(at)}) is not what it waits for: "
            f"{told(failed)}"
        )
        return frame(question, product, watermark, verdict="not_met", reason=near, **common)
    if question.asked.effective_from > at:
        reason = (
            f"version {question.asked.version} applies to what happens from {when(question.asked.effective_from)} on"
        )
        return frame(question, product, watermark, verdict="not_in_force", reason=reason, **common)
    behind = (
        f"an event at {when(at)} is what it waits for, and was not sent on: METER has not read it yet or dropped it, or the rule "
        "came later"
    )
    return frame(question, product, watermark, verdict="not_judged", reason=behind, **common)


def _signals(tail: Tail, question: Question) -> list[Signal]:
    return [
        s
        for s in signals_of(tail)
        if s.kind == "event" and s.at <= question.until and question.product in (None, s.product)
    ]


def _facts(signal: Signal) -> dict[str, object]:
    about = {"tenant": signal.tenant, "product": signal.product, "subject": signal.subject, "at": signal.at}
    return flatten({**signal.data, **about})


def _about(question: Question, product: str | None, at: int) -> dict[str, object]:
    return {"tenant": question.tenant, "product": product, "subject": question.subject, "at": at}


def _asked(where: Condition | None, facts: dict[str, object]) -> list[Check]:
    return checks(where, facts)


def _holds(where: Condition | None, facts: dict[str, object]) -> bool:
    return first_failed(checks(where, facts)) is None


def _progress(trigger: Remembering, entry: Entry | None) -> list[Check]:
    if entry is None:
        return []
    match trigger:
        case OnCount():
            text = f"{trigger.times} times within {trigger.within_s} s"
            times: Any = len(entry.times)
            return [Check(text=text, value=times, held=times >= trigger.times)]
        case OnSequence():
            return [
                Check(
                    text=f"step {i + 1}: {_text(step.where)}",
                    value=None if i >= len(entry.times) or entry.times[i] == NEVER else entry.times[i],
                    held=i < len(entry.times) and entry.times[i] != NEVER,
                )
                for i, step in enumerate(trigger.steps)
            ]
        case OnAbsence() | OnInactivity():
            began = None if entry.anchor is None else entry.anchor.at
            return [
                Check(text="waiting since", value=began, held=True),
                Check(text="deadline has passed", value=entry.due, held=False),
            ]


def _missing(trigger: Remembering, entry: Entry) -> list[str]:
    match trigger:
        case OnCount():
            return [f"{trigger.times - len(entry.times)} more of: {_text(trigger.where)}, before {when(entry.due)}"]
        case OnSequence():
            reached = max((i for i, at in enumerate(entry.times) if at != NEVER), default=-1)
            return [f"step {i + 1}: {_text(s.where)}" for i, s in enumerate(trigger.steps) if i > reached]
        case OnAbsence():
            return [f"nothing of `{_text(trigger.then.where)}` up to {when(entry.due)}"]
        case OnInactivity():
            return [f"nothing of `{_text(trigger.where)}` up to {when(entry.due)}"]


def _text(where: Condition | None) -> str:
    return "any event" if where is None else to_cel(where)

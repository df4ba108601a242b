"""One question, whatever wakes the rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from app.store import queries
from app.why.events import did, entered, remembered
from app.why.findings import found
from app.why.runs import ran
from app.why.sources import CannotTell, Question, Sources
from core.definitions import Catalogue
from core.rules.waiting import remembers
from schemas.definitions import ALL_TENANTS, OnEvent, OnSegment, Rule, Workflow
from schemas.why import Answer

LINES: Final = 20
"""Of the activity log, in an answer."""


def named(catalogue: Catalogue, tenant: str, name: str) -> Rule | Workflow:
    """The rule or workflow of that name or id in force for the tenant, its own before everybody's; where there is none, a retired
    workflow, whose runs may go on. Raises `CannotTell`.
    """
    known: list[Rule | Workflow] = [*catalogue.of(Rule, tenant), *catalogue.of(Workflow, tenant)]
    matching = _called(known, tenant, name) or _called(_retired(catalogue, tenant), tenant, name)
    exact = [d for d in matching if d.name == name]
    if not matching:
        raise CannotTell(
            f"no rule or workflow {name!r} is in force for {tenant}: `uptake plan --show` and the API list them"
        )
    if len(exact or matching) > 1:
        names = ", ".join(f"{d.kind} {d.name}" for d in matching)
        raise CannotTell(f"{name!r} is the id of several ({names}): give a name")
    return (exact or matching)[0]


def _called(known: Iterable[Rule | Workflow], tenant: str, name: str) -> list[Rule | Workflow]:
    by_name: dict[tuple[str, str], Rule | Workflow] = {}
    for one in sorted(known, key=lambda d: d.tenant == tenant):
        by_name[one.kind, one.name] = one
    return [d for d in by_name.values() if name in (d.name, d.id)]


def _retired(catalogue: Catalogue, tenant: str | None) -> list[Workflow]:
    return [w for w in catalogue.retired() if tenant is None or w.tenant in (tenant, ALL_TENANTS)]


def ids_of(catalogue: Catalogue, tenant: str | None, name: str) -> list[str]:
    """The id and the name of whatever the activity log may call it: its commands bear the id, its runs the name."""
    known: list[Rule | Workflow] = [*catalogue.of(Rule, tenant), *catalogue.of(Workflow, tenant)]
    known += _retired(catalogue, tenant)
    return sorted({name, *(part for d in known if name in (d.name, d.id) for part in (d.name, d.id))})


async def why(
    sources: Sources, tenant: str, name: str, subject: str, *, product: str | None = None, at: int | None = None
) -> Answer:
    """Why the rule (or workflow) of that name or id fired for the subject at `at` (event time; None: now), or why not.

    Raises `CannotTell` where the question does not name one thing.
    """
    if ":" not in subject:
        raise CannotTell(f"{subject!r} is no subject: give kind:name, as user:ann, feature:export or product:shop")
    question = Question(tenant, subject, named(sources.catalogue, tenant, name), product, at)
    answer = await _answer(sources, question)
    lines = await queries.list_activity(
        sources.store,
        tenant=tenant,
        rules=[question.asked.id, question.asked.name],
        subject=subject,
        until=None if at is None else at + 1,
        limit=LINES,
    )
    return answer.model_copy(update={"activity": lines})


async def _answer(sources: Sources, question: Question) -> Answer:
    asked = question.asked
    if isinstance(asked, Workflow):
        return await ran(sources, question, asked)
    if isinstance(asked.trigger, OnEvent):
        return await did(sources, question, asked, asked.trigger)
    if isinstance(asked.trigger, OnSegment):
        return await entered(sources, question, asked, asked.trigger)
    remembering = remembers(asked.trigger)
    if remembering is not None:
        return await remembered(sources, question, asked, remembering)
    return await found(sources, question, asked)

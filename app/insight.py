"""Insight: how the automations of a span of event time went, counted from the activity log."""

from __future__ import annotations

from pydantic import BaseModel

from app.store import Store, queries
from core.definitions import Catalogue
from schemas.definitions import Rule, Workflow
from schemas.envelope import Millis


class Insight(BaseModel):
    """How the automations of a span of event time went. Rates are null where nothing is to be counted."""

    since: Millis
    until: Millis | None
    rules_in_force: int
    workflows_in_force: int
    workflows_paused: int
    workflows_active: int
    """Workflows of which a run did something in the span."""
    runs_began: int
    runs_ended: dict[str, int]
    """By how: completed, goal, exited, expired, cancelled, failed."""
    completion_rate: float | None
    """Runs that were completed or reached their goal, of those that ended."""
    commanded: int
    suppressed: int
    failed: int
    delivered: int
    rejected: int
    action_success_rate: float | None
    """Deliveries that arrived, of those that ended."""


async def insight(
    store: Store, catalogue: Catalogue, tenant: str | None, since: Millis = 0, until: Millis | None = None
) -> Insight:
    """The figures of a tenant (None: of all)."""
    counted = await queries.count_activity(store, tenant=tenant, since=since, until=until)
    ended: dict[str, int] = {}
    by: dict[str, int] = {}
    for _, what, how, lines in counted:
        by[what] = by.get(what, 0) + lines
        if what == "ended" and how is not None:
            ended[how] = ended.get(how, 0) + lines
    workflows = catalogue.of(Workflow, tenant)
    paused = [w for w in workflows if any(catalogue.paused(tenant or w.tenant, rule=name) for name in {w.id, w.name})]
    done, over = ended.get("completed", 0) + ended.get("goal", 0), sum(ended.values())
    arrived, lost = by.get("delivered", 0), by.get("rejected", 0)
    return Insight(
        since=since,
        until=until,
        rules_in_force=len(catalogue.of(Rule, tenant)),
        workflows_in_force=len(workflows),
        workflows_paused=len(paused),
        workflows_active=len({rule for rule, what, _, _ in counted if what in ("began", "entered", "event", "ended")}),
        runs_began=by.get("began", 0),
        runs_ended=ended,
        completion_rate=done / over if over else None,
        commanded=by.get("commanded", 0),
        suppressed=by.get("suppressed", 0),
        failed=by.get("failed", 0),
        delivered=arrived,
        rejected=lost,
        action_success_rate=arrived / (arrived + lost) if arrived + lost else None,
    )

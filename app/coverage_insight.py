"""P7 in `uptake coverage`: what Uptake tells of its own automations, beside a plain count of what stands in the log.

A row here is a figure and not a command: it is there where its cause was planted (fired), it stands where people read it, in the read
model or in a public table (arrived), the world without the cause has none of it (silent), and it is the count (numbers).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from app.acting_out import Played
from app.coverage_report import Row
from app.definitions import load
from app.insight import insight
from app.oracle.judged import Judge
from app.simulate import reported
from app.store import open_store, queries
from app.trial import Trial

CLOSE = 1e-9
MOST = 1_000
PRODUCTS = (reported.PRODUCT, reported.TWIN)
Counted = Mapping[str, float]
"""Rows of events that METER counted, by what became of them."""


async def run_rows(
    made: Trial, plays: Iterable[Played], commands: Iterable[Mapping[str, Any]], counted: Counted
) -> tuple[list[Row], list[str]]:
    """What the activity log and its figures say of the tests that were acted out; where that differs from the log in Kafka.

    The workers are stopped, the read model has everything.
    """
    tests, given = list(plays), list(commands)
    history = await made.records("runs")
    delivered = sum(r["status"] == "delivered" for r in await made.records("receipts"))
    began = {r["run"] for r in history}
    ended = Counter({r["run"]: r["status"] for r in history if r["status"] != "running"}.values())
    good = ended["completed"] + ended["goal"]
    store = await open_store(made.settings.store_url)
    try:
        told = await insight(store, await load(made.settings), None)
        lines = {t.test.tenant: await queries.list_activity(store, tenant=t.test.tenant, limit=MOST) for t in tests}
    finally:
        await store.close()
    of = {(t.test.tenant, t.test.of): t for t in tests}
    said = {at: [x for x in lines[at[0]] if x.what == "commanded" and x.rule == at[1]] for at in of}
    still = lines.keys() - {r["tenant"] for r in history}
    silent = [at for at, play in of.items() if not play.test.wanted]
    unlike: list[str] = []

    def row(name: str, fired: bool, arrived: bool, quiet: bool, **figures: tuple[Any, Any]) -> Row:
        wrong = [
            f"P7.{name}: {k} is {is_!r}, the log says {right!r}" for k, (is_, right) in figures.items() if is_ != right
        ]
        unlike.extend(wrong)
        return Row(f"P7.{name}", None, fired, arrived, quiet, not wrong, 0)

    logged = {x.command for found in said.values() for x in found}
    mine = {c["id"] for c in given if (c["tenant"], c["rule"]) in of}
    found = [
        row(
            "activity-log",
            bool(logged),
            all(any(x.run == run for x in lines.get(t, ())) for run, t in {(r["run"], r["tenant"]) for r in history}),
            bool(silent) and not any(x.at <= of[at].test.until for at in silent for x in said[at]),
            commands=(len(logged), len(mine)),
            ids=(logged, mine),
        ),
        row(
            "workflows",
            told.workflows_in_force > 0,
            told.workflows_active > 0,
            told.workflows_paused == 0,
            active=(told.workflows_active, len({r["workflow"] for r in history})),
            began=(told.runs_began, len(began)),
        ),
        row(
            "completion-rate",
            told.completion_rate is not None,
            bool(told.runs_ended),
            bool(still) and not any(x.what in ("began", "ended") for t in still for x in lines[t]),
            ended=(told.runs_ended, dict(ended)),
            rate=(told.completion_rate, good / ended.total() if ended else None),
        ),
        row(
            "action-success",
            told.action_success_rate is not None,
            told.delivered > 0,
            told.rejected == 0,
            delivered=(told.delivered, delivered),
            commanded=(told.commanded, len(given)),
            rate=(told.action_success_rate, 1.0),
        ),
        row(
            "events",
            counted.get("accepted", 0) > 0,
            True,
            not counted.get("dead") and not counted.get("duplicate"),
            accepted=(counted.get("accepted"), sum(len(t.test.events) for t in tests)),
        ),
    ]
    return found, unlike


async def measured_rows(made: Trial, judge: Judge) -> tuple[list[Row], list[str]]:
    """Conversion lift and satisfaction of I's world: the table of outcomes, and the component of health."""
    unlike: list[str] = []
    outcomes = {(r["product"], r["rule"]): r for r in await made.records("outcomes")}
    lift = outcomes.get((reported.PRODUCT, reported.TRIAL.id))
    treated, held = reported.HELD.count(False), reported.HELD.count(True)
    right = {"uplift": 1.0, "treated": treated, "held": held, "verdict": "working"}
    is_ = {} if lift is None else lift | {arm: (lift[arm] or {}).get("subjects") for arm in ("treated", "held")}
    unlike += [
        f"P7.conversion-lift: {k} is {is_.get(k)!r}, planted was {v!r}" for k, v in right.items() if is_.get(k) != v
    ]
    lifted = Row(
        "P7.conversion-lift",
        None,
        lift is not None,
        bool(is_),
        (reported.TWIN, reported.TRIAL.id) not in outcomes,
        not unlike,
        0,
    )
    rows = [r for r in await made.records("tables.health") if r["tenant"] == reported.TENANT]
    shown = {name: [r for r in rows if r["product"] == name and "satisfaction" in r["components"]] for name in PRODUCTS}
    differing: list[str] = []
    for row in (r for r in rows if r["product"] == reported.PRODUCT):
        is_ = row["components"].get("satisfaction")
        wanted = judge.health[(reported.TENANT, reported.PRODUCT), row["at"]]["components"].get("satisfaction")
        same = is_ is None or wanted is None or abs(is_["score"] - wanted["score"]) <= CLOSE
        if (is_ is None) != (wanted is None) or not same:
            differing.append(f"P7.satisfaction: {is_} at {row['at']}, the oracle says {wanted}")
    there = bool(shown[reported.PRODUCT])
    satisfied = Row("P7.satisfaction", None, there, there, not shown[reported.TWIN], there and not differing, 0)
    return [lifted, satisfied], unlike + differing

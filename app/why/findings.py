"""Rules that wake on figures: stages, bands, thresholds, anomalies, schedules. What was found last, and where the figures stand."""

from __future__ import annotations

from typing import Any, Final

from app.store import queries
from app.why.common import frame, guards, judged, seen, when
from app.why.sources import CannotTell, Question, Sources
from core.decide.anomalies import Series
from core.decide.explain import facts_of
from core.decide.gauges import about_of, names_of
from core.decide.product import ProductState
from core.decide.task import RegistersTask
from core.rules.matching import name_of
from core.rules.matching import names_of as woken_by
from core.rules.why import band_checks, first_failed, stage_checks, threshold_checks, told, viral_checks
from schemas.definitions import (
    Detector,
    OnAnomaly,
    OnBand,
    OnPrediction,
    OnSchedule,
    OnStage,
    OnThreshold,
    OnViral,
    Prediction,
    Product,
    Rule,
    Threshold,
    Trigger,
)
from schemas.detections import Detection, ThresholdCrossed
from schemas.why import Answer, Check, Verdict

_LOOKED_AT: Final = 500
_WAKES: Final = {
    "stage": "it wakes when a feature enters a stage (past the border by the margin, at two ends in a row)",
    "viral": "it wakes when a feature becomes viral",
    "band": "it wakes when a product's health enters a band (past the border by the margin, at two ends in a row)",
    "threshold": "it wakes when the threshold crosses or clears",
    "anomaly": "it wakes when the anomaly begins or ends",
    "schedule": "it wakes when it is due",
    "prediction": "it wakes when the user's probability crosses (or clears) at the end of a day, while the quality gate is open",
}


async def found(sources: Sources, question: Question, rule: Rule) -> Answer:
    """The newest finding that woke the rule up to then and what became of it; without one, which figure was not there."""
    product = await product_of(sources, question)
    task = await sources.registers(question.tenant, product)
    state = task.product(question.tenant, product)
    watermark = None if state is None else state.judged
    woke = await newest(sources, question, product, rule.trigger, rule.name)
    trigger, nothing = await _figures(sources, question, rule, product, state)
    at = question.at if question.at is not None else max(watermark or 0, woke.at if woke else 0)
    held = await guards(sources, question, rule, product, at, task.actor)
    common: dict[str, Any] = {
        "trigger": trigger,
        "guards": held,
        "due": _due(rule.trigger, at),
        "looked": _looked(task, state),
    }
    if woke is not None:
        facts = facts_of(woke.model_dump())
        verdict, reason, condition = await judged(sources, question, rule, facts, woke.id, woke.at)
        since = f"nothing since has woken it: {_WAKES[rule.trigger.kind]}" if verdict == "fired" else ""
        said = "; ".join(part for part in (reason, since) if part)
        what = seen(f"{woke.kind} of {woke.subject}", woke.at, woke.id)
        return frame(
            question, product, watermark, verdict=verdict, reason=said, seen=what, condition=condition, **common
        )
    verdict, reason = _unwoken(question, rule, watermark, trigger, nothing, at)
    return frame(question, product, watermark, verdict=verdict, reason=reason, **common)


async def newest(
    sources: Sources, question: Question, product: str, trigger: Trigger, name: str = ""
) -> Detection | None:
    """The newest detection about the subject, up to then, that meets the trigger."""
    wanted = set(woken_by(trigger, name))
    listed = await queries.list_detections(
        sources.store,
        tenant=question.tenant,
        product=product,
        subject=question.subject,
        before=(question.until, "\U0010ffff") if question.at is None else (question.until + 1, "\U0010ffff"),
        limit=_LOOKED_AT,
    )
    return next((d for d in listed if name_of(d) in wanted), None)


async def product_of(sources: Sources, question: Question) -> str:
    """The one product that is meant. Raises `CannotTell`."""
    if question.product is not None:
        return question.product
    if question.kind == "product":
        return question.name
    several = (
        await queries.products_of(sources.store, tenant=question.tenant, feature=question.name)
        if question.kind == "feature"
        else []
    )
    if not several:
        listed = await queries.list_detections(sources.store, tenant=question.tenant, subject=question.subject)
        several = sorted({d.product for d in listed})
    if not several:
        several = [p.product for p in await queries.products(sources.store, tenant=question.tenant)]
    if len(several) != 1:
        raise CannotTell(
            f"say which product: {', '.join(several[:20]) or 'the read model knows none of ' + question.tenant}"
        )
    return several[0]


def _unwoken(
    question: Question, rule: Rule, watermark: int | None, trigger: list[Check], nothing: str | None, at: int
) -> tuple[Verdict, str]:
    if nothing is not None:
        return "nothing_seen", nothing
    if watermark is not None and question.at is not None and question.at > watermark:
        return "not_judged", f"the product is judged up to {when(watermark)} only, which is before {when(question.at)}"
    failed = first_failed(trigger)
    if failed is not None:
        return "not_met", f"{told(failed)}; {_WAKES[rule.trigger.kind]}"
    if rule.effective_from > at:
        return "not_in_force", f"version {rule.version} applies to what happens from {when(rule.effective_from)} on"
    return "waiting", f"the figure is there and the change is not (yet) made: {_WAKES[rule.trigger.kind]}"


async def _figures(
    sources: Sources, question: Question, rule: Rule, product: str, state: ProductState | None
) -> tuple[list[Check], str | None]:
    """Where the trigger's figures stand, and what to say where there are none."""
    cfg = sources.catalogue.product(question.tenant, product)
    store, about = sources.store, {"tenant": question.tenant, "product": product}
    match rule.trigger:
        case OnStage() | OnViral() as trigger:
            rows = await queries.adoption(store, window=cfg.stage_window, at=question.at, **about)
            row = next((r for r in rows if r.feature == question.name), None)
            if row is None:
                return (
                    [],
                    f"there are no figures of {question.subject} in {product} in a window of {cfg.stage_window} then",
                )
            return (stage_checks(trigger, row, cfg) if isinstance(trigger, OnStage) else viral_checks(row, cfg)), None
        case OnBand() as trigger:
            health = await queries.health_rows(store, at=question.at, **about)
            if not health:
                return [], f"there is no health of {product} then"
            return band_checks(trigger, health[0], cfg), None
        case OnThreshold() as trigger:
            return await _threshold(sources, question, trigger, product, cfg, state)
        case OnAnomaly() as trigger:
            return _anomaly(sources, question, trigger, product, cfg, state)
        case OnPrediction() as trigger:
            return await _prediction(sources, question, trigger, product)
        case OnSchedule() as trigger:
            if trigger.product not in (None, product):
                return [], f"the schedule is of product {trigger.product}"
            at = question.at if question.at is not None else (state.judged if state is not None else 0)
            return [Check(text="due before", value=trigger.before(at + 1), held=None)], None
        case _:
            raise TypeError(f"{rule.trigger.kind} does not wake on figures")


async def _threshold(
    sources: Sources, question: Question, trigger: OnThreshold, product: str, cfg: Product, state: ProductState | None
) -> tuple[list[Check], str | None]:
    threshold = _named(sources.catalogue.of(Threshold, question.tenant), trigger.threshold, product)
    if threshold is None:
        return [], f"no threshold {trigger.threshold!r} is in force for {product}"
    name = _gauge(question, threshold, product)
    if name is None:
        return [], f"threshold {threshold.name} is not about {question.subject}"
    if question.at is None and state is not None:
        value = state.alarms.gauges.value(threshold.metric, threshold.window, name, cfg, state.vitals.score)
        stands = state.alarms.states.get((threshold.name, name))
        return threshold_checks(
            threshold, value, stands.phase if stands else "ok", stands.since if stands else None
        ), None
    if question.at is None:
        return [], f"DECIDE has not judged {product} yet"
    value = await _past(sources, question, threshold, product)
    edges = await queries.list_detections(
        sources.store,
        tenant=question.tenant,
        product=product,
        subject=question.subject,
        before=(question.until + 1, "\U0010ffff"),
    )
    edge = next((d for d in edges if getattr(d, "threshold", None) == threshold.name), None)
    phase = "firing" if isinstance(edge, ThresholdCrossed) else "ok"
    return threshold_checks(threshold, value, phase, edge.at if edge is not None else None), None


async def _past(sources: Sources, question: Question, threshold: Threshold, product: str) -> float | None:
    """The figure then, as far as tables tell it."""
    about = {"tenant": question.tenant, "product": product}
    if threshold.metric == "health_score":
        health = await queries.health_rows(sources.store, at=question.at, **about)
        return health[0].score if health else None
    if threshold.metric in ("adoption_rate", "users", "events"):
        rows = await queries.adoption(sources.store, window=threshold.window, at=question.at, **about)
        row = next((r for r in rows if r.feature == question.name), None)
        return None if row is None else getattr(row, threshold.metric)
    return None


async def _prediction(
    sources: Sources, question: Question, trigger: OnPrediction, product: str
) -> tuple[list[Check], str | None]:
    """The user's probability as METER's last checkpoint has them, and the quality gate; of the past only edges tell."""
    prediction = _named(sources.catalogue.of(Prediction, question.tenant), trigger.prediction, product)
    if prediction is None:
        return [], f"no prediction {trigger.prediction!r} is in force for {product}"
    if question.kind != "user":
        return [], f"predictions are about users, not {question.kind}s"
    if question.at is not None:
        return [], f"{question.subject} had not crossed {prediction.name} then (probabilities of the past are not kept)"
    stands = await sources.standing(question.tenant, product, question.name, prediction)
    if stands is None:
        return [], (
            f"{question.subject} is not among those asked about (never seen, gone for long, or converted), or too few users teach"
        )
    gate: Any = {"calibration_error": stands.calibration_error, "measured": stands.measured, "trusted": stands.trusted}
    state: Any = {"phase": stands.phase, "since": stands.since, "for_s": prediction.for_s}
    return [
        Check(
            text=f"probability > {prediction.limit}",
            value=stands.probability,
            held=stands.probability > prediction.limit,
        ),
        Check(text=f"quality gate: calibration_error <= {prediction.max_error}", value=gate, held=stands.trusted),
        Check(text='phase == "firing"', value=state, held=stands.phase in ("firing", "recovering")),
    ], None


def _anomaly(
    sources: Sources, question: Question, trigger: OnAnomaly, product: str, cfg: Product, state: ProductState | None
) -> tuple[list[Check], str | None]:
    detector = _named(sources.catalogue.of(Detector, question.tenant), trigger.detector, product)
    if detector is None:
        return [], f"no detector {trigger.detector!r} is in force for {product}"
    name = _gauge(question, detector, product)
    series: Series | None = None if state is None or name is None else state.anomalies.series.get((detector.name, name))
    if series is None:
        return [], f"detector {detector.name} has read nothing of {question.subject} in {product}"
    phase: Any = {"phase": series.state.phase, "since": series.state.since}
    return [
        Check(text=f"readings >= {detector.learn}", value=series.readings, held=series.readings >= detector.learn),
        Check(text=f"{detector.metric}, newest reading", value=series.value, held=None),
        Check(text='phase == "firing"', value=phase, held=series.state.phase in ("firing", "recovering")),
    ], None


def _gauge(question: Question, of: Threshold | Detector, product: str) -> str | None:
    """The name under which the subject's figure is looked at; None where it is not."""
    names = names_of(of.metric, of.of, lambda: [question.name])
    return next((n for n in names if about_of(of.metric, n, product) == question.subject), None)


def _named(known: list[Any], name: str, product: str) -> Any:
    mine = [d for d in known if d.name == name and d.product in (None, product)]
    return max(mine, key=lambda d: d.tenant != "all", default=None)


def _due(trigger: Trigger, at: int) -> int | None:
    return trigger.after(at) if isinstance(trigger, OnSchedule) else None


def _looked(task: RegistersTask, state: ProductState | None) -> str:
    return (
        "the read model, and DECIDE's state as of its last checkpoint"
        if state is not None
        else "the read model; DECIDE's state knows nothing of the product"
    )

"""What a workflow waits for among single events, as METER selects rows: its trigger and its named events; of a retired one the
events that its runs may still wait for.
"""

from __future__ import annotations

from schemas.definitions import OnBand, OnEvent, OnPrediction, OnSegment, OnStage, OnViral, Workflow
from schemas.envelope import SubjectKind


def waits_of(workflow: Workflow) -> list[OnEvent]:
    """An event trigger for each; `same` is left out, so rows are selected no narrower than runs ask."""
    if workflow.retired not in (None, "finish"):
        return []
    waits = [workflow.trigger] if isinstance(workflow.trigger, OnEvent) and workflow.retired is None else []
    for pattern in (*workflow.events.values(), *workflow.earlier):
        if pattern.topic == "detections":  # no event: DECIDE tells them
            continue
        waits += [OnEvent(topic=pattern.topic, where=pattern.where, subject=kind) for kind in subjects_of(workflow)]
    return waits


def subjects_of(workflow: Workflow) -> list[SubjectKind]:
    """Kinds of subjects that its runs are about."""
    match workflow.trigger:
        case OnEvent(subject=kind):
            return [kind]
        case OnSegment():
            return ["user", "contact", "account"]
        case OnStage() | OnViral():
            return ["feature"]
        case OnBand():
            return ["product"]
        case OnPrediction():
            return ["user"]
        case _:
            return ["product", "feature", "service"]

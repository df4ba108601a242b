"""Definitions: configuration as data, on the compacted topic `definitions`. The single source of configuration.

Every definition is written under `tenant|kind|name|version` and, as its head, under `tenant|kind|name`. A head with no
value (tombstone) retires it. The tenant `*`… is written `all`: it applies to every tenant.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, TypeAdapter, field_validator

from schemas.conditions import All as All
from schemas.conditions import AnyOf as AnyOf
from schemas.conditions import Bounded as Bounded
from schemas.conditions import Compare as Compare
from schemas.conditions import Condition as Condition
from schemas.conditions import During as During
from schemas.conditions import Not as Not
from schemas.described import ALL_TENANTS as ALL_TENANTS
from schemas.described import FORMAT as FORMAT
from schemas.described import DefinitionName as DefinitionName
from schemas.described import Described as Described
from schemas.detectors import STEP_S as STEP_S
from schemas.detectors import Detector as Detector
from schemas.detectors import DetectorName as DetectorName
from schemas.detectors import Metric as Metric
from schemas.detectors import Threshold as Threshold
from schemas.envelope import Word
from schemas.journeys import Workflow as Workflow
from schemas.operating import ApiKey as ApiKey
from schemas.operating import Connection as Connection
from schemas.operating import Forgotten as Forgotten
from schemas.operating import Pause as Pause
from schemas.operating import Policy as Policy
from schemas.operating import Proposal as Proposal
from schemas.operating import Silence as Silence
from schemas.operating import pause_name as pause_name
from schemas.predictions import Prediction as Prediction
from schemas.predictions import PredictionModel as PredictionModel
from schemas.products import HealthWeights as HealthWeights
from schemas.products import Product as Product
from schemas.rules import CommandTemplate as CommandTemplate
from schemas.rules import OnAnomaly as OnAnomaly
from schemas.rules import OnBand as OnBand
from schemas.rules import OnEvent as OnEvent
from schemas.rules import OnPrediction as OnPrediction
from schemas.rules import OnReport as OnReport
from schemas.rules import OnSegment as OnSegment
from schemas.rules import OnStage as OnStage
from schemas.rules import OnThreshold as OnThreshold
from schemas.rules import OnVerdict as OnVerdict
from schemas.rules import OnViral as OnViral
from schemas.rules import Rule as Rule
from schemas.rules import Trigger as Trigger
from schemas.segments import Campaign as Campaign
from schemas.segments import Segment as Segment
from schemas.sources import Hook as Hook
from schemas.sources import Source as Source
from schemas.triggers import OnAbsence as OnAbsence
from schemas.triggers import OnCount as OnCount
from schemas.triggers import OnInactivity as OnInactivity
from schemas.triggers import OnSchedule as OnSchedule
from schemas.triggers import OnSequence as OnSequence

Definition = Annotated[
    Product
    | Segment
    | Campaign
    | Source
    | Hook
    | Rule
    | Workflow
    | Threshold
    | Detector
    | Prediction
    | Connection
    | Pause
    | Silence
    | Policy
    | Proposal
    | Forgotten
    | ApiKey,
    Field(discriminator="kind"),
]
DEFINITION: TypeAdapter[Definition] = TypeAdapter(Definition)


class SecretReference(Word):
    """Where a secret is: an environment variable or a file. Never its value."""

    env: str | None = None
    file: str | None = None

    @field_validator("file")
    @classmethod
    def _one(cls, value: str | None) -> str | None:
        return value


Secret = SecretStr


def head_key(definition: Definition) -> bytes:
    """`tenant|kind|name`: the newest version stands here."""
    return f"{definition.tenant}|{definition.kind}|{definition.name}".encode()


def version_key(definition: Definition) -> bytes:
    """`tenant|kind|name|version`: this version stands here for good."""
    return f"{definition.tenant}|{definition.kind}|{definition.name}|{definition.version}".encode()

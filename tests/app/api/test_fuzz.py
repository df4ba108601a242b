"""schemathesis: whatever fits the OpenAPI document, and much that does not, is answered as the document says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.generate import ROOT
from tests.helpers.gateway import Served

SCHEMA = schemathesis.openapi.from_path(Path(ROOT) / "openapi.json")
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


OPERATIONS = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}


@pytest.mark.kafka
@pytest.mark.parametrize(
    "operation", OPERATIONS
)  # by hand: schemathesis gives all of them one name, and two processes need names
def test_every_operation_answers_as_documented(operation: str, gateway: Served) -> None:
    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(OPERATIONS[operation].as_strategy())
    def answered(case: Any) -> None:
        for role in ("product_director", "operations"):
            case.call_and_validate(
                base_url=gateway.url,
                headers={"authorization": f"Bearer {gateway.keys['acme', role]}"},
                checks=CHECKS,
                timeout=30,
            )

    answered()


def test_the_document_covers_every_endpoint() -> None:
    document = json.loads((ROOT / "openapi.json").read_text())
    assert len(OPERATIONS) == sum(len(methods) for methods in document["paths"].values())

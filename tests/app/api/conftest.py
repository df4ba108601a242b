"""One gateway a session: tests use products of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.gateway import Served, serve
from tests.helpers.kafka import delete_topics, fresh_prefix


@pytest.fixture(scope="session")
def gateway(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    prefix = fresh_prefix("gateway")
    with serve(kafka, prefix, tmp_path_factory.mktemp("gateway"), api_requests_per_s=10_000) as served:
        yield served
    delete_topics(kafka, prefix)

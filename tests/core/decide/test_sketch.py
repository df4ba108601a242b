"""Whose bucket a cell is, where names hold the very mark."""

from __future__ import annotations

import pytest

from core.decide.measures import REQUESTS
from core.decide.sketch import Buckets
from schemas.registers import ZERO_BUCKET, bucket_cell, bucket_of
from tests.core.decide.test_alarms import COLUMNS, a_product, feed, requests


def test_a_service_with_a_hash_in_its_name_has_its_own_quantiles() -> None:
    product = a_product([])
    end = 1_767_225_610_000
    counts = {
        "*": 9, "service:api": 4, "service:api#300": 5, "#159:service:api": 4, "#200:service:api#300": 5,
        "#159:*": 4, "#200:*": 5,
    }  # fmt: skip
    rows = [requests(n) for n in counts.values()]
    feed(product, "events.performance", end, list(counts), {c: [r[i] for r in rows] for i, c in enumerate(COLUMNS)})
    product.performance.windows["5m"].apply(end)
    performance = product.performance
    buckets = Buckets(performance)
    assert performance.windows["5m"].totals[performance.cells(["service:api#300"])[0], REQUESTS] == 5
    assert buckets.quantile_ms("5m", "service:api", 0.95) == pytest.approx(2**10 / 1000)
    assert buckets.quantile_ms("5m", "service:api#300", 0.95) == pytest.approx(2 ** (201 / 16) / 1000)
    assert buckets.quantile_ms("5m", "service", 0.95) is None


@pytest.mark.parametrize("name", ["*", "service:a", "service:a#1", "feature:#zero:x", "service:#5:*", "service:"])
def test_cells_of_buckets_read_as_they_were_written(name: str) -> None:
    assert bucket_of(name) is None
    for bucket in (ZERO_BUCKET, -1, 0, 159):
        assert bucket_of(bucket_cell(name, bucket)) == (name, bucket)

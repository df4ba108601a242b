"""Cancelled by whom: aiokafka cancels what waits for a broker that went away, which looks as if our caller had ended us."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import KafkaError


@contextmanager
def by_us_alone() -> Iterator[None]:
    """A cancellation that nobody asked of this task is a `KafkaError`: taken for an end, it would leave a partition to nobody."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise KafkaError("the Kafka client cancelled what was asked of it") from None

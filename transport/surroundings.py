"""What this room takes from outside: Kafka clients and clocks. A simulation gives its own (`tests/sim`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer

from transport.fetching import block_consumer


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Given to everything here that opens a client or reads a clock; `REAL` unless somebody says otherwise."""

    producer: Callable[..., Any] = AIOKafkaProducer
    """Arguments as `AIOKafkaProducer`."""
    consumer: Callable[..., Any] = block_consumer
    """Arguments as `fetching.block_consumer`."""
    wall: Callable[[], float] = time.time
    """Seconds since the epoch."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds since any moment."""
    turn_s: float = 0.05
    """How long a task may work before others have their turn on the event loop, where it lets them."""


REAL = Surroundings()

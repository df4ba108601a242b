"""The way to the broker: every request takes a while; in rough weather it is slow, lost, or done without an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from tests.sim.broker import Concurrent
from tests.sim.loop import SimLoop

USUAL_S = 0.0008
SLOW_S = 0.4
FOREVER = 1 << 30


class Glitch(Exception):
    """No answer: it may have been done or not."""


class Net:
    """One network, as good or bad for everybody."""

    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.rough_until = 0.0
        self.rough = 0.0
        """Share of requests that go wrong, until then."""
        self.refused_until = 0.0
        """Until then every other new connection is refused; those that stand, stand."""
        self.glitches = 0

    async def connect(self) -> None:
        """A client's first word with the cluster. Raises `KafkaConnectionError`, or is cancelled by the client itself."""
        await self.reliably(lambda: None, tries=2)
        if self.loop.now < self.refused_until and self.loop.random.random() < 0.5:
            # aiokafka cancels what waits for a broker that goes away, too; whoever asked must not take it for his own end.
            raise KafkaConnectionError("refused") if self.loop.random.random() < 0.7 else asyncio.CancelledError

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Have the broker do it. Raises `Glitch`, or what the broker says. Once sent it is done even if the caller dies."""
        loop, random = self.loop, self.loop.random
        reply = loop.create_future()
        delay = random.expovariate(1 / USUAL_S)
        back = random.expovariate(1 / USUAL_S)
        lost = unheard = False
        if loop.now < self.rough_until:
            fate = random.random() / self.rough
            lost, unheard = fate < 0.25, 0.25 <= fate < 0.5
            if fate < 0.75:
                delay += random.expovariate(1 / SLOW_S)
            elif fate < 1:
                back += random.expovariate(1 / SLOW_S)

        def answer(result: Any, error: Exception | None) -> None:
            if reply.done():
                return
            if error is not None:
                reply.set_exception(error)
            else:
                reply.set_result(result)

        def do() -> None:
            result, error = None, None
            if not lost:
                try:
                    result = function(*arguments)
                except Exception as failure:
                    error = failure
            if lost or unheard:
                self.glitches += 1
                error = Glitch()
            loop.at_broker(back, lambda: answer(result, error))

        loop.at_broker(delay, do)
        return await reply

    async def reliably(self, function: Callable[..., Any], *arguments: Any, tries: int = FOREVER) -> Any:
        """Ask until there is an answer, as clients do. Raises `KafkaTimeoutError` after so many tries without one."""
        while True:
            try:
                return await self.call(function, *arguments)
            except Concurrent:
                await asyncio.sleep(0.005)
            except Glitch:
                tries -= 1
                if not tries:
                    raise KafkaTimeoutError from None
                await asyncio.sleep(0.02)

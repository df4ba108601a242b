"""An event loop that hangs is told apart from one that turns, over HTTP, while it hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from app.probes import Health, Probes, Pulse
from app.telemetry import Telemetry


@contextmanager
def looping() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.mark.timeout(60)
def test_a_hung_event_loop_is_not_live_and_is_live_again_when_it_turns() -> None:
    pulse = Pulse(hangs_after_s=0.2, every_s=0.01)
    probes = Probes(Telemetry(), lambda: Health(started=True, ready=True, live=pulse.live), "127.0.0.1", 0)
    probes.start()
    let_go = threading.Event()
    try:
        with looping() as loop:
            beating = asyncio.run_coroutine_threadsafe(pulse.run(), loop)

            def until(status: int) -> None:
                while httpx.get(f"http://127.0.0.1:{probes.port}/livez").status_code != status:
                    pass

            until(200)
            loop.call_soon_threadsafe(let_go.wait)
            until(503)
            assert httpx.get(f"http://127.0.0.1:{probes.port}/startedz").status_code == 200
            let_go.set()
            until(200)
            beating.cancel()
    finally:
        let_go.set()
        probes.stop()

"""Faults of the destination of the commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from app.chaos.destination import Mood
from app.chaos.registry import kind
from app.chaos.stage import Stage


def _becomes(mood: Mood) -> Callable[[Stage], AsyncIterator[str]]:
    async def inject(stage: Stage) -> AsyncIterator[str]:
        before = sum(stage.destination.attempts.values())
        stage.destination.become(mood)
        try:
            yield f"after {before} attempts so far"
        finally:
            stage.destination.become("well")

    return inject


_MOODS: tuple[tuple[str, Mood, str], ...] = (
    ("hang", "hangs", "the destination takes requests and says nothing"),
    ("errors", "errors", "the destination answers 500"),
    ("resets", "resets", "the destination resets connections in the middle of a request"),
    ("throttles", "throttles", "the destination answers 429 with Retry-After"),
)
for _name, _mood, _what in _MOODS:
    kind(_name, _what, track="neighbours", lasts_s=(5.0, 9.0))(_becomes(_mood))

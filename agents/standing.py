"""How the destinations stand, as gauges of this process: breakers, and what is parked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agents.rooms import Wires
from core.delivery.breaker import State
from core.delivery.deliver import DeliverTask
from core.effects import Observe

_FIGURE: Final[dict[State, int]] = {"closed": 0, "half_open": 1, "open": 2}


class Standing:
    """Remembers what it told, so that what has gone elsewhere is taken back."""

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._shown: dict[str, State] = {}
        self._parked: dict[int, set[str]] = {}
        """By partition, the integrations whose parked deliveries were told."""

    def show(self, tasks: Sequence[DeliverTask]) -> None:
        """Tell what has changed. `tasks`: those that this process owns now."""
        self._show_breakers(tasks)
        self._clear_parked(tasks)

    def _show_breakers(self, tasks: Sequence[DeliverTask]) -> None:
        """A connection whose partition has gone elsewhere is closed here."""
        found = {name: breaker.state for task in tasks for name, breaker in task.breakers.items()}
        if found != self._shown:
            gone: dict[str, State] = dict.fromkeys(self._shown.keys() - found.keys(), "closed")
            self._wires.measure(
                Observe("uptake_breaker_state", _FIGURE[state], (name,)) for name, state in (found | gone).items()
            )
            self._shown = found

    def _clear_parked(self, tasks: Sequence[DeliverTask]) -> None:
        """What waits in a partition that has gone elsewhere is the next owner's to tell."""
        live = {task.partition: set(task.parked) for task in tasks}
        self._wires.measure(
            Observe("uptake_parked", 0, (integration, str(partition)))
            for partition in self._parked.keys() - live.keys()
            for integration in sorted(self._parked[partition])
        )
        self._parked = live

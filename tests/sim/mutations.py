"""Other ways to be wrong, each put alone into the transport: what the simulation must find if it is worth its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from core.batch import Batch
from core.effects import Effect
from transport.blocks import Block
from transport.checkpoint import Checkpoint, Committer
from transport.intake import Intake
from transport.recovery import Recovered, Recovery
from transport.runner import Runner

_accept, _finish, _inside = Intake.accept, Intake.finish, Runner._inside


async def _fences_last(self: Any, committer: Committer | None) -> Recovered:
    """The state is read before the owner before is fenced: he may still write."""
    spec, options = self._spec, self._options
    count = await self._partition_count()
    task = spec.make(self._partition)
    if committer is None:
        found: Mapping[str, int] = await spec.positions(self._partition)
    else:
        found = await self._load(task, options.topic(spec.state_topic), count)
        await committer.start()
    task.loaded()
    return Recovered(task, await self._starting_points(found), count)


async def _keeps_what_failed(self: Any, committer: Committer, checkpoint: Checkpoint, moved: bool) -> None:
    """A failed commit is taken for one that will be made up for by the next."""
    try:
        await _inside(self, committer, checkpoint, moved)
    except Exception:
        self._pace.done(asyncio.get_running_loop().time())


def _counts_records(self: Intake, batch: Batch, effects: Iterable[Effect]) -> None:
    """The position is the number of rows worked."""
    topic = self._options.topic(batch.topic)
    before = self.next[topic]
    _finish(self, batch, effects)
    self.next[topic] = before + len(batch)


def _sees_no_gap(self: Intake, block: Block) -> Batch | None:
    """A block may begin anywhere."""
    if block.topic in self.expected:
        self.expected[block.topic] = block.start
    return _accept(self, block)


def _patch(owner: Any, name: str, wrong: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: mock.patch.object(owner, name, wrong)


MUTATIONS: Mapping[str, Callable[[], AbstractContextManager[Any]]] = {
    "recovery fences last": _patch(Recovery, "run", _fences_last),
    "a failed commit keeps its task": _patch(Runner, "_inside", _keeps_what_failed),
    "a position is a count": _patch(Intake, "finish", _counts_records),
    "gaps are not seen": _patch(Intake, "accept", _sees_no_gap),
}

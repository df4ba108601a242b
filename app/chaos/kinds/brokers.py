"""Faults of the brokers. Only where they are ours to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from app.broker import Cluster
from app.chaos.registry import kind
from app.chaos.replicas import in_sync
from app.chaos.stage import Stage

IN_SYNC_WITHIN_S = 60.0
"""A broker has come back when it holds all that it should; a fault before that would be two at once."""


def ours(stage: Stage) -> bool:
    """Whether the brokers may be stopped."""
    return stage.cluster is not None


def several(stage: Stage) -> bool:
    """Whether one of them may be away."""
    return stage.cluster is not None and len(stage.cluster.brokers) > 2


@kind("broker_restart", "a broker stopped and started again", track="machines", lasts_s=(3.0, 8.0), possible=ours)
async def broker_restart(stage: Stage) -> AsyncIterator[str]:
    """It hands over what it leads first, where there is somebody to hand it to."""
    cluster, node = _next(stage, "broker_restart")
    await asyncio.to_thread(cluster.brokers[node].stop)
    try:
        yield f"node {node}"
    finally:
        await _back(stage, cluster, node)


@kind("broker_kill", "kill -9 of one of the brokers", track="machines", lasts_s=(6.0, 12.0), possible=several)
async def broker_kill(stage: Stage) -> AsyncIterator[str]:
    """What it led is led by others once it is missed."""
    cluster, node = _next(stage, "broker_kill")
    await asyncio.to_thread(cluster.brokers[node].kill)
    try:
        yield f"node {node}"
    finally:
        await _back(stage, cluster, node)


async def _back(stage: Stage, cluster: Cluster, node: int) -> None:
    await asyncio.to_thread(cluster.start_node, node)
    await in_sync(stage.settings, IN_SYNC_WITHIN_S)


def _next(stage: Stage, name: str) -> tuple[Cluster, int]:
    assert stage.cluster is not None
    nodes = sorted(stage.cluster.brokers)
    return stage.cluster, nodes[stage.turn(name) % len(nodes)]

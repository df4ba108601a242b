"""Several Kafka nodes on one machine: what one of them keeps, the others keep too. For tests of faults, not for production."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from app.broker.jars import KAFKA, Progress, classpath, quiet
from app.broker.process import Broker, new_cluster_id
from app.broker.properties import Member

READY_WITHIN_S = 300.0
"""A node that was killed looks through all its logs first, on a machine that may have much else to do."""


class Cluster:
    """`nodes` brokers under `directory`, each also a controller: replication factor 3, two in-sync replicas to write."""

    def __init__(self, directory: Path, nodes: int = 3, *, jars: Path | None = None, heap_mb: int = 384) -> None:
        self.directory = directory.absolute()
        self.jars = jars if jars is not None else self.directory.parent / "jars"
        plan = self._plan(nodes)
        voters = {node: controller for node, (_, controller) in plan.ports.items()}
        self._ports = {node: port for node, (port, _) in plan.ports.items()}
        self.brokers = {
            node: Broker(
                self.directory / f"node-{node}",
                jars=self.jars,
                heap_mb=heap_mb,
                member=Member(node, voters, plan.cluster_id),
                brief=True,
                ready_within_s=READY_WITHIN_S,
            )
            for node in voters
        }

    @property
    def address(self) -> str:
        """Bootstrap servers: all nodes."""
        return ",".join(f"127.0.0.1:{port}" for port in self._ports.values())

    def start(self, progress: Progress = quiet) -> str:
        """Starts the nodes that do not run, together: none answers before most of them are there. Raises as `Broker.start`."""
        classpath(KAFKA, self.jars, progress)
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            for started in [pool.submit(self.start_node, node, progress) for node in self.brokers]:
                started.result()
        return self.address

    def start_node(self, node: int, progress: Progress = quiet) -> str:
        """Starts one node unless it runs."""
        return self.brokers[node].start(self._ports[node], progress)

    def stop(self) -> None:
        """Stops all nodes."""
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            list(pool.map(Broker.stop, self.brokers.values()))

    def _plan(self, nodes: int) -> _Plan:
        """The same ports and id at every start, so that nodes find each other and their data again."""
        path = self.directory / "cluster.json"
        if path.exists():
            kept = json.loads(path.read_text())
            return _Plan(kept["cluster_id"], {int(node): tuple(ports) for node, ports in kept["ports"].items()})
        free = iter(_free_ports(2 * nodes))
        plan = _Plan(new_cluster_id(), {node: (next(free), next(free)) for node in range(1, nodes + 1)})
        self.directory.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"cluster_id": plan.cluster_id, "ports": plan.ports}))
        return plan


class _Plan(NamedTuple):
    cluster_id: str
    ports: dict[int, tuple[int, int]]
    """By node: for clients, for controllers."""


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()

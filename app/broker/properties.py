"""The managed broker's configuration: a node that is broker and controller, alone or one of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Member:
    """A node's place among others."""

    node: int = 1
    voters: Mapping[int, int] = field(default_factory=dict)
    """Controller port of every node, by its number; empty: it is alone."""
    cluster_id: str | None = None
    """The same for all nodes; None: a fresh one."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A second way in, beside the plain one: with TLS, with SASL, or both. Loopback only, too."""

    port: int
    protocol: Literal["SSL", "SASL_PLAINTEXT", "SASL_SSL"]
    settings: Mapping[str, str] = field(default_factory=dict)
    """Server properties of this listener, without `listener.name.secure.`."""
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """User → password, known to SCRAM in both strengths from the day the storage is formatted."""

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    def scram(self) -> list[str]:
        """Arguments of Kafka's format tool that make the users."""
        return [
            argument
            for name, password in self.users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]


def properties(
    data: Path, port: int, controller_port: int, member: Member | None = None, second: Listener | None = None
) -> str:
    """`server.properties` of a node that keeps its logs in `data` and listens on the loopback address only."""
    member = member or Member()
    voters = member.voters or {member.node: controller_port}
    replicas = min(3, len(voters))
    in_sync = min(2, replicas)
    values: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": member.node,
        "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{at}" for node, at in voters.items()),
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": data,
        # One node has nothing to replicate to; of three, one may be away.
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        # How long a node is missed before others lead its partitions.
        "broker.session.timeout.ms": 6_000,
        "broker.heartbeat.interval.ms": 1_500,
        # Small internal topics: a start reads fewer files.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.num.partitions": 1,
        # A group of one process need not wait for others to join.
        "group.initial.rebalance.delay.ms": 0,
        # `topics create` makes topics; a mistyped name is an error.
        "auto.create.topics.enable": "false",
        "message.max.bytes": 4 * 1024 * 1024,
        "replica.fetch.max.bytes": 4 * 1024 * 1024,
        # Topics say how long they keep; replays of years ago must not be cut by their own timestamps.
        "log.retention.check.interval.ms": 60_000,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "log.cleaner.threads": 1,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "num.recovery.threads.per.data.dir": 2,
    }
    if second is not None:
        values["listeners"] = f"{values['listeners']},SECURE://{second.address}"
        values["advertised.listeners"] = f"{values['advertised.listeners']},SECURE://{second.address}"
        values["listener.security.protocol.map"] = (
            f"{values['listener.security.protocol.map']},SECURE:{second.protocol}"
        )
        values |= {f"listener.name.secure.{name}": value for name, value in second.settings.items()}
    return "".join(f"{name}={value}\n" for name, value in values.items())

"""The managed broker's configuration: one node that is broker and controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


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


def properties(data: Path, port: int, controller_port: int, second: Listener | None = None) -> str:
    """`server.properties` of a node that keeps its logs in `data` and listens on the loopback address only."""
    values: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": data,
        # One node: nothing to replicate to.
        "default.replication.factor": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
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

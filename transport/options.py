"""How a role is connected: broker, group, fetching, checkpoints. Made by `app` from the settings."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Compression = Literal["snappy", "zstd", "gzip", "lz4"]


@dataclass(frozen=True, slots=True)
class Security:
    """TLS and SASL, for every client of this room. Plain text without any of it."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)
    """None with an SSL protocol: the system's certificate authorities."""

    def client(self) -> dict[str, Any]:
        """Keyword arguments of any aiokafka client."""
        arguments: dict[str, Any] = {"security_protocol": self.protocol}
        if "SSL" in self.protocol:
            arguments["ssl_context"] = self.ssl_context or ssl.create_default_context()
        if self.protocol.startswith("SASL"):
            arguments |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return arguments


@dataclass(frozen=True, slots=True)
class Options:
    """Everything `make_app` and `KafkaWires` need. Times in the unit of their name."""

    bootstrap: str
    """`host:port,host:port`."""
    role: str
    """Consumer group and transactional ids: prefix and role."""
    data_dir: Path
    prefix: str = ""
    """Stands before every topic, group and transactional id."""
    foreign: frozenset[str] = frozenset()
    """Topics of others (sources), whose names carry no prefix of ours."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Topics that have another name behind the prefix, such as those of another version of the figures."""
    aside: str = ""
    """Behind the consumer group's name: workers that are no members of the role's own group."""
    partitions: int = 12
    """Of every keyed topic; a state made with another count is refused."""
    security: Security = Security()
    phases: Path | None = None
    """File that says what each partition is doing (`phases`); None: nobody looks."""
    instance_id: str | None = None
    """Static membership (KIP-345): a restart within the session timeout moves no partition."""
    session_timeout_s: float = 6.0
    rebalance_timeout_s: float = 18.0
    """How long the group waits for a member's last checkpoints. Below the request timeout: the answer to a join comes so late."""

    fetch_max_wait_ms: int = 50
    """How long a broker holds a fetch that leaves out partitions whose rows are being worked: they cannot be fetched meanwhile."""
    fetch_idle_wait_ms: int = 200
    """How long it holds one that asks for everything: any row ends it, so this is what silence costs, not what a row waits."""
    fetch_min_bytes: int = 1
    fetch_linger_ms: int = 0
    """While rows come: how long the broker may gather `LINGER_BYTES` before it answers. Each answer costs the same whether it
    holds two rows or thousands, so asking again at once for every few of them is what a trickle would cost most. The first row
    after a silence is not held. 0: never.
    """
    partition_fetch_bytes: int = 1 << 20
    """Compressed bytes of one partition in one fetch; the broker gives at least one stored batch."""
    fetch_bytes: int = 16 << 20
    """Compressed bytes of one fetch over all partitions."""
    batch_rows: int = 20_000
    """Stored batches of one fetch are joined up to this many rows."""
    queued_batches: int = 4
    """Batches that wait for one agent before its partitions are no longer fetched."""
    refetches: int = 3
    """How often a stored batch with a wrong checksum is fetched again before it is set aside."""
    framing: Literal["columns", "records"] = "columns"
    """`records` is the plain slow twin: aiokafka's own record objects."""

    checkpoint_gap_ms: int = 20
    """Least time between the end of a checkpoint and the begin of the next one."""
    checkpoint_interval_ms: int = 250
    checkpoint_rows: int = 50_000
    checkpoint_backlog_rows: int = 500_000
    """Rows worked since the last begin beyond which a partition waits for its checkpoint."""
    offsets_interval_ms: int = 1_000
    """How often the group's committed offsets, which serve lag tools only, go along in a checkpoint."""
    on_poison: Literal["set_aside", "stop"] = "set_aside"
    """What becomes of a batch of which more than half makes the task raise: dead letters, or the partition stops."""
    transaction_timeout_ms: int = 120_000
    retry_backoff_ms: int = 5
    compression: Compression | None = "snappy"
    request_timeout_ms: int = 20_000

    @property
    def group(self) -> str:
        """The consumer group."""
        return f"{self.prefix}{self.role}{self.aside}"

    def topic(self, name: str) -> str:
        """Full name of a topic."""
        return name if name in self.foreign else f"{self.prefix}{self.renamed.get(name, name)}"

    def name(self, topic: str) -> str:
        """A topic's name, by its full one."""
        if topic in self.foreign:
            return topic
        bare = topic.removeprefix(self.prefix)
        return next((name for name, other in self.renamed.items() if other == bare), bare)

    def servers(self) -> list[str]:
        """The bootstrap addresses, one by one."""
        return [address.strip() for address in self.bootstrap.split(",") if address.strip()]

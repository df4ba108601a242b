"""Settings: one typed place, filled from options, the environment (`UPTAKE_…`) or `.uptake.toml`, in this order."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from schemas.topics import PARTITIONS, renamed

TENANT_TOPICS = "{tenant}."
CONFIG_FILE = ".uptake.toml"
CONFIG_VARIABLE = "UPTAKE_CONFIG"

Role = Literal["meter", "decide", "deliver", "project", "orchestrate", "archive"]
ROLES: tuple[Role, ...] = ("meter", "decide", "deliver", "project", "orchestrate", "archive")


class Settings(BaseSettings):
    """Everything an operator can set. `uptake settings` prints it, secrets masked."""

    model_config = SettingsConfigDict(
        env_prefix="UPTAKE_", frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    kafka: str | None = None
    """Bootstrap servers, `host:port,…`. Without it, the broker that `uptake broker start` manages."""
    topic_prefix: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,80}$")
    """Put before every topic, consumer group and transactional id: several deployments on one cluster."""
    data_dir: Path = Path(".uptake")
    """Where the managed broker, the read model (SQLite), logs and journals live."""
    database_url: SecretStr | None = None
    """SQLAlchemy URL of the read model. Without it, SQLite in the data directory."""
    partitions: int = Field(default=PARTITIONS, ge=1, le=1024)
    """Partitions of every keyed topic, fixed when the topics are created."""
    replication: int = Field(default=-1, ge=-1)
    """Replication factor of new topics; -1: the cluster's default."""

    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How to talk to Kafka."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """With SASL."""
    kafka_username: str | None = None
    """With SASL."""
    kafka_password: SecretStr | None = None
    """With SASL."""
    kafka_ca_file: Path | None = None
    """Certificate authority of the cluster; absent: the system's."""
    kafka_cert_file: Path | None = None
    """Client certificate, for mutual TLS."""
    kafka_key_file: Path | None = None
    """Its key."""

    api_host: str = "127.0.0.1"
    """Where the gateway listens."""
    api_port: int = Field(default=8000, ge=0, le=65535)
    """Its port; 0: any free one."""
    api_max_body_bytes: int = Field(default=16 << 20, ge=1024)
    """Largest body that the gateway reads."""
    api_requests_per_s: float = Field(default=200, gt=0)
    """Requests a second of one API key; bursts of twice as many."""
    api_events_per_s: float = Field(default=20_000, gt=0)
    """Events a second of one API key; bursts of twice as many."""
    api_kafka_timeout_s: float = Field(default=10, gt=0)
    """Seconds that the gateway waits for Kafka before it answers 503 (or keeps the events in its spool)."""
    api_spool_mb: int = Field(default=0, ge=0)
    """Events that the gateway keeps on its disk while Kafka is away, in MB; 0: none, it answers 503 with Retry-After."""
    decide_waiting_mb: int = Field(default=256, ge=0)
    """Memory of a DECIDE process for figures that wait until METER's slowest partition has come as far, in MB; more goes to files in
    its data directory."""
    tenant_requests_per_s: float = Field(default=1_000, gt=0)
    """Requests a second of all API keys of one tenant together, a gateway process; bursts of twice as many."""
    tenant_events_per_s: float = Field(default=100_000, gt=0)
    """Events a second for one tenant, whoever sends them, a gateway process; bursts of twice as many."""
    tenant_factors: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Tenants with more or less than that: tenant → factor of both rates and of `tenant_definitions`, such as `{"acme": 4}`."""
    tenant_definitions: int = Field(default=2_000, ge=1)
    """Definitions (rules, connections, keys …) that a tenant may have in force; keys for all tenants may write more."""
    public_url: str | None = None
    """Base of the links in commands and messages; absent: the gateway's own address."""
    metrics_host: str = "127.0.0.1"
    """Where workers serve /metrics, /livez, /readyz, /startedz."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """The first worker's port, the next ones count up; 0: any free one. Prometheus finds them in `DATA_DIR/run/targets/*.json`."""

    backup_url: str | None = None
    """Where `uptake backup` and `uptake restore` go unless told otherwise: a folder, s3://bucket/path, gs://…, az://…"""

    archive_url: str | None = None
    """Where the role `archive` keeps the log as Parquet: a folder, s3://bucket/path, gs://…, az://…; absent: `archive` in the data
    directory."""
    archive_roll_s: float = Field(default=60, gt=0)
    """A file of the archive is written at the latest this many seconds after its first row came."""
    archive_days: int = Field(default=400, ge=0)
    """Files of the archive are deleted this many days after they were written; 0: never."""

    figures: int = Field(default=1, ge=1)
    """Version of METER's and DECIDE's figures that is in force. `uptake rebuild` makes the next one beside it, and says when to
    set this."""
    rebuilding: bool = False
    """Set by `uptake rebuild` for its own workers: they make that version, and what they say is kept apart."""

    strict: bool = False
    """Rows of tenants or products without a definition are dead letters instead of registering themselves."""
    on_poison: Literal["set_aside", "stop"] = "set_aside"
    """A batch of which more than half makes a task raise: set aside as dead letters (and alarmed), or stop its partition."""
    allowed_hosts: list[str] = []
    """Hosts, addresses or networks (CIDR) that integrations may reach although they are private or loopback."""
    secret_env_prefix: str = Field(default="UPTAKE_SECRET_", min_length=1)
    """Environment variables that connections may name as secrets (`{"env": NAME}`) begin with this; a tenant's own with this,
    the tenant in capitals (`-` as `_`) and two underscores: `UPTAKE_SECRET_ACME__HOOK`."""
    secret_dir: Path = Path("/run/secrets")
    """Files that connections may name as secrets (`{"file": PATH}`) lie in this directory; a tenant's own in the folder of its
    name."""
    tenant_topics: str = Field(default=TENANT_TOPICS, pattern=r"^[A-Za-z0-9._-]*\{tenant\}[.][A-Za-z0-9._-]*$")
    """Topics that a tenant's own Kafka connections may write begin with this (without the prefix); `all` may write any."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Of the workers' log files."""
    broker_heap_mb: int = Field(default=512, ge=128)
    """Memory of the managed broker's heap."""

    @field_validator("kafka", mode="after")
    @classmethod
    def _addresses(cls, value: str | None) -> str | None:
        if value is None or not value.strip():
            return None
        for address in value.split(","):
            host, _, port = address.strip().rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(f"{address!r} is no Kafka address; it looks like host:port, several with commas")
        return value

    @model_validator(mode="after")
    def _versions(self) -> Settings:
        if self.rebuilding and self.figures == 1:
            raise ValueError(
                "there is nothing before version 1 to rebuild: leave UPTAKE_REBUILDING to `uptake rebuild`"
            )
        return self

    @model_validator(mode="after")
    def _credentials(self) -> Settings:
        if self.kafka_security.startswith("SASL") and (self.kafka_username is None or self.kafka_password is None):
            raise ValueError("SASL needs kafka_username and kafka_password (UPTAKE_KAFKA_USERNAME, …_PASSWORD)")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options first, then the environment, then the file."""
        path = Path(os.environ.get(CONFIG_VARIABLE, CONFIG_FILE))
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=path))

    # --- derived --------------------------------------------------------------------------------------------------

    @property
    def run_dir(self) -> Path:
        """What runs now: process files, Prometheus targets."""
        return self.data_dir / "run"

    @property
    def log_dir(self) -> Path:
        """The workers' logs."""
        return self.data_dir / "logs"

    @property
    def spool_path(self) -> Path:
        """Where the gateway keeps events while Kafka is away."""
        return self.data_dir / "spool.db"

    @property
    def store_url(self) -> str:
        """The read model's SQLAlchemy URL (async driver)."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite+aiosqlite:///{(self.data_dir / 'read-model.db').absolute()}"

    @property
    def archive_place(self) -> str:
        """Where the archive lies."""
        return self.archive_url or str((self.data_dir / "archive").absolute())

    @property
    def link_base(self) -> str:
        """Base of links, without a slash at the end."""
        return (self.public_url or f"http://{self.api_host}:{self.api_port}").rstrip("/")

    def topic(self, name: str) -> str:
        """A topic's full name."""
        return f"{self.topic_prefix}{self.renamed.get(name, name)}"

    def bare(self, topic: str) -> str:
        """The name of a topic, by its full one."""
        bare = topic.removeprefix(self.topic_prefix)
        return next((name for name, other in self.renamed.items() if other == bare), bare)

    @property
    def renamed(self) -> dict[str, str]:
        """Names of topics that are others in this version of the figures."""
        return renamed(self.figures, self.rebuilding)

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context for Kafka; None without TLS."""
        if not self.kafka_security.endswith("SSL"):
            return None
        context = ssl.create_default_context(cafile=str(self.kafka_ca_file) if self.kafka_ca_file else None)
        if self.kafka_cert_file is not None:
            context.load_cert_chain(self.kafka_cert_file, self.kafka_key_file)
        return context

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for the processes we start."""
        found: dict[str, str] = {}
        for name, value in self.model_dump(mode="python").items():
            if value is None:
                continue
            plain: Any = value.get_secret_value() if isinstance(value, SecretStr) else value
            if isinstance(plain, list | dict):
                import json

                plain = json.dumps(plain)
            found[f"UPTAKE_{name.upper()}"] = str(plain)
        return found

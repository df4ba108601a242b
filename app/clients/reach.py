"""How far a connection may reach, by who owns it: a tenant's connection names its own secrets and writes its own topics."""

from __future__ import annotations

from app.clients.secrets import Secrets
from app.settings import Settings
from integrations.kafka import NAME as KAFKA
from integrations.kafka import SINK
from schemas.definitions import ALL_TENANTS, Connection


class Reach:
    """What the operator set aside for each tenant. The same rules hold when a connection is written and when it is used."""

    def __init__(self, secrets: Secrets, tenant_topics: str) -> None:
        self._secrets = secrets
        self._tenant_topics = tenant_topics

    @classmethod
    def from_settings(cls, settings: Settings) -> Reach:
        """As the operator set it. Looks nothing up: it judges names alone."""
        return cls(Secrets({}, settings.secret_env_prefix, settings.secret_dir), settings.tenant_topics)

    def problems(self, connection: Connection) -> list[str]:
        """What the connection names that is not its owner's; empty: nothing."""
        found = self._secrets.foreign(connection.tenant, connection.config)
        topic = connection.config.get("topic")
        if connection.integration == KAFKA and isinstance(topic, str) and not self.may_write(connection.tenant, topic):
            found.append(self.not_theirs(connection.tenant, topic))
        return found

    def may_write(self, owner: str, topic: str) -> bool:
        """Whether connections of this owner may write to a topic (named without the deployment's prefix)."""
        return owner == ALL_TENANTS or topic == SINK or topic.startswith(self.topics_of(owner))

    def topics_of(self, owner: str) -> str:
        """What the topics of a tenant begin with."""
        return self._tenant_topics.replace("{tenant}", owner)

    def not_theirs(self, owner: str, topic: str) -> str:
        """The sentence for a topic that is not its owner's."""
        return f"topic {topic} is not tenant {owner}'s: name one that begins with {self.topics_of(owner)}"

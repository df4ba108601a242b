"""Sources and hooks: rows on topics of others, and calls of others, that become events."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from schemas.described import ALL_TENANTS, Described, Name
from schemas.events import EventsTopic
from schemas.limits import MAX_PARTS


class Source(Described):
    """An existing topic whose rows become events. `fields` maps our field to a path of theirs (`a.b`), `constants` fills the rest.

    A source of one tenant speaks for that tenant only; one of `all` for whichever tenant its rows name.
    """

    kind: Literal["source"] = "source"
    topic: str
    target: Literal["events.usage", "events.performance"]
    fields: Annotated[dict[str, str], Field(max_length=MAX_PARTS)]
    constants: dict[str, str] = Field(default_factory=dict)
    time_unit: Literal["rfc3339", "ms", "s"] = "rfc3339"
    id_from: Literal["field", "position"] = "field"
    """`position`: topic, partition and offset make the id."""


class Hook(Described):
    """An address that others post to (a webhook of theirs); each call becomes an event of one product.

    `fields` maps our field to a path of the body (`a.b`), `constants` fills the rest. Without an `id` it gets the call's own
    (`webhook-id`), else one made of the body, so that a call made again is one event; without an `occurred_at` it occurred
    when it came.
    """

    kind: Literal["hook"] = "hook"
    product: Name
    target: EventsTopic
    fields: Annotated[dict[str, str], Field(max_length=MAX_PARTS)]
    constants: Annotated[dict[str, str], Field(max_length=MAX_PARTS)] = Field(default_factory=dict)
    time_unit: Literal["rfc3339", "ms", "s"] = "rfc3339"
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Hex SHA-256 of the address's last part (256 random bits), which is shown once."""
    secret: dict[str, JsonValue] | None = None
    """Where the signing secret is (`{"env": "NAME"}` or `{"file": "PATH"}`): calls must then be signed as Standard Webhooks says."""

    @model_validator(mode="after")
    def _of_one_tenant(self) -> Hook:
        if self.tenant == ALL_TENANTS:
            raise ValueError("a hook speaks for one tenant: name it")
        return self

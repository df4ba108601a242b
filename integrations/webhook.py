"""Webhook: the command as JSON to any HTTP address, signed as Standard Webhooks says.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime

import orjson
from pydantic import Field, SecretStr, field_validator
from standardwebhooks import Webhook

from integrations.base import DEFAULT_TIMEOUT_S, HttpRequest, Response, Settings, by_status, http_url
from schemas.delivery import Delivery, Outcome, Rejected

NAME = "webhook"
EXAMPLE = {
    "url": "https://example.com/hooks/uptake",
    "secret": "whsec_ZXhhbXBsZS1zZWNyZXQtb2YtdXB0YWtlLTAwMDE=",
    "headers": {"authorization": "Bearer example"},
}
_OURS = frozenset({"content-type", "content-length", "host", "webhook-id", "webhook-timestamp", "webhook-signature"})


class Config(Settings):
    """Where to post, and the secret that both sides know."""

    url: str = Field(description="Where to post, http or https, without user name and password.")
    secret: SecretStr = Field(description="Signing secret: whsec_ and 24 to 64 bytes in base64.")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Further headers, such as authorization; their values are secrets."
    )
    timeout_s: float = Field(default=DEFAULT_TIMEOUT_S, gt=0, le=120, description="Limit of one attempt, seconds.")

    _url = field_validator("url")(http_url)

    @field_validator("secret")
    @classmethod
    def _signing_secret(cls, value: SecretStr) -> SecretStr:
        prefix, _, encoded = value.get_secret_value().partition("_")
        try:
            size = len(base64.b64decode(encoded, validate=True))
        except (binascii.Error, ValueError):
            size = 0
        if prefix != "whsec" or not 24 <= size <= 64:
            raise ValueError("must be whsec_ followed by 24 to 64 bytes in base64")
        return value

    @field_validator("headers")
    @classmethod
    def _not_ours(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, content in value.items():
            if name.lower() in _OURS:
                raise ValueError(f"{name} is set by Uptake")
            if not name.replace("-", "").isalnum() or not content.get_secret_value().isprintable():
                raise ValueError("a header is a word of letters, digits and dashes, and its value one printable line")
        return value


def render(delivery: Delivery, config: Config, now: int) -> HttpRequest:
    """A signed POST: `{"type", "timestamp", "data": command}`; `webhook-id` is the delivery's id on every attempt."""
    command = delivery.command
    body = orjson.dumps(
        {
            "type": command.type,
            "timestamp": datetime.fromtimestamp(command.issued_at / 1000, UTC).isoformat(),
            "data": command.model_dump(mode="json"),
        }
    )
    moment = datetime.fromtimestamp(now // 1000, UTC)
    signature = Webhook(config.secret.get_secret_value()).sign(delivery.id, moment, body.decode())
    headers = {
        **{name.lower(): value.get_secret_value() for name, value in config.headers.items()},
        "content-type": "application/json",
        "user-agent": "uptake",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(now // 1000),
        "webhook-signature": signature,
    }
    if command.traceparent is not None:
        headers["traceparent"] = command.traceparent
    return HttpRequest("POST", config.url, headers, body, config.timeout_s)


def interpret(response: Response) -> Outcome:
    """By status; 410 says that nobody is there any more."""
    if response.failure is None and response.status == 410:
        return Rejected(reason="gone")
    return by_status(response)

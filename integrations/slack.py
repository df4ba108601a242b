"""Slack: one message to one channel, by bot token or by incoming webhook.

https://docs.slack.dev/reference/methods/chat.postMessage
https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

from __future__ import annotations

from typing import Self

import orjson
from pydantic import Field, SecretStr, field_validator, model_validator

from integrations.base import DEFAULT_TIMEOUT_S, HttpRequest, Response, Settings, by_status, http_url, retry_after_s
from schemas.commands import Command
from schemas.delivery import Delivered, Delivery, Outcome, Rejected, Retry

NAME = "slack"
EXAMPLE = {"bot_token": "xoxb-example", "channel": "C012345"}

_LIMIT = 3_500
"""Characters of a message's text; Slack cuts at 4,000."""
_TRANSIENT = frozenset(
    {"ratelimited", "rate_limited", "service_unavailable", "internal_error", "fatal_error", "request_timeout"}
)


class Config(Settings):
    """A bot and a channel, or an incoming webhook (which knows its channel)."""

    bot_token: SecretStr | None = Field(default=None, description="Bot User OAuth token (xoxb-…), scope chat:write.")
    channel: str | None = Field(default=None, description="Channel id, not its name; with bot_token only.")
    webhook_url: SecretStr | None = Field(default=None, description="Incoming webhook URL, in place of the two above.")
    base_url: str = Field(default="https://slack.com/api", description="Where Slack's API is.")
    timeout_s: float = Field(default=DEFAULT_TIMEOUT_S, gt=0, le=120, description="Limit of one attempt, seconds.")

    _base = field_validator("base_url")(http_url)

    @field_validator("bot_token")
    @classmethod
    def _printable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().isprintable():
            raise ValueError("must be one printable line")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _is_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            http_url(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.bot_token is None) == (self.webhook_url is None):
            raise ValueError("give either bot_token and channel, or webhook_url")
        if (self.bot_token is None) != (self.channel is None):
            raise ValueError("bot_token and channel belong together")
        return self


def render(delivery: Delivery, config: Config, now: int) -> HttpRequest:
    """One message: title in bold, text, and the links of the reason."""
    message: dict[str, object] = {"text": _text(delivery.command)}
    headers = {"content-type": "application/json; charset=utf-8", "idempotency-key": delivery.id}
    if config.webhook_url is not None:
        url = config.webhook_url.get_secret_value()
    else:
        url = f"{config.base_url.rstrip('/')}/chat.postMessage"
        message |= {"channel": config.channel, "client_msg_id": delivery.id, "unfurl_links": False}
    if config.bot_token is not None:
        headers["authorization"] = f"Bearer {config.bot_token.get_secret_value()}"
    return HttpRequest("POST", url, headers, orjson.dumps(message), config.timeout_s)


def interpret(response: Response) -> Outcome:
    """By status, and then by the answer: Slack says 200 to failures too. An incoming webhook answers `ok` in plain text."""
    outcome = by_status(response)
    if not isinstance(outcome, Delivered) or response.body.strip() == b"ok":
        return outcome
    try:
        answer = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return Retry(reason="unreadable_answer")
    if not isinstance(answer, dict):
        return Retry(reason="unreadable_answer")
    if answer.get("ok") is True:
        remote = answer.get("ts")
        return Delivered(remote_id=remote if isinstance(remote, str) else None)
    error = str(answer.get("error", "unknown"))[:100]
    if error in _TRANSIENT:
        return Retry(reason=error, after_s=retry_after_s(response))
    return Rejected(reason=error)


def _text(command: Command) -> str:
    links = "\n".join(f"<{_url(link)}|{_escape(name)}>" for name, link in sorted(command.why.links.items()))
    text = f"*{_escape(command.title)}*\n{_escape(command.text)}"
    return "\n".join(part for part in (text[:_LIMIT], links) if part)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _url(link: str) -> str:
    return link.replace("|", "%7C").replace(">", "%3E").replace("<", "%3C")

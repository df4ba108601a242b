"""E-mail: one message by SMTP.

https://www.rfc-editor.org/rfc/rfc5321 (reply codes), https://www.rfc-editor.org/rfc/rfc5322 (message)
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from integrations.base import MailRequest, Response, Settings, one_line
from schemas.commands import Command
from schemas.delivery import Delivered, Delivery, Outcome, Rejected, Retry

NAME = "email"
EXAMPLE = {
    "host": "smtp.example.com",
    "username": "uptake",
    "password": "example-password",
    "sender": "uptake@example.com",
    "recipients": ["team@example.com"],
}


class Config(Settings):
    """A server, who writes, and to whom."""

    host: str = Field(description="SMTP server.")
    port: int = Field(default=587, ge=1, le=65535, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="starttls: upgrade or fail; tls: from the first byte; none: in the clear."
    )
    username: str | None = Field(default=None, description="User of the server.")
    password: SecretStr | None = Field(default=None, description="Password of that user.")
    sender: str = Field(description="Address the messages come from.")
    recipients: list[str] = Field(min_length=1, max_length=50, description="Addresses they go to.")
    timeout_s: float = Field(default=30.0, gt=0, le=120, description="Limit of one attempt, seconds.")

    @field_validator("sender", "recipients")
    @classmethod
    def _addresses(cls, value: str | list[str]) -> str | list[str]:
        for address in [value] if isinstance(value, str) else value:
            try:
                parsed = Address(addr_spec=address)
            except (ValueError, IndexError, MessageError):
                parsed = Address()
            if not parsed.domain or not address.isascii() or not address.isprintable():
                raise ValueError("must be addresses of the form name@domain")
        return value

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        if self.password is not None and self.security == "none":
            raise ValueError("a password is not sent in the clear: set security to starttls or tls")
        return self


def render(delivery: Delivery, config: Config, now: int) -> MailRequest:
    """A plain text message whose Message-ID is made of the delivery's id, on every attempt."""
    command = delivery.command
    message = EmailMessage(policy=SMTP)
    message["Message-ID"] = f"<{delivery.id}@{config.sender.rpartition('@')[2]}>"
    message["Date"] = format_datetime(datetime.fromtimestamp(now // 1000, UTC))
    message["From"] = config.sender
    message["To"] = ", ".join(config.recipients)
    message["Subject"] = one_line(command.title)[:200] or command.type
    message["Auto-Submitted"] = "auto-generated"
    message["X-Uptake-Command"] = command.id
    message["X-Uptake-Type"] = command.type
    message.set_content(_text(command), cte="quoted-printable")
    return MailRequest(
        host=config.host,
        port=config.port,
        security=config.security,
        sender=config.sender,
        recipients=tuple(config.recipients),
        message=message.as_bytes(),
        username=config.username,
        password=config.password,
        timeout_s=config.timeout_s,
    )


def interpret(response: Response) -> Outcome:
    """SMTP's reply codes: 2xx taken, 4xx not now, 5xx never. No answer: not now."""
    if response.failure is not None:
        return Rejected(reason="blocked") if response.failure == "blocked" else Retry(reason=response.failure)
    reason = f"smtp_{response.status}"
    if 200 <= response.status < 300:
        return Delivered()
    if 500 <= response.status < 600:
        return Rejected(reason=reason)
    return Retry(reason=reason)


def _text(command: Command) -> str:
    why = command.why
    lines = [command.text, "", why.reason, ""]
    lines += [f"{name}: {_figure(value)}" for name, value in sorted(why.numbers.items())]
    lines += [f"{name}: {link}" for name, link in sorted(why.links.items())]
    return "\n".join([*lines, "", f"Rule {why.rule}, command {command.id}", ""])


def _figure(value: float | None) -> str:
    return "no data" if value is None else f"{value:g}"

"""What every integration speaks: a request of one of three kinds, a response, and what the response meant.

An integration never sends. It renders a value; `app.clients` sends it; the integration reads the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from schemas.delivery import Delivered, Delivery, Outcome, Rejected, Retry

DEFAULT_TIMEOUT_S = 10.0
"""Of one attempt, connecting included, where the connection's config says nothing else."""

Failure = Literal["dns", "connect", "tls", "timeout", "protocol", "blocked", "no_topic"]
"""Why there is no answer. `blocked`: the address is one that this deployment does not allow."""


class Settings(BaseModel):
    """Base of every integration's `Config`: closed, immutable, and silent about values in its errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request. Its `repr` shows the method and the host: a URL or a header may be a secret."""

    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"]
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S

    @property
    def host(self) -> str:
        """Where it goes, for people."""
        return urlsplit(self.url).hostname or ""


@dataclass(frozen=True, slots=True)
class MailRequest:
    """One message to one SMTP server. `message` is complete: headers, Message-ID, body."""

    host: str
    port: int
    security: Literal["tls", "starttls", "none"]
    sender: str
    recipients: Sequence[str]
    message: bytes = field(repr=False)
    username: str | None = field(default=None, repr=False)
    password: SecretStr | None = field(default=None, repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """One Kafka record. It is written in the transaction that also ends the delivery, so exactly once."""

    topic: str
    """Without the settings' prefix."""
    key: bytes
    value: bytes = field(repr=False)
    headers: Sequence[tuple[str, bytes]] = ()
    timeout_s: float = DEFAULT_TIMEOUT_S


Request = HttpRequest | MailRequest | RecordRequest


@dataclass(frozen=True, slots=True)
class Response:
    """What came back, or why nothing did."""

    status: int
    """HTTP or SMTP code; 0 where `failure` says why there is none."""
    at: int
    """When it was there, milliseconds."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Names in lower case."""
    body: bytes = field(default=b"", repr=False)
    """Its first 64 KiB."""
    failure: Failure | None = None


class Integration(Protocol):
    """A module of this room, seen through its names."""

    @property
    def NAME(self) -> str:
        """As connections name it; also its topic, `deliveries.<name>`."""

    @property
    def Config(self) -> type[Settings]:
        """What a connection's `config` must be, secrets revealed."""

    @property
    def EXAMPLE(self) -> Mapping[str, Any]:
        """A valid config; its secrets are made up, and stand in for real ones in the sandbox."""

    @property
    def render(self) -> Render:
        """See `Render`."""

    @property
    def interpret(self) -> Interpret:
        """See `Interpret`."""


class Render(Protocol):
    """The request of one attempt made at `now` (ms). The same arguments give the same bytes. Carries `delivery.id`."""

    def __call__(self, delivery: Delivery, config: Any, now: int) -> Request:
        """Render."""


class Interpret(Protocol):
    """What a response meant. Never raises, whatever the body holds."""

    def __call__(self, response: Response) -> Outcome:
        """Interpret."""


def by_status(response: Response) -> Outcome:
    """2xx delivered; 408, 425, 429, 5xx and no answer retry; a blocked address and everything else rejected."""
    if response.failure is not None:
        return Rejected(reason="blocked") if response.failure == "blocked" else Retry(reason=response.failure)
    reason = f"http_{response.status}"
    if 200 <= response.status < 300:
        return Delivered()
    if response.status in (408, 425, 429) or response.status >= 500:
        return Retry(reason=reason, after_s=retry_after_s(response))
    return Rejected(reason=reason)


def retry_after_s(response: Response) -> float | None:
    """Seconds that `Retry-After` asks for, as a number or a date; None where it says nothing readable."""
    value = response.headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.replace(".", "", 1).isdigit() and value.isascii():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.fromtimestamp(response.at / 1000, UTC)).total_seconds())


def one_line(text: str) -> str:
    """The text on one line: what goes into a header or a subject."""
    return " ".join(text.split())


def http_url(value: str) -> str:
    """The value, checked: absolute, http or https, no credentials in it. Raises ValueError without repeating it."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an absolute http or https URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user name or password: use a header, by reference")
    if not value.isprintable() or " " in value:
        raise ValueError("must hold no spaces or control characters")
    return value

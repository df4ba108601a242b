"""Webhook: signed as Standard Webhooks says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from agents.rooms import wall_clock
from integrations import webhook
from integrations.base import Response
from schemas.commands import Command
from schemas.delivery import Rejected, Retry
from tests.helpers.words import NOON, a_command
from tests.integrations.test_contract import a_delivery

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()


def rendered(now: int = NOON, command: Command | None = None) -> tuple[dict[str, str], bytes]:
    config = webhook.Config.model_validate({"url": "https://example.com/", "secret": SECRET})
    request = webhook.render(a_delivery(command or a_command()), config, now)
    return dict(request.headers), request.body


def test_the_signature_is_the_schemes() -> None:
    headers, body = rendered()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = hmac.new(b"k" * 24, signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()
    assert headers["webhook-timestamp"] == str(NOON // 1_000)


def test_a_changed_body_does_not_verify() -> None:
    headers, body = rendered(wall_clock())
    assert Webhook(SECRET).verify(body, headers)["type"] == "product.tutorial.deploy"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace(b"search", b"cart"), headers)


def test_the_body_is_the_command() -> None:
    _, body = rendered(command=a_command(title="Zürich ☃"))
    sent = json.loads(body)
    assert sent["timestamp"] == "2023-11-15T12:00:00+00:00"
    assert Command.model_validate(sent["data"]) == a_command(title="Zürich ☃")


def test_own_headers_are_sent_and_ours_cannot_be_replaced() -> None:
    values: dict[str, Any] = {"url": "https://example.com/", "secret": SECRET, "headers": {"X-Team": "a"}}
    request = webhook.render(a_delivery(), webhook.Config.model_validate(values), NOON)
    assert request.headers["x-team"] == "a"
    for headers in ({"Webhook-Id": "a"}, {"Host": "a"}, {"a b": "c"}, {"a": "b\r\nwebhook-id: c"}):
        with pytest.raises(ValidationError):
            webhook.Config.model_validate({**values, "headers": headers})


@pytest.mark.parametrize(
    "url", ["example.com", "ftp://example.com", "https://", "https://u:p@example.com", "https://a b", "https://a/\n"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        webhook.Config.model_validate({"url": url, "secret": SECRET})


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_???", "abc", "whsec_" + base64.b64encode(b"short").decode()])
def test_what_is_no_signing_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValidationError):
        webhook.Config.model_validate({"url": "https://example.com", "secret": secret})


def test_gone_is_gone_and_retry_after_may_be_a_date() -> None:
    assert webhook.interpret(Response(status=410, at=NOON)) == Rejected(reason="gone")
    headers = {"retry-after": "Wed, 15 Nov 2023 12:01:30 GMT"}
    assert webhook.interpret(Response(status=503, at=NOON, headers=headers)) == Retry(reason="http_503", after_s=90.0)
    past = {"retry-after": "Wed, 15 Nov 2023 11:00:00 GMT"}
    assert webhook.interpret(Response(status=429, at=NOON, headers=past)) == Retry(reason="http_429", after_s=0.0)

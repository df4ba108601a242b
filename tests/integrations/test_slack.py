"""Slack: two ways in, and answers that say 200 to failures."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from integrations import slack
from integrations.base import Response
from schemas.delivery import Delivered, Outcome, Rejected, Retry
from tests.helpers.words import NOON, a_command
from tests.integrations.test_contract import a_delivery


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, {"ok": True, "ts": "1503435956.000247"}, Delivered(remote_id="1503435956.000247")),
        (200, {"ok": False, "error": "ratelimited"}, Retry(reason="ratelimited")),
        (200, {"ok": False, "error": "service_unavailable"}, Retry(reason="service_unavailable")),
        (200, {"ok": False, "error": "channel_not_found"}, Rejected(reason="channel_not_found")),
        (200, {"ok": False, "error": "invalid_auth"}, Rejected(reason="invalid_auth")),
        (200, {"ok": False}, Rejected(reason="unknown")),
        (404, {"ok": True}, Rejected(reason="http_404")),
        (500, {"ok": True}, Retry(reason="http_500")),
    ],
)
def test_what_its_answers_mean(status: int, body: dict[str, Any], outcome: Outcome) -> None:
    assert slack.interpret(Response(status=status, at=NOON, body=json.dumps(body).encode())) == outcome


def test_a_page_of_some_proxy_is_no_delivery() -> None:
    assert slack.interpret(Response(status=200, at=NOON, body=b"<html>")) == Retry(reason="unreadable_answer")


def test_a_bot_posts_to_its_channel_with_our_id() -> None:
    config = slack.Config.model_validate({"bot_token": "xoxb-1", "channel": "C1"})
    request = slack.render(a_delivery(), config, NOON)
    sent = json.loads(request.body)
    assert request.url == "https://slack.com/api/chat.postMessage"
    assert request.headers["authorization"] == "Bearer xoxb-1"
    assert (sent["channel"], sent["client_msg_id"]) == ("C1", a_delivery().id)


def test_an_incoming_webhook_needs_neither() -> None:
    config = slack.Config.model_validate({"webhook_url": "https://hooks.slack.com/services/T/B/x"})
    request = slack.render(a_delivery(), config, NOON)
    assert request.url == "https://hooks.slack.com/services/T/B/x"
    assert "authorization" not in request.headers
    assert set(json.loads(request.body)) == {"text"}


def test_text_is_escaped_so_that_nobody_is_paged_by_a_feature_name() -> None:
    command = a_command(title="<!channel> & co", text="a < b")
    text = json.loads(slack.render(a_delivery(command), slack.Config(**slack.EXAMPLE), NOON).body)["text"]
    assert "<!channel>" not in text
    assert "&lt;!channel&gt; &amp; co" in text


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"bot_token": "x"},
        {"channel": "C1"},
        {"bot_token": "x", "channel": "C1", "webhook_url": "https://hooks.slack.com/x"},
        {"webhook_url": "https://hooks.slack.com/x", "channel": "C1"},
        {"webhook_url": "not a url"},
        {"bot_token": "a\r\nb: c", "channel": "C1"},
    ],
)
def test_half_a_configuration_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        slack.Config.model_validate(values)

"""E-mail: the message as it stands on the wire."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from pydantic import ValidationError

from integrations import email
from integrations.base import Response
from schemas.delivery import Outcome, Rejected, Retry
from tests.helpers.words import NOON, a_command
from tests.integrations.test_contract import a_delivery


def test_the_message_is_whole_and_its_id_is_the_deliverys() -> None:
    command = a_command(title="Growth\r\nBcc: all@example.com", text="Zürich ☃\n" + "long " * 300)
    config = email.Config.model_validate(email.EXAMPLE)
    request = email.render(a_delivery(command), config, NOON)
    message = message_from_bytes(request.message, policy=default)
    assert message["message-id"] == f"<{a_delivery(command).id}@example.com>"
    assert message["date"] == "Wed, 15 Nov 2023 12:00:00 +0000"
    assert message["subject"] == "Growth Bcc: all@example.com"
    assert message["bcc"] is None
    body = message.get_body()
    assert body is not None
    text = body.get_content()
    assert "Zürich ☃" in text
    assert "rate: 0.25" in text
    assert request.message.isascii()
    assert max(len(line) for line in request.message.split(b"\r\n")) <= 998


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (421, Retry(reason="smtp_421")),
        (451, Retry(reason="smtp_451")),
        (535, Rejected(reason="smtp_535")),
        (550, Rejected(reason="smtp_550")),
    ],
)
def test_what_its_codes_mean(status: int, outcome: Outcome) -> None:
    assert email.interpret(Response(status=status, at=NOON)) == outcome


@pytest.mark.parametrize(
    "change",
    [
        {"sender": "nobody"},
        {"recipients": []},
        {"recipients": ["a@b", "x\r\nBcc: c@d"]},
        {"recipients": ["a@b>,<c@d"]},
        {"password": None},
        {"security": "none"},
        {"port": 0},
    ],
)
def test_a_bad_configuration_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        email.Config.model_validate({**email.EXAMPLE, **change})

"""Kafka: whose topics one may write to."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from integrations import kafka
from schemas.commands import Command
from schemas.delivery import SinkRecord
from tests.helpers.words import NOON, a_command
from tests.integrations.test_contract import a_delivery


def test_the_record_is_the_command_keyed_as_commands_are() -> None:
    request = kafka.render(a_delivery(), kafka.Config(topic="team.in"), NOON)
    assert request.topic == "team.in"
    assert request.key == b"acme|feature:search"
    assert Command.model_validate_json(request.value).id == a_command().id
    assert dict(request.headers)["uptake-delivery"] == a_delivery().id.encode()


@pytest.mark.parametrize("topic", ["events.usage", "commands.product", "state.decide", "definitions", "", "a b", "a/b"])
def test_uptakes_own_topics_are_not_for_delivery(topic: str) -> None:
    with pytest.raises(ValidationError):
        kafka.Config(topic=topic)


def test_the_built_in_sink_gets_its_own_word() -> None:
    request = kafka.render(a_delivery(), kafka.Config(topic="sink"), NOON)
    record = SinkRecord.model_validate_json(request.value)
    assert (record.delivery, record.sandboxed, record.command.id) == (a_delivery().id, False, a_command().id)

"""Kafka: the command as a record of a topic of one's own, or of the built-in sink.

The record is part of the transaction that ends the delivery, so a reader with `isolation.level=read_committed` sees each
delivery once. https://kafka.apache.org/documentation/#semantics
"""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from integrations.base import RecordRequest, Response, Settings, by_status
from schemas.commands import Command
from schemas.delivery import Delivery, Outcome, SinkRecord
from schemas.envelope import key
from schemas.topics import BY_NAME

NAME = "kafka"
SINK = "sink"
EXAMPLE = {"topic": "my-team.commands"}


class Config(Settings):
    """Which topic."""

    topic: str = Field(
        description="An existing topic on Uptake's own Kafka, without the topic prefix; `sink` is the built-in one."
    )

    @field_validator("topic")
    @classmethod
    def _theirs(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", value):
            raise ValueError("must be a topic's name: letters, digits, dot, dash, underscore")
        if value == SINK:
            return value
        if value in BY_NAME or value.startswith(("state.", "deliveries.")):
            raise ValueError("is one of Uptake's own topics: consumers read those directly, nothing delivers into them")
        return value


def render(delivery: Delivery, config: Config, now: int) -> RecordRequest:
    """The command itself, keyed as on `commands.<domain>`; header `uptake-delivery` is the delivery's id."""
    command = delivery.command
    headers = [("uptake-delivery", delivery.id.encode()), ("uptake-type", command.type.encode())]
    if command.traceparent is not None:
        headers.append(("traceparent", command.traceparent.encode()))
    value: Command | SinkRecord = command
    if config.topic == SINK:
        value = SinkRecord(
            delivery=delivery.id,
            connection=delivery.connection,
            integration=delivery.integration,
            sandboxed=False,
            command=command,
        )
    return RecordRequest(
        topic=config.topic,
        key=key(command.tenant, command.subject),
        value=value.model_dump_json().encode(),
        headers=tuple(headers),
    )


def interpret(response: Response) -> Outcome:
    """200 once the topic is known to be there; otherwise not now."""
    return by_status(response)

"""What becomes of archived rows about subjects that are to be forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic import ValidationError

from core.archive import REGISTERS, Chunk
from core.forgetting import Forgetting, named
from schemas.definitions import DEFINITION, Definition, Segment, Silence

DEFINITIONS: Final = "definitions"


def names_people(topic: str) -> bool:
    """Whether rows of the topic can be about a person: clocks are about nobody."""
    return topic != REGISTERS


def without(chunk: Chunk, forgotten: Forgetting) -> Chunk:
    """The chunk without the rows about them, and definitions without their names; the very same one where nothing changes."""
    if not forgotten.version or not names_people(chunk.topic):
        return chunk
    values = list(_left(chunk, forgotten))
    if all(value is old for (_, value), old in zip(values, chunk.values, strict=True)) and all(
        kept for kept, _ in values
    ):
        return chunk
    left = Chunk(chunk.topic, chunk.partition)
    for i, (kept, value) in enumerate(values):
        if kept:
            left.add(chunk.offsets[i], chunk.timestamps[i], chunk.keys[i], value, chunk.headers[i])
    return left


def about(forgotten: Forgetting, key: bytes | None, value: bytes | None) -> bool:
    """Whether a row is about one of them. A key `tenant|name` may be a user's or a contact's: where the row says whose it is, a
    user stays whose contact of the same name goes.
    """
    if not forgotten.concerns(key, value):
        return False
    tenant, _, name = (key or b"").partition(b"|")
    if not any(subject.partition(":")[2].encode() == name for subject in named(value)[1]):
        return True
    return forgotten.concerns(tenant + b"|", value)


def _left(chunk: Chunk, forgotten: Forgetting) -> Iterable[tuple[bool, bytes | None]]:
    """Row by row: whether it stays, and with which value."""
    if chunk.topic != DEFINITIONS:
        for key, value in zip(chunk.keys, chunk.values, strict=True):
            yield not about(forgotten, key, value), value
        return
    for value in chunk.values:
        definition = _definition(value)
        left = _unnamed(definition, forgotten) if definition is not None else None
        if left is definition:
            yield True, value
        else:
            yield left is not None, left.model_dump_json().encode() if left is not None else None


def _definition(value: bytes | None) -> Definition | None:
    if value is None or not any(kind in value for kind in (b"segment", b"silence")):
        return None
    try:
        return DEFINITION.validate_json(value)
    except ValidationError:
        return None  # the workers refuse it too


def _unnamed(definition: Definition, forgotten: Forgetting) -> Definition | None:
    """Without their names, as `uptake forget` publishes it again; None where nothing is left: a silence of nobody silences all."""
    if isinstance(definition, Segment):
        users = [u for u in definition.users if not forgotten.holds(definition.tenant, f"user:{u}")]
        return definition if len(users) == len(definition.users) else definition.model_copy(update={"users": users})
    if isinstance(definition, Silence) and definition.subjects:
        subjects = [s for s in definition.subjects if not forgotten.holds(definition.tenant, s)]
        if len(subjects) == len(definition.subjects):
            return definition
        return definition.model_copy(update={"subjects": subjects}) if subjects else None
    return definition

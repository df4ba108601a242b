"""Old versions of words → today's shape, at the edge; inside there is one shape only.

A word says its version in a field of its own (`specversion` for CloudEvents, `schema_version` for ours, absent: the
oldest). Each step lifts a body from one version to the next and is never changed once released.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

Body = dict[str, JsonValue]
Step = Callable[[Body], Body]


class UnknownVersion(ValueError):
    """Nobody here reads that version: the message says which ones are read."""


@dataclass(frozen=True, slots=True)
class History:
    """A word's versions, oldest first, and how to get from each to the next."""

    field: str
    versions: tuple[str, ...]
    steps: Mapping[str, Step]
    """Version → the step that lifts a body of it; the newest has none."""
    default: str | None
    """Version of a body that does not say one; None: it has to."""


def upcast(word: str, body: Body, histories: Mapping[str, History] | None = None) -> Body:
    """`body` in today's shape; a body that is so already is returned unchanged.

    Raises `UnknownVersion` where its version is none of the word's, `KeyError` where the word has no history.
    """
    history = (HISTORIES if histories is None else histories)[word]
    found = body.get(history.field, history.default)
    if not isinstance(found, (str, int)) or str(found) not in history.versions:
        known = ", ".join(history.versions)
        raise UnknownVersion(f"{history.field} {found!r} of {word} is not read here: write one of {known}")
    version = str(found)
    while version != history.versions[-1]:
        body = history.steps[version](dict(body))
        version = history.versions[history.versions.index(version) + 1]
        body[history.field] = version
    return body


def _cloudevent_0_3(body: Body) -> Body:
    """0.3 → 1.0: `schemaurl` became `dataschema`, `datacontentencoding: base64` became `data_base64`."""
    if "schemaurl" in body:
        body["dataschema"] = body.pop("schemaurl")
    if body.pop("datacontentencoding", None) == "base64":
        body["data_base64"] = body.pop("data", None)
    return body


HISTORIES: Final[Mapping[str, History]] = {
    "cloudevent": History("specversion", ("0.3", "1.0"), {"0.3": _cloudevent_0_3}, default=None),
    "event": History("schema_version", ("1",), {}, default="1"),
}
"""Every word that others write and that can be older than we are."""

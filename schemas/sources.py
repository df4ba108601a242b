"""Sources: topics of others whose rows become events."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.described import Described
from schemas.limits import MAX_PARTS


class Source(Described):
    """An existing topic whose rows become events. `fields` maps our field to a path of theirs (`a.b`), `constants` fills the rest.

    A source of one tenant speaks for that tenant only; one of `all` for whichever tenant its rows name.
    """

    kind: Literal["source"] = "source"
    topic: str
    target: Literal["events.usage", "events.performance"]
    fields: Annotated[dict[str, str], Field(max_length=MAX_PARTS)]
    constants: dict[str, str] = Field(default_factory=dict)
    time_unit: Literal["rfc3339", "ms", "s"] = "rfc3339"
    id_from: Literal["field", "position"] = "field"
    """`position`: topic, partition and offset make the id."""

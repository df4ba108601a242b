"""Conditions over facts, as definitions carry them: a tree, which people may also write as CEL (`schemas.cel`)."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from schemas.celmeasure import CelError
from schemas.envelope import Word
from schemas.limits import MAX_CEL_CHARS, MAX_HOLIDAYS, MAX_NAME_CHARS, MAX_PARTS, bounded_condition, bounded_value


class Compare(Word):
    """`field op value`; a missing field compares as null and only `!=` and `missing` hold on it."""

    kind: Literal["compare"] = "compare"
    field: Annotated[str, Field(max_length=MAX_NAME_CHARS)]
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "contains", "starts_with", "ends_with", "missing"]
    value: Annotated[JsonValue, AfterValidator(bounded_value)] = None


class All(Word):
    """Every one of them holds."""

    kind: Literal["all"] = "all"
    of: Annotated[list[Condition], Field(max_length=MAX_PARTS)]


class AnyOf(Word):
    """At least one holds."""

    kind: Literal["any"] = "any"
    of: Annotated[list[Condition], Field(max_length=MAX_PARTS)]


class Not(Word):
    """It does not hold."""

    kind: Literal["not"] = "not"
    of: Condition


def _zone(name: str) -> str:
    known_zone(name)
    return name


def known_zone(name: str) -> ZoneInfo:
    """The IANA zone of that name. Raises `ValueError` where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone {name[:64]!r}: give an IANA name like Europe/Berlin or UTC") from None


Zone = Annotated[str, Field(max_length=64), AfterValidator(_zone)]
"""An IANA name."""
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
TimeOfDay = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
"""`HH:MM` on the wall clock of the zone."""


class During(Word):
    """The moment lies on one of these weekdays, in this part of the day, and on no holiday; what is absent is not asked for.

    `start` is part of the span and `end` is not; an `end` at or before `start` is the next morning's, and the span belongs to the day
    on which it began: a night from Friday to Saturday is Friday's.
    """

    kind: Literal["during"] = "during"
    field: Annotated[str, Field(max_length=MAX_NAME_CHARS)] = "at"
    """The moment: milliseconds since the epoch."""
    weekdays: Annotated[list[Weekday], Field(min_length=1, max_length=7)] | None = None
    start: TimeOfDay | None = None
    end: TimeOfDay | None = None
    holidays: Annotated[list[date], Field(max_length=MAX_HOLIDAYS)] = Field(default_factory=list)
    """Days (of the zone) on which it never holds."""
    zone: Zone = "UTC"
    zone_field: Annotated[str, Field(max_length=MAX_NAME_CHARS)] | None = None
    """A fact that names the subject's own zone; where it names none, `zone` is taken."""

    @model_validator(mode="after")
    def _whole(self) -> During:
        if (self.start is None) != (self.end is None):
            raise ValueError("a part of the day needs both start and end")
        if self.weekdays is None and self.start is None and not self.holidays:
            raise ValueError("give weekdays, start and end, or holidays")
        return self


Condition = Annotated[Compare | All | AnyOf | Not | During, Field(discriminator="kind")]
CelText = Annotated[str, Field(max_length=MAX_CEL_CHARS, description="A condition as CEL text; kept as its tree.")]


def _read(value: Any) -> Any:
    """The tree, where the condition is written as CEL; whatever it is, within bounds."""
    if isinstance(value, str):
        from schemas.cel import parse  # it takes a tenth of a second to import, and workers read trees only

        try:
            value = parse(value)
        except CelError as error:
            raise PydanticCustomError(
                "cel", "{text}", {"text": str(error), "line": error.line, "column": error.column}
            ) from error
    return bounded_condition(value)


Bounded = Annotated[Condition | None, BeforeValidator(_read, json_schema_input_type=Condition | CelText | None)]
"""A whole condition, as a tree or as CEL text, no deeper and no larger than `schemas.limits` says."""

All.model_rebuild()
AnyOf.model_rebuild()
Not.model_rebuild()

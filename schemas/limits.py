"""How large a definition may be, in its parts: whoever writes one need not be an operator, and every process keeps them all."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, JsonValue

MAX_DEFINITION_BYTES: Final = 1 << 20
"""Of one definition as JSON."""
MAX_NAME_CHARS: Final = 256
MAX_TEMPLATE_CHARS: Final = 20_000
"""Of one title, text or string of a payload."""
MAX_DEPTH: Final = 16
"""Conditions within conditions."""
MAX_CONDITIONS: Final = 500
"""Comparisons and connectives of one condition."""
MAX_PARTS: Final = 200
"""Parts of one `all` or `any`; fields of a source."""
MAX_ITEMS: Final = 1_000
"""Values of one list that a comparison asks for."""
MAX_CONSTANT_CHARS: Final = 4_096
"""Of one string that a comparison asks for."""
MAX_CEL_CHARS: Final = 8_000
"""Of one condition as text."""
MAX_CEL_BRACKETS: Final = 24
"""Brackets within brackets, in a condition as text."""
MAX_CEL_PATH: Final = 64
"""Dots, indices and signs of one comparison, in a condition as text."""
MAX_HOLIDAYS: Final = 366
MAX_STEPS: Final = 16
"""Of a sequence."""
MAX_TIMES: Final = 1_000
"""That a trigger counts to: so many times are remembered of each subject."""
MAX_COUNT: Final = 1_000_000_000
MAX_SECONDS: Final = 315_360_000
"""Ten years, for whatever waits or lasts."""
MAX_LATENESS_MS: Final = 86_400_000
"""A day, for disorder and grace: windows within it are kept open."""
MAX_LISTED: Final = 10_000
"""Features that a product lists."""
MAX_INTEGER: Final = 1 << 63


def bounded_condition(value: Any) -> Any:
    """The value, if as a condition it is neither too deep nor too large; else ValueError. Walks without recursion."""
    level, seen, depth = [value], 0, 0
    while level:
        seen += len(level)
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"conditions nest deeper than {MAX_DEPTH}")
        if seen > MAX_CONDITIONS:
            raise ValueError(f"more than {MAX_CONDITIONS} conditions in one")
        level = [part for node in level for part in _parts(node)]
    return value


def bounded_value(value: JsonValue) -> JsonValue:
    """The value, if it is a scalar or a list of scalars within bounds; else ValueError."""
    items = value if isinstance(value, list) else [value]
    if len(items) > MAX_ITEMS:
        raise ValueError(f"more than {MAX_ITEMS} values in one list")
    for item in items:
        if isinstance(item, list | dict):
            raise ValueError("a comparison asks for a text, a number, true, false, null, or a list of those")
        if isinstance(item, str) and len(item) > MAX_CONSTANT_CHARS:
            raise ValueError(f"a text of more than {MAX_CONSTANT_CHARS} characters")
        if isinstance(item, int) and not -MAX_INTEGER <= item < MAX_INTEGER:
            raise ValueError("a number beyond 64 bits")
    return value


def _parts(node: Any) -> list[Any]:
    """What a condition holds, whether it is a model already or still as it was written."""
    of = (
        getattr(node, "of", None) if isinstance(node, BaseModel) else node.get("of") if isinstance(node, dict) else None
    )
    if isinstance(of, list):
        return of
    return [] if of is None else [of]

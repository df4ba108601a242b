"""How large and how deep a condition as text is, judged before the grammar sees it.

The grammar's pattern of a string backtracks without end where a string of backslashes has none, and its trees are walked by recursion.
"""

from __future__ import annotations

import re
from typing import Final

from schemas.limits import MAX_CEL_BRACKETS, MAX_CEL_CHARS, MAX_CEL_PATH

_ESCAPE: Final = re.compile(r"""\\(?:[abfnrtv"'\\?`]|[0-3][0-7]{2}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})""")


class CelError(ValueError):
    """The text is no condition: where (from 1), why, and what to write instead, in one line."""

    def __init__(self, line: int, column: int, reason: str) -> None:
        super().__init__(f"line {line}, column {column}: {reason}")
        self.line, self.column, self.reason = line, column, reason


def measure(text: str) -> None:
    """Refuse what could keep the grammar's regular expressions, or recursion over its trees, busy for long."""
    if len(text) > MAX_CEL_CHARS:
        raise CelError(1, 1, f"{len(text)} characters; at most {MAX_CEL_CHARS}: split the condition")
    depth = i = dots = 0
    while i < len(text):
        char = text[i]
        if char in "\"'":
            i = _string_end(text, i)
        elif char == "/" and text[i : i + 2] == "//":
            i = (text.find("\n", i) + 1) or len(text)
            continue
        elif char in "([{":
            depth += 1
            if depth > MAX_CEL_BRACKETS:
                raise _at(text, i, f"brackets nest deeper than {MAX_CEL_BRACKETS}")
        elif char in ")]}":
            depth -= 1
        if char in ".[!-":
            dots += 1
            if dots > MAX_CEL_PATH:
                raise _at(text, i, f"more than {MAX_CEL_PATH} of one sign after the other")
        elif char in "&|,":
            dots = 0
        i += 1


def _string_end(text: str, start: int) -> int:
    """Where the string that begins there has its last quote."""
    quote = text[start]
    if start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        raise _at(text, start, "write a plain string: no letter stands before its quote")
    if text[start : start + 3] == 3 * quote:
        raise _at(text, start, "write a string between single quotation marks, with \\n for a new line")
    i = start + 1
    while i < len(text) and text[i] not in (quote, "\n"):
        if text[i] == "\\":
            escape = _ESCAPE.match(text, i)
            if escape is None:
                raise _at(text, i, f"{text[i : i + 2]!r} means nothing in a string; write \\\\ for a backslash")
            i = escape.end()
        else:
            i += 1
    if i >= len(text) or text[i] == "\n":
        raise _at(text, start, "the string does not end on its line")
    return i


def _at(text: str, position: int, reason: str) -> CelError:
    before = text[:position]
    return CelError(before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1, reason)

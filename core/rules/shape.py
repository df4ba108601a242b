"""The shape of a template, judged before Jinja sees it as a program: how much stands in one expression, how deep it nests.

Jinja and Python walk expressions by recursion; what is within these bounds never comes near their limits, so whether a
template compiles does not depend on how deep the stack was when it was asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jinja2 import Environment, nodes

MAX_TOKENS: Final = 150
"""Words, numbers, operators and brackets of one expression."""
MAX_BRACKETS: Final = 12
"""Brackets within brackets."""
MAX_BLOCKS: Final = 12
"""`if` within `if`; also the most branches of one."""
MAX_TREE: Final = 48
"""Depth of the parsed expression."""
MAX_INTEGER: Final = 4_000
"""Digits of a number."""

_OPEN: Final = {"(": ")", "[": "]", "{": "}"}


class TooComplex(ValueError):
    """The template is beyond a bound; the message names it."""


def parsed(env: Environment, source: str) -> nodes.Template:
    """The template as a tree. Raises `TooComplex`, or `jinja2.TemplateSyntaxError` where it cannot be read."""
    check_tokens(env, source)
    tree = env.parse(source)
    check_tree(tree)
    return tree


def check_tokens(env: Environment, source: str) -> None:
    """Raises `TooComplex`, or `jinja2.TemplateSyntaxError` where it cannot be read at all."""
    tokens = brackets = blocks = 0
    opening = False
    for line, kind, value in env.lex(source):
        match kind:
            case "variable_begin" | "block_begin":
                tokens = brackets = 0
                opening = kind == "block_begin"
            case "whitespace" | "data" | "comment" | "comment_begin" | "comment_end" | "variable_end" | "block_end":
                continue
            case _:
                tokens += 1
                if opening and kind == "name":
                    blocks += (value in ("if", "elif", "else")) - (value == "endif")
                    opening = False
                if kind == "operator":
                    brackets += (value in _OPEN) - (value in _OPEN.values())
                if kind == "integer" and len(value) > MAX_INTEGER:
                    raise TooComplex(f"line {line}: a number of {len(value)} digits")
        if tokens > MAX_TOKENS:
            raise TooComplex(f"line {line}: more than {MAX_TOKENS} words and signs in one expression")
        if brackets > MAX_BRACKETS:
            raise TooComplex(f"line {line}: brackets nest deeper than {MAX_BRACKETS}")
        if blocks > MAX_BLOCKS:
            raise TooComplex(f"line {line}: more than {MAX_BLOCKS} conditions within each other")


def check_tree(tree: nodes.Node) -> None:
    """Raises `TooComplex` where the parsed template is deeper than it may be."""
    level: Iterable[nodes.Node] = [tree]
    for _ in range(MAX_TREE):
        level = [child for node in level for child in node.iter_child_nodes()]
        if not level:
            return
    raise TooComplex(f"expressions nest deeper than {MAX_TREE}")

"""YAML from people: parsed with bounds, so that a file of a kilobyte cannot become gigabytes (aliases of aliases) or a crash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import yaml

MAX_CHARS: Final = 4 << 20
MAX_DEPTH: Final = 64
MAX_NODES: Final = 200_000
"""Scalars, lists and mappings, with each alias counted as all that it stands for."""
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same language, ten times as fast where the wheel has it."""


class BadYaml(ValueError):
    """The text is no YAML, or beyond a bound. One line, without the text."""


def load_yaml(text: str) -> Any:
    """The document in `text` (plain values only). Raises `BadYaml`."""
    if len(text) > MAX_CHARS:
        raise BadYaml(f"{len(text)} characters; at most {MAX_CHARS}: split the file")
    try:
        _check_depth(text)
        loader = _LOADER(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _size(root, {}, set())
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except BadYaml:
        raise
    except yaml.YAMLError as error:
        raise BadYaml(" ".join(str(error).split())[:500]) from error
    except Exception as error:  # the constructors' own: a date of 99 months, a number of 5,000 digits
        raise BadYaml(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """The line (from 1) of what stands at this path, or of the nearest thing around it: parts that the document does not have (tags of
    unions) are passed over. None where the text is beyond the bounds.
    """
    try:
        load_yaml(text)
        node = yaml.compose(text, Loader=_LOADER)
    except (BadYaml, yaml.YAMLError):
        return None
    line: int | None = None
    for part in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    node, line = value, key.start_mark.line + 1
                    break
    return line


def _check_depth(text: str) -> None:
    """The composer recurses; its events do not."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise BadYaml(f"{_line(event.start_mark)}: nested deeper than {MAX_DEPTH}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _size(node: yaml.Node, known: dict[int, int], open_: set[int]) -> int:
    """How many nodes the node stands for, aliases written out. Raises `BadYaml` beyond the bound, and for a node in itself."""
    here = id(node)
    if here in known:
        return known[here]
    if here in open_:
        raise BadYaml(f"{_line(node.start_mark)}: an alias of what it stands in")
    open_.add(here)
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_size(part, known, open_) for part in node.value)
    elif isinstance(node, yaml.MappingNode):
        total += sum(_size(part, known, open_) for pair in node.value for part in pair)
    if total > MAX_NODES:
        raise BadYaml(f"{_line(node.start_mark)}: more than {MAX_NODES} values, aliases written out")
    open_.discard(here)
    known[here] = total
    return total


def _line(mark: Any) -> str:
    return "somewhere" if mark is None else f"line {mark.line + 1}"

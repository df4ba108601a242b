"""Templates of commands: Jinja2's sandbox, cut down to values, filters and `if`.

Templates come from tenants, so they can neither run long nor grow large nor reach into Python: no loops, no calls, no
assignments, no attributes of objects (facts are plain mappings, numbers, strings and lists), a short list of filters, no
operator that multiplies or joins text, bounded expressions (`shape`), numbers of 64 bits. A string that is one whole
`{{ expression }}` keeps the expression's type.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from jinja2 import StrictUndefined, Template, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.filters import do_round
from jinja2.runtime import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import JsonValue

from core.rules import shape
from schemas.limits import MAX_TEMPLATE_CHARS

MAX_OUTPUT_CHARS = 64_000
"""Of one command, all that was rendered together; a number or a word like `true` counts as eight."""
MAX_NESTING = 16
MAX_DECIMALS = 15
_INT64 = 1 << 63

_FILTERS = (
    "abs default first float int last length lower max min round sort string sum title trim truncate upper".split()
)
_ALLOWED: Final[tuple[type[nodes.Node], ...]] = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.CondExpr, nodes.Name, nodes.Const),
    *(nodes.Getattr, nodes.Getitem, nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or),
    *(nodes.Not, nodes.List, nodes.Tuple, nodes.Keyword, nodes.Neg, nodes.Pos, nodes.Add, nodes.Sub),
    *(nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod),
)


class RenderError(Exception):
    """A template cannot be compiled or rendered; the message says where and why, `reason` is a metric's label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Environment(ImmutableSandboxedEnvironment):
    """Numbers only under arithmetic, mappings and lists only under `.`."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic is for numbers: `"a" * 1000000000` and `"%9d" % x` are refused."""
        if not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            raise SecurityError(f"{operator} takes numbers only")
        return super().call_binop(context, operator, left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`a.b` is a look-up in a mapping, never an attribute."""
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Mappings by key, lists by index."""
        if isinstance(obj, Mapping) and argument in obj:
            return obj[argument]
        if isinstance(obj, (list, tuple)) and isinstance(argument, int) and -len(obj) <= argument < len(obj):
            return obj[argument]
        return self.undefined(obj=obj, name=argument)


FOREIGN: Final = frozenset(("tenants", "accounts", "contacts", "secrets", "env", "config", "definitions"))
"""What no template finds: it sees the facts of its own trigger, which are its own tenant's."""


class Renderer:
    """Renders strings and payloads over facts; templates are compiled once."""

    def __init__(self, keep: int = 50_000) -> None:
        """Holds the programs of up to `keep` templates."""
        env = _Environment(undefined=StrictUndefined, autoescape=False, cache_size=0)
        env.globals.clear()
        env.filters = {name: env.filters[name] for name in _FILTERS} | {
            **{"round": _round, "sum": _sum, "urlencode": _urlencode}
        }
        env.policies["truncate.leeway"] = 0
        self._env = env
        self._keep = keep
        self._texts: dict[str, Template] = {}
        self._expressions: dict[str, Any] = {}

    def payload(self, value: JsonValue, facts: Mapping[str, object], path: str = "") -> JsonValue:
        """The value with every string in it rendered. Raises `RenderError`."""
        budget = [MAX_OUTPUT_CHARS]
        return self._walk(value, facts, path, budget, 0)

    def text(self, source: str, facts: Mapping[str, object], path: str = "") -> str:
        """A title or text: always a string. Raises `RenderError`."""
        rendered = self.payload(source, facts, path)
        return rendered if isinstance(rendered, str) else str(rendered)

    def names(self, source: str) -> frozenset[str]:
        """The facts that a template asks for, but for those that it has a default for.

        Raises `RenderError` where it would not compile.
        """
        self._compile(source)
        if "{" not in source:
            return frozenset()
        tree = self._env.parse(source)
        spared = {
            name.name
            for node in tree.find_all(nodes.Filter)
            if node.name == "default" and isinstance(name := node.node, nodes.Name)
        }
        return frozenset(meta.find_undeclared_variables(tree)) - spared

    def _walk(
        self, value: JsonValue, facts: Mapping[str, object], path: str, budget: list[int], depth: int
    ) -> JsonValue:
        if depth > MAX_NESTING:
            raise RenderError("too_deep", f"{path}: nested deeper than {MAX_NESTING}")
        match value:
            case str():
                return self._string(value, facts, path, budget)
            case list():
                return [self._walk(v, facts, f"{path}[{i}]", budget, depth + 1) for i, v in enumerate(value)]
            case dict():
                return {k: self._walk(v, facts, f"{path}.{k}", budget, depth + 1) for k, v in value.items()}
            case _:
                return value

    def _string(self, source: str, facts: Mapping[str, object], path: str, budget: list[int]) -> JsonValue:
        if "{" not in source:
            return _json(source, path, budget)
        try:
            self._compile(source)
            expression = self._expressions.get(source)
            if expression is None:
                return _json(_joined(self._texts[source].generate(facts), path), path, budget)
            return _json(expression(facts), path, budget)
        except RenderError:
            raise
        except SecurityError as error:
            raise RenderError("refused", f"{path}: {error}") from error
        except (
            Exception
        ) as error:  # whatever a filter or an operator raises: a tenant's template stops its own rule only
            raise RenderError("render", f"{path}: {error}") from error

    def _compile(self, source: str) -> None:
        if source in self._texts:
            return
        if len(source) > MAX_TEMPLATE_CHARS:
            raise RenderError("too_large", f"a template of more than {MAX_TEMPLATE_CHARS} characters; shorten it")
        if "{" not in source:  # plain text, which is rendered as it stands
            return
        try:
            tree = shape.parsed(self._env, source)
            for node in tree.find_all(nodes.Node):
                if not isinstance(node, (*_ALLOWED, nodes.EvalContext)):
                    raise RenderError("refused", f"line {node.lineno}: {type(node).__name__} is not allowed here")
                if (why := _never(node)) is not None:
                    raise RenderError("refused", f"line {node.lineno}: {why}")
            if len(self._texts) > self._keep:
                self._texts.clear()
                self._expressions.clear()
            text = self._env.from_string(source)
            whole = source.strip()
            match self._env.parse(whole).body:
                case [nodes.Output(nodes=[only])] if not isinstance(only, nodes.TemplateData):
                    self._expressions[source] = self._env.compile_expression(whole[2:-2], undefined_to_none=False)
            self._texts[source] = text
        except shape.TooComplex as error:
            raise RenderError("too_complex", f"{error}: take a part of it out, {source[:80]!r}") from error
        except RenderError:
            raise
        except (
            Exception
        ) as error:  # constants are computed here: filters, operators and Python's compiler have their own
            raise RenderError("syntax", f"{error}: {source[:80]!r}") from error


def _joined(parts: Iterable[str], path: str) -> str:
    """The parts as one text, refused as soon as it is too large."""
    text, size = [], 0
    for part in parts:
        size += len(part)
        if size > MAX_OUTPUT_CHARS:
            raise RenderError("too_large", f"{path}: more than {MAX_OUTPUT_CHARS} characters; shorten it")
        text.append(part)
    return "".join(text)


def _json(value: object, path: str, budget: list[int], depth: int = 0) -> JsonValue:
    """The value, where JSON has it; takes its size off the budget."""
    if depth > MAX_NESTING:
        raise RenderError("too_deep", f"{path}: nested deeper than {MAX_NESTING}")
    budget[0] -= len(value) if isinstance(value, str) else 8
    if budget[0] < 0:
        raise RenderError("too_large", f"{path}: more than {MAX_OUTPUT_CHARS} characters; shorten it")
    match value:
        case Undefined():
            str(value)  # raises with the name that is missing
            raise RenderError("render", f"{path}: undefined")
        case None | bool():
            return value
        case str():
            return _text(value, path)
        case int():
            if not -_INT64 <= value < _INT64:
                raise RenderError("render", f"{path}: a number beyond 64 bits")
            return value
        case float():
            if not math.isfinite(value):
                raise RenderError("render", f"{path}: not a finite number")
            return value
        case list() | tuple():
            return [_json(v, path, budget, depth + 1) for v in value]
        case Mapping():
            return {
                str(_json(str(k), path, budget, depth + 1)): _json(v, path, budget, depth + 1) for k, v in value.items()
            }
        case _:
            raise RenderError("render", f"{path}: {type(value).__name__} is no JSON value")


def _never(node: nodes.Node) -> str | None:
    """Why this can render on no facts whatever."""
    match node:
        case nodes.Getattr(attr=str() as name) | nodes.Getitem(arg=nodes.Const(value=str() as name)) if (
            name[:2] == "__"
        ):
            return f"{name[:40]} is the inside of an object, and no fact"
        case nodes.BinExpr():
            if any(isinstance(side, nodes.Const) and isinstance(side.value, str) for side in (node.left, node.right)):
                if isinstance(node, (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod)):
                    return f"{node.operator} takes numbers only"
    return None


def _text(value: str, path: str) -> str:
    """The text, where it is one: an escape in a template can make half a character, which no topic can carry."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RenderError("render", f"{path}: half a character (a lone surrogate)") from None
    return value


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    """Jinja's `round`, with decimals in reason: the original computes ten to the power of whatever it is given."""
    if not -MAX_DECIMALS <= precision <= MAX_DECIMALS:
        raise ValueError(f"round takes {-MAX_DECIMALS} to {MAX_DECIMALS} decimals")
    return do_round(value, precision, method)  # type: ignore[arg-type]


def _urlencode(value: object) -> str:
    """One part of a path or a query: the original lets slashes stand, and writes lists as queries."""
    if isinstance(value, (list, tuple, dict)):
        raise ValueError("urlencode takes one value")
    return quote(str(value), safe="")


def _sum(values: Iterable[object]) -> float | int:
    """The sum of numbers; lists, which the original would join at quadratic cost, are none."""
    total: float | int = 0
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError("sum takes numbers only")
        total += value
    return total


_CHECKS: Final = Renderer(keep=100)


@lru_cache(maxsize=4_096)
def asked(source: str) -> frozenset[str]:
    """The facts that a template asks for, as `Renderer.names`: they are kept from one definition to the next."""
    return _CHECKS.names(source)


def foreign(names: Iterable[str]) -> str | None:
    """Why a template asks for what is not its trigger's; None: it does not."""
    found = sorted(FOREIGN.intersection(names))
    if not found:
        return None
    return f"{found[0]!r} is not there: a template sees the facts of its own trigger, and nothing of other tenants"

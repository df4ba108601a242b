"""Conditions as CEL text, both ways: the part of the language that means a condition tree, and nothing of the rest.

    feature == "export" && properties.seats > 5 && !(properties.plan in ["free", "trial"])
    has(account) || title.startsWith("internal-") || "beta" in tags
    during({"weekdays": ["mon", "fri"], "start": "09:00", "end": "17:00", "zone": "Europe/Berlin"})

Names are facts: `properties.plan`, `properties["seat-count"]`, and `facts["any name at all"]`. A name by itself asks for `true`.
`parse` gives trees in one form (no `not` of a `not`, no `all` of one); `celtext` writes them back, and of that form exactly.
The grammar is cel-python's; it is asked only for texts whose size, brackets and strings were measured first (`celmeasure`).
"""

from __future__ import annotations

from typing import Any, Final

from celpy.celparser import CELParseError, CELParser
from celpy.evaluation import celstr
from lark import Token, Tree
from lark.exceptions import UnexpectedToken
from pydantic import JsonValue, ValidationError

from schemas.celmeasure import CelError, measure
from schemas.celtext import FACTS, METHODS, RESERVED, literal, to_cel
from schemas.conditions import All, AnyOf, Compare, Condition, During, Not
from schemas.limits import MAX_CEL_CHARS, MAX_DEPTH, MAX_PARTS

_RELATIONS: Final = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_TURNED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_ORDERED: Final = ("<", "<=", ">", ">=")


def parse(text: str) -> Condition:
    """The condition that the text means. Raises `CelError`.

    >>> parse("latency_ms > 1000").op
    '>'
    """
    condition = _parsed(text)
    if (size := len(to_cel(condition))) > MAX_CEL_CHARS:  # what is shown must be taken again
        raise CelError(1, 1, f"{size} characters when it is written out; at most {MAX_CEL_CHARS}: split the condition")
    return condition


def _parsed(text: str) -> Condition:
    measure(text)
    try:
        tree = CELParser().parse(text)
    except CELParseError as error:
        raise _syntax(text, error) from error
    try:
        return _condition(tree, 0)
    except ValidationError as error:  # longer names and values than conditions hold
        first = error.errors()[0]
        raise CelError(1, 1, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _syntax(text: str, error: CELParseError) -> CelError:
    cause = error.__context__
    found = str(getattr(cause, "token", "") or "")
    if isinstance(cause, UnexpectedToken) and cause.token.type == "$END":
        lines = text.rstrip().split("\n")
        return CelError(len(lines), len(lines[-1]) + 1, "the condition ends too early")
    line, column = max(1, error.line or 1), max(1, error.column or 1)
    here = found or text.split("\n")[line - 1][column - 1 : column]
    hint = "; equality is ==" if here == "=" else ""
    return CelError(line, column, f"{here[:40]!r} cannot stand here{hint}")


def _refuse(node: Tree[Token] | Token, reason: str) -> CelError:
    place: Any = node if isinstance(node, Token) else node.meta
    return CelError(getattr(place, "line", 1) or 1, getattr(place, "column", 1) or 1, reason)


def _narrow(node: Tree[Token]) -> Tree[Token]:
    """Down the levels of precedence that hold one part only."""
    while len(node.children) == 1 and isinstance(node.children[0], Tree) and node.data not in ("list_lit", "map_lit"):
        node = node.children[0]
    return node


def _condition(node: Tree[Token], depth: int) -> Condition:
    node = _narrow(node)
    if depth > MAX_DEPTH:
        raise _refuse(node, f"conditions nest deeper than {MAX_DEPTH}")
    match str(node.data):
        case "conditionaland" | "conditionalor":
            chain = _chain(node)
            if len(chain) > MAX_PARTS:
                raise _refuse(
                    node, f"{len(chain)} conditions side by side; at most {MAX_PARTS}: put some between brackets"
                )
            parts = [_condition(part, depth + 1) for part in chain]
            return All(of=parts) if node.data == "conditionaland" else AnyOf(of=parts)
        case "relation":
            return _relation(node)
        case "unary":
            sign, inner = node.children
            if not isinstance(inner, Tree) or not isinstance(sign, Tree) or sign.data != "unary_not":
                raise _refuse(node, "a minus sign stands before a number only")
            return _negated(_condition(inner, depth + 1))
        case "ident_arg":
            return _call(node)
        case "member_dot_arg":
            return _method(node)
        case "literal":
            value = _constant(node)
            if isinstance(value, bool):
                return All(of=[]) if value else AnyOf(of=[])
            raise _refuse(node, "a value by itself is no condition: compare a fact with it")
        case "expr":
            raise _refuse(node, "`? :` is no part of conditions: write && and ||")
        case "addition" | "multiplication":
            raise _refuse(node, "conditions do not calculate: compare a fact with a value")
        case _:
            return Compare(field=_field(node), op="==", value=True)


def _negated(condition: Condition) -> Condition:
    match condition:
        case Not():
            return condition.of
        case All(of=[]):
            return AnyOf(of=[])
        case AnyOf(of=[]):
            return All(of=[])
        case _:
            return Not(of=condition)


def _chain(node: Tree[Token]) -> list[Tree[Token]]:
    """The operands of `a && b && c`, in order; brackets begin a chain of their own."""
    parts: list[Tree[Token]] = []
    kind = node.data
    while node.data == kind and len(node.children) == 2:
        left, right = node.children
        if not isinstance(left, Tree) or not isinstance(right, Tree):
            break
        parts.append(right)
        node = left
        while node.data != "paren_expr" and len(node.children) == 1 and isinstance(node.children[0], Tree):
            if node.data == kind and len(node.children) == 2:
                break
            node = node.children[0]
    parts.append(node)
    return parts[::-1]


def _relation(node: Tree[Token]) -> Condition:
    head, right = node.children
    if not isinstance(head, Tree) or not isinstance(right, Tree) or not isinstance(head.children[0], Tree):
        raise _refuse(node, "this comparison is incomplete")
    sign = str(head.data).removeprefix("relation_")
    left, right = _narrow(head.children[0]), _narrow(right)
    if sign == "in":
        if right.data == "list_lit":
            return Compare(field=_field(left), op="in", value=_constant(right))
        return Compare(field=_field(right), op="contains", value=_scalar(left))
    op: Any = _RELATIONS[sign]
    if left.data == "literal":
        left, right, op = right, left, _TURNED[op]
    value = _scalar(right)
    if op in _ORDERED and (value is None or isinstance(value, bool)):
        raise _refuse(right, f"{literal(value)} has no order: compare numbers or texts with {op}")
    return Compare(field=_field(left), op=op, value=value)


def _call(node: Tree[Token]) -> Condition:
    name, *more = node.children
    arguments = _arguments(more)
    if name == "has" and len(arguments) == 1:
        return Not(of=Compare(field=_field(_narrow(arguments[0])), op="missing"))
    if name == "during" and len(arguments) == 1 and _narrow(arguments[0]).data == "map_lit":
        try:
            return During.model_validate(_constant(_narrow(arguments[0])))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise _refuse(node, f"during: {where + ': ' if where else ''}{first['msg']}") from error
    raise _refuse(node, f'no function {str(name)[:40]}: there are has(fact) and during({{"start": "09:00", …}})')


def _method(node: Tree[Token]) -> Condition:
    of, name, *more = node.children
    arguments = _arguments(more)
    op: Any = METHODS.get(str(name))
    if op is None or len(arguments) != 1 or not isinstance(of, Tree):
        raise _refuse(
            name if isinstance(name, Token) else node,
            f"no {str(name)[:40]} of {len(arguments)} values: there are {', '.join(METHODS)} of one text",
        )
    value = _scalar(_narrow(arguments[0]))
    if not isinstance(value, str):
        raise _refuse(node, f"{name} takes a text")
    return Compare(field=_field(_narrow(of)), op=op, value=value)


def _arguments(nodes: list[Any]) -> list[Tree[Token]]:
    return [part for node in nodes if isinstance(node, Tree) for part in node.children if isinstance(part, Tree)]


def _field(node: Tree[Token]) -> str:
    """The dotted path of the fact that is named here."""
    parts: list[str] = []
    at = _narrow(node)
    while at.data in ("member_dot", "member_index"):
        of, last = at.children
        if isinstance(last, Token):
            parts.append(str(last))
        else:
            index = _scalar(_narrow(last))
            if not isinstance(index, str) or not index:
                raise _refuse(last, "a fact is named by a text: facts are not indexed by number")
            parts.append(index)
        if not isinstance(of, Tree):
            break
        at = _narrow(of)
    if at.data in ("addition", "multiplication"):
        raise _refuse(at, "conditions do not calculate: compare a fact with a value")
    if at.data != "ident" or not isinstance(at.children[0], Token):
        raise _refuse(node, "expected a fact's name here, like feature or properties.plan")
    root = str(at.children[0])
    if root in RESERVED:
        raise _refuse(at, f'{root} is a word of the language: write facts["{root}"]')
    if root == FACTS and parts:
        return ".".join(parts[::-1])
    return ".".join([root, *parts[::-1]])


def _scalar(node: Tree[Token]) -> JsonValue:
    if node.data != "literal":
        raise _refuse(node, "expected a text, a number, true, false or null here: facts are compared with values only")
    return _constant(node)


def _constant(node: Tree[Token]) -> JsonValue:
    """The value that is written here: a scalar, a list or a mapping of such."""
    node = _narrow(node)
    if node.data == "list_lit":
        return [_constant(part) for part in _arguments(list(node.children))]
    if node.data == "map_lit":
        parts = _arguments(list(node.children))
        return {str(_scalar(_narrow(k))): _constant(v) for k, v in zip(parts[::2], parts[1::2], strict=True)}
    if node.data != "literal" or not isinstance(node.children[0], Token):
        raise _refuse(node, "expected a value here: a text, a number, true, false, null, or a list of those")
    token = node.children[0]
    match token.type:
        case "STRING_LIT":
            return _text(token)
        case "INT_LIT" | "UINT_LIT":
            digits = token.rstrip("uU")
            if len(digits) > 24:
                raise _refuse(token, "a number beyond 64 bits")
            return int(digits, 16 if "x" in digits else 10)
        case "FLOAT_LIT":
            value = float(token)
            if value in (float("inf"), float("-inf")):
                raise _refuse(token, "a number beyond what a double can hold")
            return value
        case "BOOL_LIT":
            return str(token) == "true"
        case "NULL_LIT":
            return None
        case _:
            raise _refuse(token, "bytes are no value here: write a text")


def _text(token: Token) -> str:
    value = str(celstr(token))
    try:
        value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise _refuse(token, "half a character (a lone surrogate)") from None
    return value.encode("utf-16", "surrogatepass").decode("utf-16")

"""What every definition that comes over HTTP must pass: what `uptake apply` asks, with line, path and reason of what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

from fastapi import Request
from pydantic import JsonValue, ValidationError

from app.api.gateway import Gateway
from app.api.problems import Problem
from core.rulebook import complaint_path, dotted, loop_problems
from core.rules.lint import rule_findings, segment_findings
from core.workflows.problems import call_problems, problems
from core.yamltext import BadYaml, Places, load_yaml
from integrations.hands import Hands
from schemas.definitions import DEFINITION, Connection, Definition, Rule, Segment, Source, Workflow
from schemas.limits import MAX_DEFINITION_BYTES

Path = Sequence[str | int]
_UNION = frozenset(
    ("product", "segment", "campaign", "source", "rule", "workflow", "threshold", "detector", "connection")
)
"""Words that pydantic puts before a path for the member of the union; they stand in no text."""


async def text_of(request: Request) -> str:
    """The body as it was sent: problems name its lines."""
    return (await request.body()).decode(errors="replace")


def checked(gateway: Gateway, tenant: str, body: dict[str, JsonValue], text: str = "", inside: Path = ()) -> Definition:
    """The definition that this is, for that tenant. `text`: the body as it was sent; `inside`: where in it the definition stands.

    Raises `Problem` 422 with everything that is wrong, 413 where it is too large.
    """
    lines = _Lines(text, inside)
    try:
        wanted = DEFINITION.validate_python({**body, "tenant": tenant, "version": 1})
    except ValidationError as error:
        lines.refuse((_within(e["loc"]), str(e["msg"])) for e in error.errors(include_url=False))
    if isinstance(wanted, Connection) and (wrong := [*Hands().problems(wanted), *gateway.reach.problems(wanted)]):
        lines.refuse((("config",), why) for why in wrong)
    if isinstance(wanted, Rule) and (found := [f for f in rule_findings(wanted) if f.level == "error"]):
        lines.refuse((f.path, f.reason) for f in found)
    if isinstance(wanted, Segment) and (found := [f for f in segment_findings(wanted) if f.level == "error"]):
        lines.refuse((f.path, f.reason) for f in found)
    if isinstance(wanted, Workflow):
        known = {w.name: w for w in gateway.catalogue.of(Workflow, tenant)} | {wanted.name: wanted}
        if told := problems(wanted) or list(call_problems(wanted, known)):
            lines.refuse_told(told)
    if len(wanted.model_dump_json()) > MAX_DEFINITION_BYTES:
        raise Problem(413, "too-large", f"a definition has at most {MAX_DEFINITION_BYTES} bytes: make several of it")
    if isinstance(wanted, Rule | Source | Connection | Workflow):
        if ways := loop_problems(wanted, gateway.catalogue.heads()):
            lines.refuse(((wanted.kind,), way) for way in ways)
    return wanted


class _Lines:
    """Where in the text something stands, if it can be said."""

    def __init__(self, text: str, inside: Path) -> None:
        self._text, self._inside = text, inside

    def refuse(self, found: Iterable[tuple[Path, str]]) -> NoReturn:
        """Raise a problem that lists them."""
        listed = list(found)
        self._refuse([(dotted(tuple(path)), path, why) for path, why in listed])

    def refuse_told(self, told: Iterable[str]) -> NoReturn:
        """The same for what `problems` says of a workflow."""
        self._refuse([(shown, path, why) for path, shown, why in map(complaint_path, told)])

    def _refuse(self, listed: list[tuple[str, Path, str]]) -> NoReturn:
        places = self._places()
        errors: list[dict[str, str | int]] = []
        for at, path, why in listed:
            entry: dict[str, str | int] = {"at": at, "why": why}
            if places is not None:
                entry["line"] = places.line((*self._inside, *path))
            errors.append(entry)
        first = errors[0]
        line = f"line {first['line']}: " if "line" in first else ""
        raise Problem(422, "invalid-definition", f"{line}{first['at']}: {first['why']}", errors=errors)

    def _places(self) -> Places | None:
        if not self._text:
            return None
        try:
            load_yaml(self._text)  # JSON is YAML, and within its bounds
        except BadYaml:
            return None
        return Places(self._text)


def _within(path: Path) -> Path:
    return path[1:] if path and path[0] in _UNION else path

"""Errors of the gateway: `application/problem+json` (RFC 9457), each with the caller's next move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"


class ProblemBody(BaseModel):
    """What every error answers with."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str
    """`urn:uptake:problem:<name>`: stable, for programs."""
    title: str
    status: int
    detail: str
    """What went wrong here, and what to do next."""


class Problem(Exception):
    """An error that is answered as it stands. `more` becomes further members of the body."""

    def __init__(
        self, status: int, name: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more


def answer(problem: Problem) -> JSONResponse:
    """The response to a problem."""
    body = {
        "type": f"urn:uptake:problem:{problem.name}",
        "title": problem.name.replace("-", " ").capitalize(),
        "status": problem.status,
        "detail": problem.detail,
        **problem.more,
    }
    return JSONResponse(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def not_found(what: str, name: str, move: str) -> Problem:
    """Nothing of that name, as far as this caller may see."""
    return Problem(404, "not-found", f"there is no {what} {name!r}: {move}")


def errors_of(error: ValidationError | RequestValidationError) -> list[dict[str, str]]:
    """Where and why, without the input: it may hold what nobody should read."""
    return [{"at": ".".join(str(p) for p in e["loc"]), "why": str(e["msg"])} for e in error.errors()]


def install(app: FastAPI) -> None:
    """Make every error a problem."""

    async def problem(request: Request, error: Problem) -> JSONResponse:
        return answer(error)

    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        listed = errors_of(error)
        first = listed[0] if listed else {"at": "body", "why": "unreadable"}
        detail = f"{first['at']}: {first['why']}; /openapi.json says what is expected"
        return answer(Problem(422, "invalid-request", detail, errors=listed))

    async def http(request: Request, error: HTTPException) -> JSONResponse:
        moves = {
            404: ("no-such-path", f"there is nothing at {request.url.path}: /openapi.json lists the paths"),
            405: ("method-not-allowed", f"{request.method} is not for this path: /openapi.json lists the methods"),
        }
        name, detail = moves.get(error.status_code, ("refused", str(error.detail)))
        return answer(Problem(error.status_code, name, detail, headers=error.headers))

    async def database(request: Request, error: OperationalError) -> JSONResponse:
        detail = "the read model does not answer: try again, then look at the database"
        return answer(Problem(503, "read-model-unavailable", detail, headers={"retry-after": "2"}))

    handlers: Mapping[type[Exception], Any] = {
        Problem: problem,
        RequestValidationError: invalid,
        HTTPException: http,
        OperationalError: database,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def documented(descriptions: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Problems as the OpenAPI document shows them: status → when."""
    return {
        status: {"model": ProblemBody, "content": {MEDIA_TYPE: {}}, "description": description}
        for status, description in descriptions.items()
    }


RESPONSES: Final = documented(
    {
        400: "The body is not what its content type says.",
        401: "No API key, or one that nobody issued.",
        403: "The key's role or tenant does not allow it.",
        404: "There is no such thing, as far as this key may see.",
        413: "The body is too large.",
        422: "The request does not hold what it should.",
        429: "Too many requests for this key; `Retry-After` says when to go on.",
        503: "Kafka or the read model does not answer; try again.",
    }
)
"""For the OpenAPI document: what any endpoint may answer with."""

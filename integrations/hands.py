"""Hands: all integrations together, as DELIVER uses them, and connections checked against them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
from pydantic import BaseModel, JsonValue, SecretStr, ValidationError

from integrations.base import HttpRequest, Integration, MailRequest, Request, Response, Settings
from integrations.catalogue import ALL
from schemas.definitions import Connection
from schemas.delivery import Delivery, Outcome, Rejected

Reveal = Callable[[str, Mapping[str, JsonValue]], str]
"""(owner of the connection, reference) → the secret that the reference (`{"env": …}` or `{"file": …}`) names."""

_MASK = "hidden"


class BadConnection(ValueError):
    """A connection cannot be used as it is defined. The message names the fields, never their values."""


class SecretUnavailable(Exception):
    """A secret's reference leads nowhere just now. The message names the reference and the next move."""


class Hands:
    """Renders and interprets for every integration of the list."""

    def __init__(self, integrations: Iterable[Integration] = ALL) -> None:
        self._by_name = {i.NAME: i for i in integrations}

    @property
    def names(self) -> list[str]:
        """What `integration` of a connection may be."""
        return sorted(self._by_name)

    def config(self, name: str) -> type[Settings]:
        """What a connection's `config` must be, secrets revealed; forms are made of it. Raises KeyError."""
        return self._by_name[name].Config

    def render(self, delivery: Delivery, connection: Connection, now: int, reveal: Reveal) -> Request:
        """The request of an attempt made at `now`. Raises `BadConnection`, and whatever `reveal` raises."""
        integration = self._integration(connection)
        config = _validated(integration, _revealed(connection.config, partial(reveal, connection.tenant)))
        _no_literal_secret(config, connection.config)
        return integration.render(delivery, config, now)

    def interpret(self, connection: Connection, response: Response) -> Outcome:
        """What the response meant to this connection's integration."""
        integration = self._by_name.get(connection.integration)
        return Rejected(reason="unknown_integration") if integration is None else integration.interpret(response)

    def sketch(self, delivery: Delivery, connection: Connection, now: int) -> dict[str, JsonValue]:
        """What would be sent, for the sandbox: every secret replaced by the integration's example.

        Never raises for the connection's sake: what is wrong with it stands under `problems`.
        """
        try:
            integration = self._integration(connection)
            return show(integration.render(delivery, self._masked(connection), now))
        except BadConnection as error:
            return {"problems": [str(error)]}

    def problems(self, connection: Connection) -> list[str]:
        """What is wrong with a connection as defined, before anything is sent; empty: nothing."""
        try:
            self._masked(connection)
        except BadConnection as error:
            return [str(error)]
        return []

    def _masked(self, connection: Connection) -> Settings:
        integration = self._integration(connection)
        config = _validated(integration, _masked(connection.config, integration.EXAMPLE))
        _no_literal_secret(config, connection.config)
        return config

    def _integration(self, connection: Connection) -> Integration:
        found = self._by_name.get(connection.integration)
        if found is None:
            raise BadConnection(f"integration {connection.integration!r} is none of {', '.join(self.names)}")
        return found


def show(request: Request) -> dict[str, JsonValue]:
    """A request as a person reads it. Made of masked configs only: it shows everything."""
    if isinstance(request, HttpRequest):
        return {
            "method": request.method,
            "url": request.url,
            "headers": dict(request.headers),
            "body": _readable(request.body),
        }
    if isinstance(request, MailRequest):
        return {
            "host": request.host,
            "port": request.port,
            "sender": request.sender,
            "recipients": list(request.recipients),
            "message": request.message.decode(errors="replace"),
        }
    return {"topic": request.topic, "key": request.key.decode(errors="replace"), "value": _readable(request.value)}


def is_reference(value: object) -> bool:
    """Whether a config value names a secret instead of being one: `{"env": NAME}` or `{"file": PATH}`."""
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in ("env", "file")


def _readable(body: bytes) -> JsonValue:
    try:
        value: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")
    return value


def _validated(integration: Integration, config: object) -> Settings:
    try:
        return integration.Config.model_validate(config)
    except ValidationError as error:
        parts = error.errors(include_input=False, include_url=False, include_context=False)
        said = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in parts[:5])
        raise BadConnection(f"config of {integration.NAME} does not hold: {said}") from None


def _revealed(value: JsonValue, reveal: Callable[[Mapping[str, JsonValue]], str]) -> Any:
    if isinstance(value, dict):
        if is_reference(value):
            return reveal(value)
        return {name: _revealed(part, reveal) for name, part in value.items()}
    if isinstance(value, list):
        return [_revealed(part, reveal) for part in value]
    return value


def _masked(value: JsonValue, example: object) -> Any:
    """The config with the example's secrets in place of references."""
    if is_reference(value):
        return example if isinstance(example, str) else _MASK
    if isinstance(value, dict):
        known = example if isinstance(example, Mapping) else {}
        return {name: _masked(part, known.get(name)) for name, part in value.items()}
    if isinstance(value, list):
        return [_masked(part, None) for part in value]
    return value


def _no_literal_secret(config: object, written: JsonValue, path: Sequence[str] = ()) -> None:
    """Raises where a secret's value stands in the definition itself."""
    if isinstance(config, SecretStr):
        if not is_reference(written):
            raise BadConnection(
                f"{'.'.join(path)} is a secret: keep it in an environment variable or a file, and write "
                f'{{"env": "NAME"}} or {{"file": "PATH"}} here'
            )
    elif isinstance(config, BaseModel) and isinstance(written, dict):
        for name in config.model_fields_set:
            _no_literal_secret(getattr(config, name), written.get(name), (*path, name))
    elif isinstance(config, Mapping) and isinstance(written, dict):
        for name, part in config.items():
            _no_literal_secret(part, written.get(name), (*path, str(name)))
    elif isinstance(config, list | tuple) and isinstance(written, list):
        for part, original in zip(config, written, strict=True):
            _no_literal_secret(part, original, (*path, "[]"))

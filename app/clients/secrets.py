"""Secrets by reference: looked up at the moment of sending, so a changed one needs no restart, and kept nowhere.

Each tenant has a namespace of its own; the operator's connections (tenant `all`) have everything. Variables of tenant `acme`
are named `UPTAKE_SECRET_ACME__NAME`: the tenant in capitals with `-` as `_`, two underscores, and a name that begins with a
letter or digit and has no two underscores in a row. Its files lie in the folder `acme` of the directory. No variable and no
file belongs to two tenants: the last two underscores in a row end the tenant's part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from integrations.hands import SecretUnavailable, is_reference
from schemas.definitions import ALL_TENANTS

_LARGEST = 64 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9]+(?:_[A-Za-z0-9]+)*")


class Secrets:
    """Resolves `{"env": NAME}` and `{"file": PATH}` of a connection that `owner` (a tenant, or `all`) defined.

    Whoever defines a connection chooses the reference, so not every variable and file is theirs to send away: variables
    begin with `env_prefix`, files lie in `directory`, and a tenant's own in its part of both.
    """

    def __init__(self, environ: Mapping[str, str], env_prefix: str, directory: Path) -> None:
        self._environ = environ
        self._env_prefix = env_prefix
        self._directory = directory

    def reveal(self, owner: str, reference: Mapping[str, JsonValue]) -> str:
        """The secret. Raises `SecretUnavailable`, whose message names the reference and the next move."""
        match dict(reference):
            case {"env": str(name)}:
                return self._variable(owner, name)
            case {"file": str(path)}:
                return self._file(owner, path)
        raise SecretUnavailable('a secret is written {"env": "NAME"} or {"file": "PATH"}')

    def foreign(self, owner: str, config: JsonValue) -> list[str]:
        """What is wrong with the references in a config, whether or not anything is there: asking tells nobody what exists."""
        problems: list[str] = []
        for reference in _references(config):
            match dict(reference):
                case {"env": str(name)}:
                    problems += self._not_theirs(owner, name)
                case {"file": str(path)}:
                    problems += self._not_inside(owner, path)
                case _:
                    problems.append('a secret is written {"env": "NAME"} or {"file": "PATH"}')
        return problems

    def prefix(self, owner: str) -> str:
        """What the owner's variables begin with."""
        return self._env_prefix if owner == ALL_TENANTS else f"{self._env_prefix}{owner.upper().replace('-', '_')}__"

    def folder(self, owner: str) -> Path:
        """Where the owner's files lie."""
        return self._directory if owner == ALL_TENANTS else self._directory / owner

    def _not_theirs(self, owner: str, name: str) -> list[str]:
        prefix = self.prefix(owner)
        rest = name.removeprefix(prefix)
        if name.startswith(prefix) and (owner == ALL_TENANTS or _NAME.fullmatch(rest)):
            return []
        whose = "connections" if owner == ALL_TENANTS else f"tenant {owner}"
        return [f"environment variable {name} is no secret of {whose}: name it {prefix}…"]

    def _not_inside(self, owner: str, path: str) -> list[str]:
        folder = self.folder(owner)
        try:
            if "\0" not in path and (folder.resolve() / path).resolve().is_relative_to(folder.resolve()):
                return []
        except (OSError, RuntimeError):  # a name too long for the system, a loop of links
            pass
        whose = "connections" if owner == ALL_TENANTS else f"tenant {owner}"
        return [f"file {path!r} is no secret of {whose}: put it into {folder}"]

    def _variable(self, owner: str, name: str) -> str:
        if wrong := self._not_theirs(owner, name):
            raise SecretUnavailable(wrong[0])
        value = self._environ.get(name)
        if not value:
            raise SecretUnavailable(f"environment variable {name} is not set where deliveries are made: set it there")
        return value

    def _file(self, owner: str, path: str) -> str:
        if wrong := self._not_inside(owner, path):
            raise SecretUnavailable(wrong[0])
        try:
            with (self.folder(owner).resolve() / path).resolve().open("rb") as file:
                content = file.read(_LARGEST)
        except OSError as error:
            raise SecretUnavailable(f"file {path} cannot be read ({error.strerror}): check that it is there") from None
        value = content.decode(errors="replace").rstrip("\r\n")
        if not value:
            raise SecretUnavailable(f"file {path} is empty: write the secret into it")
        return value


def _references(value: JsonValue) -> Iterator[Mapping[str, JsonValue]]:
    """Every reference in a config."""
    if isinstance(value, dict):
        if is_reference(value):
            yield value
        else:
            for part in value.values():
                yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)

"""Secrets by reference: looked up at the moment of sending, so a changed one needs no restart, and kept nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from integrations.hands import SecretUnavailable

_LARGEST = 64 * 1024


class Secrets:
    """Resolves `{"env": NAME}` and `{"file": PATH}`.

    Whoever defines a connection chooses the reference, so not every variable and file is theirs to send away: variables
    begin with `env_prefix`, files lie in `directory`.
    """

    def __init__(self, environ: Mapping[str, str], env_prefix: str, directory: Path) -> None:
        self._environ = environ
        self._env_prefix = env_prefix
        self._directory = directory

    def reveal(self, reference: Mapping[str, JsonValue]) -> str:
        """The secret. Raises `SecretUnavailable`, whose message names the reference and the next move."""
        match dict(reference):
            case {"env": str(name)}:
                return self._variable(name)
            case {"file": str(path)}:
                return self._file(path)
        raise SecretUnavailable('a secret is written {"env": "NAME"} or {"file": "PATH"}')

    def _variable(self, name: str) -> str:
        if not name.startswith(self._env_prefix):
            raise SecretUnavailable(
                f"environment variable {name} is no secret of connections: name it {self._env_prefix}…"
            )
        value = self._environ.get(name)
        if not value:
            raise SecretUnavailable(f"environment variable {name} is not set where deliveries are made: set it there")
        return value

    def _file(self, path: str) -> str:
        directory = self._directory.resolve()
        found = (directory / path).resolve()
        if not found.is_relative_to(directory):
            raise SecretUnavailable(f"file {path} is not a secret of connections: put it into {self._directory}")
        try:
            with found.open("rb") as file:
                content = file.read(_LARGEST)
        except OSError as error:
            raise SecretUnavailable(f"file {path} cannot be read ({error.strerror}): check that it is there") from None
        value = content.decode(errors="replace").rstrip("\r\n")
        if not value:
            raise SecretUnavailable(f"file {path} is empty: write the secret into it")
        return value

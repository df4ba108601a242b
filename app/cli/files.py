"""Files that commands are given: their text, and the one definition in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from app.cli.common import BAD_INPUT, Refusal
from core.yamltext import BadYaml, load_yaml
from schemas.definitions import Described

D = TypeVar("D", bound=Described)


def text_of(file: Path) -> str:
    """What stands in a file. Raises `Refusal`."""
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{file} cannot be read: {error}", BAD_INPUT) from error


def definition_in(file: Path, kind: type[D], **given: Any) -> D:
    """The definition of this kind in a file of YAML or JSON, with what is `given` beside it. Raises `Refusal` that names the field."""
    try:
        found: Any = load_yaml(text_of(file))
        if not isinstance(found, dict):
            raise Refusal(f"{file}: a definition is a mapping of its fields, such as `name: …`", BAD_INPUT)
        return kind.model_validate({**found, **given})
    except BadYaml as error:
        raise Refusal(f"{file} is no YAML: {error}", BAD_INPUT) from error
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"])) or "definition"
        raise Refusal(f"{file}: {at}: {first['msg']}", BAD_INPUT) from error

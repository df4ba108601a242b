"""What every command shares: settings, errors in one line with the next move, exit codes, times, JSON lines."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from app.loops import LOOP
from app.settings import CONFIG_VARIABLE, Settings
from core.sources import moment

T = TypeVar("T")

FAILED, USAGE, UNREACHABLE, BAD_INPUT, NOTHING, INTERRUPTED = 1, 2, 3, 4, 5, 130

console = Console(highlight=False)
notes = Console(stderr=True, highlight=False)


class Refusal(Exception):
    """A command cannot do what it was asked; the message names the next move, `code` is the exit code."""

    def __init__(self, message: str, code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.code = code


def settings_of(ctx: typer.Context) -> Settings:
    """The settings that the root command read."""
    found = ctx.find_object(Settings)
    return found if found is not None else read_settings(None)


def read_settings(config: Path | None, **options: Any) -> Settings:
    """Options, environment, file. Raises `Refusal` that names the setting that is wrong."""
    if config is not None:
        if not config.is_file():
            raise Refusal(f"no file {config}: --config names a TOML file", USAGE)
        os.environ[CONFIG_VARIABLE] = str(config)
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "settings"
        raise Refusal(f"setting {name} (UPTAKE_{name.upper()}): {first['msg']}", USAGE) from error
    except ValueError as error:  # a TOML file that is none
        raise Refusal(f"the settings file cannot be read: {error}", USAGE) from error


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a command's coroutine on a fast loop."""
    with asyncio.Runner(loop_factory=LOOP) as runner:
        return runner.run(work)


def say(text: str) -> None:
    """A line for a person, on stderr: stdout holds results only."""
    notes.print(text, markup=False)


def line(value: object) -> None:
    """One JSON object on one line of stdout."""
    if isinstance(value, BaseModel):
        text = value.model_dump_json()
    else:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def time_option(text: str | None) -> int | None:
    """RFC 3339 or milliseconds → milliseconds; a time without a zone is UTC. Raises `Refusal`."""
    if text is None:
        return None
    if text.lower() == "now":
        return now_ms()
    if text.isdigit():
        return int(text)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(
            f"{text!r} is no time: give RFC 3339 (2026-01-31T12:00:00Z), milliseconds or now", USAGE
        ) from None
    return moment(parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC), "rfc3339")


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def shown(ms: int | None) -> str:
    """A time for people."""
    if ms is None:
        return "–"
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")

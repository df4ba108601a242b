"""Runs the command line and turns every way to end into an exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import typer
from aiokafka.errors import KafkaError
from typer.main import get_command

from app.cli.common import BAD_INPUT, FAILED, INTERRUPTED, UNREACHABLE, Refusal
from app.logs import quiet

CODES = {
    "NoKafka": UNREACHABLE,
    "MissingTopic": UNREACHABLE,
    "StoreError": UNREACHABLE,
    "PlaceError": UNREACHABLE,
    "NotEmpty": FAILED,
    "ModelNotEmpty": FAILED,
    "RestoreFailed": FAILED,
    "Unreadable": FAILED,
    "LogStalled": FAILED,
    "StateFormatError": FAILED,
    "DefinitionsNewer": FAILED,
    "Lost": UNREACHABLE,
    "BadFile": BAD_INPUT,
    "RulebookError": BAD_INPUT,
    "TopicsDiffer": FAILED,
    "BrokerError": FAILED,
    "JarsUnavailable": FAILED,
    "WorkerFailed": FAILED,
}
"""Our exceptions whose message is for the person at the terminal; by name, since importing them all takes seconds."""


def execute(app: typer.Typer, arguments: Sequence[str]) -> int:
    """The exit code. Nothing known ends in a traceback."""
    quiet()
    command = get_command(app)
    try:
        answer = command.main(args=list(arguments), prog_name="uptake", standalone_mode=False)
        return answer if isinstance(answer, int) else 0
    except (KeyboardInterrupt, asyncio.CancelledError, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except typer.Exit as end:
        return int(end.exit_code)
    except Refusal as error:
        return _say(str(error), error.code)
    except KafkaError as error:
        return _say(f"Kafka: {type(error).__name__}: {error}. `uptake status` shows how things stand", UNREACHABLE)
    except Exception as error:
        code = CODES.get(type(error).__name__)
        if code is not None:
            return _say(str(error), code)
        show = getattr(error, "show", None)
        if show is None:  # not the parser's own: a defect, whose traceback is what helps
            raise
        show()
        return int(getattr(error, "exit_code", FAILED))


def _say(message: str, code: int) -> int:
    sys.stderr.write("uptake: " + " ".join(message.split()) + "\n")
    return code

"""Runs the command line and turns every way to end into an exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import typer
from aiokafka.errors import KafkaError
from typer.main import get_command

from app.broker import BrokerError, JarsUnavailable
from app.cli.common import BAD_INPUT, FAILED, INTERRUPTED, UNREACHABLE, Refusal
from app.kafka import MissingTopic, NoKafka
from app.send import BadFile
from app.send.writer import Lost
from app.store import StoreError
from app.topics import TopicsDiffer
from app.worker import WorkerFailed

CODES: tuple[tuple[type[BaseException], int], ...] = (
    (NoKafka, UNREACHABLE),
    (MissingTopic, UNREACHABLE),
    (StoreError, UNREACHABLE),
    (Lost, UNREACHABLE),
    (BadFile, BAD_INPUT),
    (TopicsDiffer, FAILED),
    (BrokerError, FAILED),
    (JarsUnavailable, FAILED),
    (WorkerFailed, FAILED),
)


def execute(app: typer.Typer, arguments: Sequence[str]) -> int:
    """The exit code. Nothing known ends in a traceback."""
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
    except tuple(kind for kind, _ in CODES) as error:
        return _say(str(error), next(code for kind, code in CODES if isinstance(error, kind)))
    except KafkaError as error:
        return _say(f"Kafka: {type(error).__name__}: {error}. `uptake status` shows how things stand", UNREACHABLE)
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:  # not the parser's own: a defect, whose traceback is what helps
            raise
        show()
        return int(getattr(error, "exit_code", FAILED))


def _say(message: str, code: int) -> int:
    sys.stderr.write("uptake: " + " ".join(message.split()) + "\n")
    return code

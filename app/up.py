"""Everything on one machine: a broker, topics, definitions, all roles, the gateway, simulated load. In order, and back."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from app import live, topics
from app.api.access import hashed, new_key
from app.broker import Progress
from app.definitions import load, publish
from app.kafka import managed_broker
from app.settings import Role, Settings
from app.simulate.live import definitions as demo_products
from app.simulate.live import demo
from app.watch import Watch
from app.worker import Child, Supervisor, worker_children
from core.rulebook import load_rulebook
from schemas.definitions import ApiKey, Connection, Definition

KEY_NAME = "first-start"
KEY_FILE = "api-key"
CONNECTION = Connection(
    name="demo-webhook",
    integration="webhook",
    config={"url": "https://example.com/hooks/uptake", "secret": {"env": "UPTAKE_SECRET_DEMO"}},
    description="Sandboxed: what it would post stands in the built-in sink. `uptake connections enable` ends that.",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to start."""

    counts: Mapping[Role, int]
    simulate: bool
    rate: float
    """Simulated rows a second, on average."""
    rulebook: Mapping[str, str]
    """File name → text."""


@contextmanager
def kafka(settings: Settings, say: Callable[[str], None], told: Progress) -> Iterator[Settings]:
    """Settings that name a Kafka: the given one, else the managed broker, which ends with the block if it began with it.

    Raises `BrokerError`, `JarsUnavailable`. Not on an event loop: Ctrl-C ends a download at once.
    """
    if settings.kafka is not None:
        yield settings
        return
    broker = managed_broker(settings)
    running = broker.status().running
    address = broker.start(None, told)
    try:
        if not running:
            say(f"Kafka runs at {address}")
        # For our children only: whoever starts beside us finds the broker by itself.
        yield settings.model_copy(update={"kafka": address})
    finally:
        if not running:
            say("stopping Kafka")
            broker.stop()


async def up(settings: Settings, wanted: Wanted, console: Console, say: Callable[[str], None]) -> None:
    """Runs everything but the broker until SIGINT or SIGTERM, then ends it: load first, then the roles.

    Raises what starting a part raises, and `WorkerFailed` where a part keeps dying.
    """
    began = time.monotonic()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        settings = _with_free_port(settings, say)
        report = await topics.create(settings)
        if report.created:
            say(f"{len(report.created)} topics created")
        await _define(settings, wanted, say)
        if stop.is_set():
            return
        machine = Supervisor([*worker_children(settings, wanted.counts), _gateway(settings)], _teller(console))
        machine.start()
        stack.push_async_callback(_stop, machine, say, "stopping: last checkpoints")
        failing = asyncio.create_task(machine.wait())
        stack.push_async_callback(_cancelled, failing)
        if wanted.simulate:
            load_maker = Supervisor([_simulation(settings, wanted.rate)], _teller(console))
            load_maker.start()
            stack.push_async_callback(load_maker.stop)
        watch = Watch(settings, None if console.is_terminal else _line_teller(console, began))
        watch.start()
        stack.push_async_callback(watch.stop)
        say(f"started in {time.monotonic() - began:.1f} s; gateway and status page at {settings.link_base}")
        shown = asyncio.create_task(live.show(watch, console, settings.link_base, stop))
        await asyncio.wait({failing, shown}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await shown
        console.print(live.summary(watch), markup=False, soft_wrap=True)
        if failing.done():
            failing.result()


def _with_free_port(settings: Settings, say: Callable[[str], None]) -> Settings:
    for port in (settings.api_port, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.api_host, port))
            except OSError:
                continue
            free = int(probe.getsockname()[1])
        if free != settings.api_port:
            say(f"port {settings.api_port} is taken, the gateway uses {free} (UPTAKE_API_PORT sets it)")
        return settings.model_copy(update={"api_port": free})
    return settings


async def _define(settings: Settings, wanted: Wanted, say: Callable[[str], None]) -> None:
    definitions: list[Definition] = list(load_rulebook(wanted.rulebook))
    there = await load(settings)
    if not there.of(Connection):
        definitions.append(CONNECTION)
    if wanted.simulate:
        definitions += demo_products(demo(0))
    key_file = settings.data_dir / KEY_FILE
    if not any(key.name == KEY_NAME for key in there.of(ApiKey)):
        key = new_key()
        _write_private(key_file, key)
        definitions.append(
            ApiKey(name=KEY_NAME, hash=hashed(key), role="operations", created_at=time.time_ns() // 1_000_000)
        )
        say(f"an API key for you is in {key_file}")
    changed = await publish(settings, definitions)
    if changed:
        say(f"{len(changed)} definitions published")


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")


def _gateway(settings: Settings) -> Child:
    return _command(settings, "api", ["api"])


def _simulation(settings: Settings, rate: float) -> Child:
    return _command(settings, "simulate", ["simulate", "--live", "--rate", str(rate)])


def _command(settings: Settings, name: str, arguments: list[str]) -> Child:
    return Child(
        name=name,
        argv=[sys.executable, "-m", "app.cli", *arguments],
        environment=settings.environment(),
        log=settings.log_dir / f"{name}.log",
    )


async def _stop(supervisor: Supervisor, say: Callable[[str], None], text: str) -> None:
    say(text)
    await supervisor.stop()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _teller(console: Console) -> Callable[[str, str], None]:
    def tell(name: str, text: str) -> None:
        console.print(f"{name} | {text}", style="yellow", markup=False, soft_wrap=True)

    return tell


def _line_teller(console: Console, began: float) -> Callable[[str, dict[str, object]], None]:
    def tell(kind: str, value: dict[str, object]) -> None:
        console.print(
            f"{time.monotonic() - began:6.1f} s  {kind.removesuffix('s'):9} {live.describe(kind, value)}",
            markup=False,
            soft_wrap=True,
        )

    return tell

"""Backups on a schedule: one after the other, with metrics and probes like a worker's."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import ExitStack

from aiokafka.errors import KafkaError

from app.backup.check import prune
from app.backup.copying import Unreadable
from app.backup.manifest import ids, load
from app.backup.place import Place, PlaceError
from app.backup.run import Told, backup
from app.kafka import MissingTopic, NoKafka
from app.probes import Health, Probes, announced
from app.settings import Settings
from app.store import StoreError
from app.telemetry import Telemetry
from transport.logs import LogStalled
from transport.state import StateFormatError

log = logging.getLogger("uptake.backup")
NAME = "backup-0"
PORT_OFFSET = 90
"""Behind the workers' metrics ports."""
EXPECTED = (
    PlaceError,
    NoKafka,
    MissingTopic,
    KafkaError,
    StoreError,
    LogStalled,
    StateFormatError,
    Unreadable,
    OSError,
)


async def keep_backing_up(settings: Settings, place: Place, *, every_s: float, keep: int | None, told: Told) -> None:
    """Until SIGTERM or SIGINT. A backup that fails is told, counted, and tried again at the next turn."""
    telemetry = Telemetry()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    port = settings.metrics_port + PORT_OFFSET if settings.metrics_port else 0
    failed = ""
    with ExitStack() as stack:
        probes = Probes(
            telemetry, lambda: Health(True, not failed, True, {"lag": 0, "error": failed}), settings.metrics_host, port
        )
        probes.start()
        stack.callback(probes.stop)
        address = f"{settings.metrics_host}:{probes.port}"
        stack.enter_context(announced(settings.run_dir / "targets", NAME, "backup", address))
        await _tell_last(place, telemetry)
        while not stop.is_set():
            began = time.monotonic()
            work = asyncio.create_task(backup(settings, place))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not work.done():  # what it wrote so far is no backup, and the next one does not need it
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                return
            try:
                made = work.result()
            except EXPECTED as error:
                failed = " ".join(str(error).split())
                telemetry.count("uptake_backups_total", 1, ("failed",))
                told(f"no backup: {failed}")
            else:
                failed = ""
                telemetry.count("uptake_backups_total", 1, ("whole",))
                telemetry.observe("uptake_backup_last_seconds", made.manifest.at / 1000)
                telemetry.observe("uptake_backup_seconds", time.monotonic() - began)
                telemetry.count("uptake_backup_bytes_total", made.manifest.written)
                told(made.line())
                if keep is not None:
                    await prune(place, keep, made.manifest.finished)
            try:
                await asyncio.wait_for(stop.wait(), max(0.0, every_s - (time.monotonic() - began)))
            except TimeoutError:
                continue


async def _tell_last(place: Place, telemetry: Telemetry) -> None:
    """The age of a backup counts from the newest one that is there, whoever made it."""
    try:
        if await ids(place):
            telemetry.observe("uptake_backup_last_seconds", (await load(place)).at / 1000)
    except PlaceError as error:
        log.warning("%s", error)

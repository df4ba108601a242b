"""One worker process: a role's machine, its probes, its end. `python -m app.process ROLE SLOT`, or a fork that was told so."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from contextlib import ExitStack

from app.definitions import Definitions, DefinitionsNewer
from app.forkserver import PARENT
from app.kafka import KafkaError, MissingTopic, NoKafka
from app.logs import configure
from app.loops import LOOP, impatient
from app.main import Machine, build_app
from app.probes import Health, Probes, Pulse, announced
from app.settings import ROLES, Role, Settings
from app.telemetry import Telemetry
from app.worker import AGAIN, UNREACHABLE
from core.ingest import sources_of

log = logging.getLogger("uptake.process")

FAILED = 1
BEAT_S = 0.5
LOST_AFTER_MS = 10_000
"""Kafka's silence after which a process is no longer ready."""


class Process:
    """The life of one process. Runs until told to stop, or until going on would be wrong."""

    def __init__(self, settings: Settings, role: Role, slot: int) -> None:
        self.settings = settings
        self.role: Role = role
        self.name = f"{role}-{slot}"
        self.slot = slot
        self.telemetry = Telemetry()
        self._machine: Machine | None = None
        self._pulse = Pulse()
        self._definitions = Definitions(settings)
        self._started = False
        self._stop = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Exit code, after the last checkpoints."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        definitions = self._definitions
        pulse = asyncio.create_task(self._pulse.run(), name="pulse")
        first_port = self.settings.metrics_port
        port = first_port + ROLES.index(self.role) * 10 + self.slot if first_port else 0
        with ExitStack() as stack:
            probes = Probes(self.telemetry, self.health, self.settings.metrics_host, port)
            probes.start()
            stack.callback(probes.stop)
            stack.callback(pulse.cancel)
            stack.enter_context(
                announced(
                    self.settings.run_dir / "targets",
                    self.name,
                    self.role,
                    f"{self.settings.metrics_host}:{probes.port}",
                )
            )
            catalogue = await definitions.start()
            # Definitions live as long as the process: what goes through all objects need not go through these each time. With
            # 10,000 rules that is a fifth of METER's time where events are told apart by a property (`bench.rules`).
            gc.collect()
            gc.freeze()
            machine = build_app(self.settings, self.role, catalogue=catalogue, telemetry=self.telemetry, slot=self.slot)
            self._machine = machine
            log.info("%s starts; metrics at %s:%d", self.name, self.settings.metrics_host, probes.port)
            try:
                await machine.start()
                await self._watch(machine, definitions)
            finally:
                log.info("%s stops", self.name)
                await machine.stop()
                await definitions.stop()
        return self._code

    def health(self) -> Health:
        """Called from the probes' thread."""
        machine = self._machine
        tasks = machine.wires.status() if machine is not None else []
        waiting = [t for t in tasks if t.state != "ready"]
        degraded: dict[str, str] = {}
        for told in machine.rooms.degraded if machine is not None else ():
            degraded.update(told())
        silent_ms = time.time_ns() // 1_000_000 - self._definitions.heard_ms
        answers = silent_ms < LOST_AFTER_MS
        settled = machine is not None and not machine.app.rebalancing
        return Health(
            started=self._started,
            ready=self._started
            and settled
            and not waiting
            and answers
            and not degraded.keys() & {"read model", "archive"},
            live=self._pulse.live,
            detail={
                "worker": self.name,
                "tasks": len(tasks),
                "not_ready": {f"{t.group}/{t.partition}": t.error or t.state for t in waiting},
                "lag": sum(sum(t.lag.values()) for t in tasks),
                "degraded": degraded,
                "kafka": "answers" if answers else "silent",
                "beat_s": round(self._pulse.age_s, 3),
            },
        )

    async def _watch(self, machine: Machine, definitions: Definitions) -> None:
        topics = set(sources_of(definitions.catalogue))
        supervisor = int(os.environ.get(PARENT, "0"))
        while not self._stop.is_set():
            if not self._started:
                self._started = bool(machine.wires.status()) or machine.app.consumer_generation_id > 0
            if machine.app.crashed:
                log.error("%s crashed: %r", self.name, machine.app.crash_reason)
                self._code = FAILED
                return
            if definitions.failure is not None:
                log.error("%s can no longer follow the definitions: %r", self.name, definitions.failure)
                self._code = FAILED
                return
            if self.role == "meter" and not set(sources_of(definitions.catalogue)) <= topics:
                log.info("a new source is defined: starting again to read it")
                self._code = AGAIN
                return
            if supervisor and os.getppid() != supervisor:
                log.error("%s: the supervisor is gone, stopping", self.name)
                self._code = FAILED
                return
            try:
                await asyncio.wait_for(self._stop.wait(), BEAT_S)
            except TimeoutError:
                continue


SWITCH_S = 0.0005


def main() -> int:
    """Runs one process to its end; the exit code says why it ended."""
    role, slot = sys.argv[1], int(sys.argv[2])
    if role not in ROLES:
        sys.stderr.write(f"no role {role!r}: roles are {', '.join(ROLES)}\n")
        return 2
    settings = Settings()
    configure(settings.log_dir / f"{role}-{slot}.log", settings.log_level, f"{role}-{slot}")

    async def run() -> int:
        return await Process(settings, role, slot).run()

    # Fetching has a thread of its own. At Python's 5 ms each hop of a checkpoint waits that long for the other thread.
    sys.setswitchinterval(SWITCH_S)
    impatient()
    try:
        with asyncio.Runner(loop_factory=LOOP) as runner:
            return runner.run(run())
    except (NoKafka, MissingTopic, KafkaError) as error:
        log.error("%s", error)
        return UNREACHABLE
    except DefinitionsNewer as error:
        log.error("%s", error)
        return FAILED
    except Exception:
        log.exception("%s-%d ended", role, slot)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())

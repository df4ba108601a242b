"""What a process tells about itself over HTTP: /metrics, /livez, /readyz, /startedz.

`/metrics?name[]=NAME` answers with samples of that name alone, as Prometheus' own clients do; `name[]` may be there several times.

Served from a thread of its own, so that a process whose event loop hangs still answers, and says so.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CONTENT_TYPE_LATEST

from app.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Health:
    """How a process stands."""

    started: bool
    """It has joined: what it owns is known, and may still be recovering."""
    ready: bool
    """It works on everything it owns, and Kafka answers."""
    live: bool
    """Its loop turns; where not, restart it. Nothing else counts: a restart brings neither Kafka nor a state back."""
    detail: dict[str, Any] = field(default_factory=dict)


class Pulse:
    """Whether an event loop turns. Beaten on the loop, read from any thread."""

    def __init__(self, hangs_after_s: float = 15.0, every_s: float = 0.5) -> None:
        self._hangs_after_s = hangs_after_s
        self._every_s = every_s
        self._beat = time.monotonic()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(self._every_s)

    @property
    def age_s(self) -> float:
        """Since the last beat."""
        return time.monotonic() - self._beat

    @property
    def live(self) -> bool:
        """The last beat is not long ago."""
        return self.age_s < self._hangs_after_s


class Probes:
    """The server. `port` is known once it is open."""

    def __init__(self, telemetry: Telemetry, health: Callable[[], Health], host: str, port: int) -> None:
        self._server = ThreadingHTTPServer((host, port), _handler(telemetry, health))
        self._server.daemon_threads = True
        self.host = host
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="probes", daemon=True)

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def announced(directory: Path, worker: str, role: str, address: str) -> Iterator[Path]:
    """Lists this process as a Prometheus target (file_sd) while the block runs."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{worker}.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps([{"targets": [address], "labels": {"role": role, "worker": worker}}]))
    fresh.rename(path)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def targets(directory: Path) -> dict[str, tuple[str, str]]:
    """Worker → (role, address) of every process that announced itself."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(directory.glob("*.json")):
        try:
            [entry] = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # taken away while we looked
        found[entry["labels"]["worker"]] = (entry["labels"]["role"], entry["targets"][0])
    return found


def _handler(telemetry: Telemetry, health: Callable[[], Health]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if asked.path == "/metrics":
                names = parse_qs(asked.query).get("name[]", [])
                self._answer(200, CONTENT_TYPE_LATEST, telemetry.text(names))
                return
            now = health()
            holds = {"/livez": now.live, "/readyz": now.ready, "/startedz": now.started}.get(asked.path)
            if holds is None:
                self._answer(404, "text/plain", b"/metrics /livez /readyz /startedz\n")
                return
            body = json.dumps({"ok": holds, **now.detail}, default=str).encode()
            self._answer(200 if holds else 503, "application/json", body)

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Probes are not worth a log line."""

    return Handler

"""The destination of the run's commands: a webhook receiver that behaves, or does not, and remembers every attempt."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from standardwebhooks import Webhook, WebhookVerificationError

Mood = Literal["well", "hangs", "errors", "resets", "throttles"]
RETRY_AFTER_S = 3


@dataclass(slots=True)
class Destination:
    """An HTTP server on loopback while the block runs."""

    secret: str
    """`whsec_…`."""
    mood: Mood = "well"
    ids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Command id → the ids under which it was tried."""
    accepted: Counter[str] = field(default_factory=Counter)
    """Webhook id → how often it was answered with 204."""
    attempts: Counter[str] = field(default_factory=Counter)
    """Attempts by what became of them."""
    refused: int = 0
    """Requests whose signature does not hold."""
    _server: ThreadingHTTPServer | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _calm: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where to post to."""
        if self._server is None:
            raise RuntimeError("the destination is not open: use it as a context manager")
        return f"http://127.0.0.1:{self._server.server_address[1]}/commands"

    def __enter__(self) -> Destination:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.request_queue_size = 128
        threading.Thread(target=self._server.serve_forever, name="destination", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.become("well")
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def become(self, mood: Mood) -> None:
        """From now on; whoever hangs is let go."""
        self.mood = mood
        self._calm.set()
        self._calm = threading.Event()

    def take(self, headers: dict[str, str], body: bytes) -> Mood | None:
        """Note one attempt and say how to treat it; None: its signature does not hold."""
        try:
            Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError:
            self.refused += 1
            return None
        with self._lock:
            mood = self.mood
            self.ids[json.loads(body)["data"]["id"]].add(headers["webhook-id"])
            self.attempts[mood] += 1
            if mood == "well":
                self.accepted[headers["webhook-id"]] += 1
            return mood

    def hang(self) -> None:
        """Until the mood changes."""
        self._calm.wait(60)


def _handler(destination: Destination) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            match destination.take({name.lower(): value for name, value in self.headers.items()}, body):
                case None:
                    self._answer(401)
                case "hangs":
                    destination.hang()
                    self.close_connection = True
                case "errors":
                    self._answer(500)
                case "resets":
                    # Lingering for no time makes the close a reset.
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.connection.close()
                    self.close_connection = True
                case "throttles":
                    self._answer(429, {"retry-after": str(RETRY_AFTER_S)})
                case _:
                    self._answer(204)

        def _answer(self, status: int, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"content-length": "0", **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()

        def finish(self) -> None:
            try:
                super().finish()
            except (OSError, ValueError):
                return  # we reset it, or they gave up

        def log_message(self, format: str, *args: object) -> None:
            """Attempts are counted, not logged."""

    return Handler

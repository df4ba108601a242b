"""A webhook receiver that believes nothing: it checks each signature as Standard Webhooks says, and keeps what is right."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

LARGEST = 4 << 20
"""Bytes of a body; commands are a hundredth of it."""


@dataclass(slots=True)
class Receiver:
    """An HTTP server on loopback while the block runs. `received`: webhook id → body, of rightly signed requests."""

    secret: str
    """`whsec_…`."""
    received: dict[str, dict[str, Any]] = field(default_factory=dict)
    repeated: int = 0
    """Right requests with an id that came before."""
    refused: int = 0
    """Requests whose signature does not hold."""
    _server: ThreadingHTTPServer | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Where to post to."""
        if self._server is None:
            raise RuntimeError("the receiver is not open: use it as a context manager")
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/commands"

    def __enter__(self) -> Receiver:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Check one request; the HTTP status to answer."""
        try:
            Webhook(self.secret).verify(body, headers, json_parse=False)
        except (
            Exception
        ):  # the library's own error, and what its parts raise for odd headers: nobody who signed sends those
            self.refused += 1
            return 401
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return 400
        with self._lock:
            ident = headers["webhook-id"]
            self.repeated += ident in self.received
            self.received[ident] = content
        return 204


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            size = self.headers.get("content-length", "0")
            if not (size.isascii() and size.isdecimal()) or int(size) > LARGEST:
                self.close_connection = True
                self.send_response(413)
            else:
                body = self.rfile.read(int(size))
                self.send_response(receiver.take({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are counted, not logged."""

    return Handler

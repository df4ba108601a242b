"""What is asked of a probe whose process may be killed at any moment."""

from __future__ import annotations

import socket
import threading

import pytest

from app.trial import ask


def answered(text: bytes) -> str:
    """The address of a process that says this to one caller, and is gone."""
    door = socket.create_server(("127.0.0.1", 0))

    def once() -> None:
        with door, door.accept()[0] as caller:
            caller.recv(65_536)
            caller.sendall(text)

    threading.Thread(target=once, daemon=True).start()
    return f"http://127.0.0.1:{door.getsockname()[1]}/readyz"


@pytest.mark.parametrize("status", [b"200 OK", b"503 Service Unavailable"])
@pytest.mark.parametrize("told", [b"", b'{"ok": tr', b'{"ok": true}'])
def test_killed_in_the_middle_of_its_answer_it_has_not_answered(status: bytes, told: bytes) -> None:
    head = b"HTTP/1.1 " + status + b"\r\ncontent-length: %d\r\n\r\n"
    assert ask(answered(head % 127 + told), also_unready=True) is None
    assert ask(answered(b"HTTP/1.1 2"), also_unready=True) is None
    whole = answered(head % 12 + b'{"ok": true}')
    assert ask(whole, also_unready=True) == {"ok": True}


def test_unready_is_no_answer_unless_asked_for() -> None:
    no = b'HTTP/1.1 503 Service Unavailable\r\ncontent-length: 12\r\n\r\n{"ok":false}'
    assert ask(answered(no)) is None
    assert ask(answered(no), also_unready=True) == {"ok": False}

"""Whether a node answers, and whether it is that one which does."""

from __future__ import annotations

import socket
import struct

import psutil

_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
"""The smallest question Kafka answers: ApiVersions v0, correlation id 1, no client id."""


def listens(process: psutil.Process, address: str) -> bool:
    """Whether the process itself listens there: another broker may answer."""
    try:
        found = process.net_connections(kind="tcp")
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    port = int(address.rpartition(":")[2])
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in found)


def answers(address: str, timeout_s: float = 1.0) -> bool:
    """Whether a Kafka broker answers at `host:port` (plain text)."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(_API_VERSIONS)
            head = connection.recv(8)
    except OSError:
        return False
    return len(head) == 8 and head[4:] == b"\0\0\0\1"

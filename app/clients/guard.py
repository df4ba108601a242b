"""The guard: which addresses integrations may reach. Asked with the very address that is about to be connected to.

A connection is configured by people who need not be operators; without this they could make Uptake speak to its own
network (server-side request forgery): metadata services, databases, its own gateway.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

_Answer = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST6 = ipaddress.ip_network("2000::/3")
"""All that is public in IPv6. What lies outside (site-local, IPv4 in compatible or translated form, NAT64 of one's own) is not,
whatever the standard library's table of its day says."""
_NEVER = tuple(
    ipaddress.ip_network(n) for n in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20")
)
"""Assigned to protocols, relays and documentation: nobody's destination. 6to4 has been unwrapped before it is looked up here."""
_LOOKUPS = 64
"""Names resolved at the same time, by the system's own resolver, which needs a thread each and cannot be interrupted."""
_ZONE_LOOKUPS = 8
"""Of them for names with the same last two labels: a name server that hangs for one zone must not hold up the others."""


class Blocked(OSError):
    """The host leads only to addresses that this deployment does not allow."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a host, allowed."""

    family: socket.AddressFamily
    address: str
    port: int


class Guard:
    """Public addresses are allowed; anything else only where the operator says so.

    `allowed`: host names, addresses or networks (CIDR). Raises ValueError for an entry that is none of them.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._hosts: set[str] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="lookup")
        self._asked: dict[tuple[str, int], asyncio.Task[_Answer]] = {}
        self._zones: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        for entry in allowed:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                if "/" in entry or not entry.strip():
                    raise ValueError(
                        f"{entry!r} is no host, address or network: write a name, 10.0.0.5 or 10.0.0.0/8"
                    ) from None
                self._hosts.add(entry.lower().rstrip("."))

    def allows(self, host: str, address: str) -> bool:
        """Whether this address of this host may be reached."""
        if host.lower().rstrip(".") in self._hosts:
            return True
        ip = _plain(ipaddress.ip_address(address.partition("%")[0]))
        if any(ip in network for network in self._networks if network.version == ip.version):
            return True
        if any(ip in network for network in _NEVER if network.version == ip.version):
            return False
        return ip.is_global and not ip.is_multicast and (ip.version == 4 or ip in _UNICAST6)

    async def endpoints(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> list[Endpoint]:
        """The host's allowed addresses. Raises `Blocked` where there are others only, `socket.gaierror` where none."""
        endpoints = [
            Endpoint(socket.AddressFamily(kind), str(where[0]), port)
            for kind, _, _, _, where in await self._look_up(host.lower(), family)
            if self.allows(host, str(where[0]))
        ]
        if not endpoints:
            raise Blocked(f"{host} is not allowed: it leads to addresses that are not public")
        return endpoints

    async def _look_up(self, host: str, family: int) -> _Answer:
        """One question about a name at a time: who asks meanwhile waits for the same answer. A question goes on when whoever asked
        has given up, since its thread does.
        """
        asked = self._asked.get((host, family))
        if asked is None:
            asked = asyncio.get_running_loop().create_task(self._ask(host, family), name=f"lookup {host}")
            self._asked[host, family] = asked
            asked.add_done_callback(lambda done: self._answered(host, family, done))
        return await asyncio.shield(asked)

    async def _ask(self, host: str, family: int) -> _Answer:
        zone = ".".join(host.rstrip(".").split(".")[-2:])
        room = self._zones.get(zone)
        if room is None:
            room = self._zones[zone] = asyncio.Semaphore(_ZONE_LOOKUPS)
        async with room:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
            )

    def _answered(self, host: str, family: int, done: asyncio.Task[_Answer]) -> None:
        self._asked.pop((host, family), None)
        if not done.cancelled():
            done.exception()  # whoever asked may have given up

    def check_literal(self, host: str) -> None:
        """Raises `Blocked` where the host is itself an address that is not allowed (no name is looked up then)."""
        try:
            ipaddress.ip_address(host.strip("[]").partition("%")[0])
        except ValueError:
            return
        if not self.allows(host, host.strip("[]")):
            raise Blocked(f"{host} is not allowed: it is not a public address")

    def close(self) -> None:
        """Let go of the threads; a lookup under way ends by itself."""
        for asked in self._asked.values():
            asked.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _plain(ip: Address) -> Address:
    """The IPv4 address that an IPv6 one wraps, where it does (mapped, 6to4, NAT64)."""
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is not None:
            return inner
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip

"""Which addresses may be reached."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.clients.guard import Blocked, Guard

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    # IPv4 in compatible and in translated form, NAT64 of one's own, site-local, Teredo, ORCHID, benchmarks, documentation
    "::127.0.0.1", "::7f00:1", "::ffff:0:7f00:1", "64:ff9b:1::7f00:1", "fec0::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:10::1", "2001:20::1", "198.18.0.1", "2001:db8::1", "3fff::1", "192.88.99.1", "192.0.0.8", "240.0.0.1", "5f00::1", "100::1",
    # metadata services: AWS, Azure and Google at 169.254.169.254 above; Alibaba, Oracle, AWS over IPv6
    "100.100.100.200", "192.0.0.192", "fd00:ec2::23",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert not Guard().allows("example.com", address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_what_is_public_is_allowed(address: str) -> None:
    assert Guard().allows("example.com", address)


@given(st.ip_addresses(v=4))
def test_an_address_wrapped_in_ipv6_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    plain = Guard().allows("x", str(address))
    packed = int(address)
    for wrapped in ((0xFFFF << 32) | packed, (0x2002 << 112) | (packed << 80), (0x64FF9B << 96) | packed):
        assert Guard().allows("x", str(ipaddress.IPv6Address(wrapped))) is plain


def test_the_operator_may_allow_hosts_addresses_and_networks() -> None:
    guard = Guard(["Mail.Internal.", "10.1.2.3", "192.168.0.0/16", "::1"])
    assert guard.allows("mail.internal", "10.9.9.9")
    assert guard.allows("x", "10.1.2.3")
    assert not guard.allows("x", "10.1.2.4")
    assert guard.allows("x", "192.168.7.7")
    assert guard.allows("x", "::ffff:192.168.7.7")
    assert guard.allows("x", "::1")


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "", "a/b"])
def test_an_entry_that_is_nothing_says_so(entry: str) -> None:
    with pytest.raises(ValueError, match="no host, address or network"):
        Guard([entry])


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
async def test_names_and_odd_spellings_are_judged_by_where_they_lead(host: str) -> None:
    with pytest.raises(Blocked):
        await Guard().endpoints(host, 80)
    assert [e.address for e in await Guard(["127.0.0.1"]).endpoints(host, 80) if ":" not in e.address] == ["127.0.0.1"]


async def test_a_name_server_that_hangs_holds_up_its_own_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred names of a zone that does not answer, each asked for three times, by people who give up; another is answered."""
    answers, hung, real = threading.Event(), [], socket.getaddrinfo

    def slow(host: str, *args: object, **kwargs: object) -> object:
        if host.endswith("hanging.example"):
            hung.append(host)
            assert answers.wait(60)
        return real("127.0.0.1", *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    guard = Guard(["127.0.0.1"])
    try:
        waiting = [
            asyncio.create_task(guard.endpoints(f"n{i}.hanging.example", 80)) for i in range(100) for _ in range(3)
        ]
        await asyncio.sleep(0)
        given_up = waiting[::3]
        for task in given_up:
            task.cancel()
        await asyncio.wait(given_up)
        found = await asyncio.wait_for(guard.endpoints("other.example", 443), 30)
        assert {(e.address, e.port) for e in found} == {("127.0.0.1", 443)}
        assert len(hung) <= 8
        answers.set()
        rest = [task for task in waiting if task not in given_up]
        assert all(await asyncio.gather(*rest))
        assert sorted(hung) == sorted({f"n{i}.hanging.example" for i in range(100)})
        # an answer is for those who waited for it: the next one asks again
        await guard.endpoints("n1.hanging.example", 80)
        assert hung.count("n1.hanging.example") == 2
    finally:
        answers.set()
        guard.close()

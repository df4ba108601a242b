"""HTTP attempts against a real server: every way it can go is a value."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from app.clients.guard import Guard
from app.clients.http import BODY_LIMIT, HttpClient
from integrations.base import HttpRequest
from tests.helpers.kafka import free_port
from tests.helpers.smtp import MailServer
from tests.helpers.web import Seen, serving

Make = Callable[..., HttpClient]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[HttpClient] = []

    def new(allowed: list[str] | None = None, tls: ssl.SSLContext | None = None) -> HttpClient:
        guard = Guard(["127.0.0.0/8", "::1"] if allowed is None else allowed)
        made.append(HttpClient(guard, lambda: 7, tls))
        return made[-1]

    yield new
    for client in made:
        await client.close()


def post(url: str, timeout_s: float = 5.0) -> HttpRequest:
    return HttpRequest("POST", url, {"x-one": "1"}, b"body", timeout_s)


def ok(seen: Seen) -> web.Response:
    return web.Response(text="fine", headers={"Retry-After": "3"})


async def test_what_is_sent_and_what_comes_back(make: Make) -> None:
    async with serving(ok) as server:
        response = await make().send(post(server.url("/a?b=c")))
        assert (response.status, response.body, response.at, response.failure) == (200, b"fine", 7, None)
        assert response.headers["retry-after"] == "3"
        [seen] = server.seen
        assert (seen.method, seen.path, seen.body, seen.headers["x-one"]) == ("POST", "/a", b"body", "1")


async def test_redirects_are_not_followed(make: Make) -> None:
    async with serving(lambda seen: web.Response(status=302, headers={"Location": "/elsewhere"})) as server:
        assert (await make().send(post(server.url()))).status == 302
        assert len(server.seen) == 1


async def test_cookies_are_not_kept(make: Make) -> None:
    async with serving(lambda seen: web.Response(headers={"Set-Cookie": "a=b"})) as server:
        client = make()
        for _ in range(2):
            await client.send(post(server.url()))
        assert "cookie" not in server.seen[1].headers


async def test_an_endless_answer_is_cut(make: Make) -> None:
    async with serving(lambda seen: web.Response(body=b"x" * (BODY_LIMIT * 8))) as server:
        response = await make().send(post(server.url()))
        assert (response.status, len(response.body)) == (200, BODY_LIMIT)


async def test_a_slow_destination_is_a_timeout(make: Make) -> None:
    released = asyncio.Event()

    async def wait(seen: Seen) -> web.Response:
        await released.wait()
        return web.Response()

    async with serving(wait) as server:
        response = await make().send(post(server.url(), timeout_s=0.2))
        released.set()
        assert (response.status, response.failure) == (0, "timeout")


async def test_nobody_there(make: Make) -> None:
    assert (await make().send(post(f"http://127.0.0.1:{free_port()}/"))).failure == "connect"


async def test_a_name_that_does_not_exist(make: Make) -> None:
    assert (await make().send(post("http://nobody.invalid/"))).failure == "dns"


async def test_one_who_hangs_up_or_talks_nonsense(make: Make) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n")
        writer.close()

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n")
        writer.write(b"220 smtp.example.com\r\n\r\n")
        writer.close()

    for handler in (hang_up, nonsense):
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        assert (await make().send(post(f"http://127.0.0.1:{port}/"))).failure == "protocol"
        server.close()


async def test_a_certificate_that_nobody_vouches_for(make: Make, smtp: MailServer) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(smtp.directory / "cert.pem", smtp.directory / "key.pem")
    async with serving(ok, context) as server:
        assert (await make().send(post(server.url()))).failure == "tls"
        assert server.seen == []
        assert (await make(tls=smtp.trusting()).send(post(server.url()))).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433"])
async def test_private_addresses_are_refused_before_anything_is_sent(make: Make, host: str) -> None:
    async with serving(ok) as server:
        response = await make(allowed=[]).send(post(server.url(host=host)))
        # The odd spellings are no host to the client; the guard would have judged them by where they lead.
        assert response.failure == ("protocol" if host in ("127.1", "2130706433") else "blocked")
        assert response.status == 0
        assert server.seen == []


@pytest.mark.parametrize(
    "url",
    [
        # letters that become digits: no address to the standard library, an address to the connector, which asks no resolver then
        "http://１２７.０.０.１:{port}/", "http://127。0。0。1:{port}/", "http://①②⑦.0.0.1:{port}/",
        # IPv4 in IPv6, and a zone
        "http://[::ffff:127.0.0.1]:{port}/", "http://[::ffff:7f00:1]:{port}/", "http://[::1%25lo]:{port}/",
        # two hosts in one URL
        "http://public.example@127.0.0.1:{port}/", "http://public.example:80@127.0.0.1:{port}/",
        "http://public.example\\@127.0.0.1:{port}/", "http://127.0.0.1:{port}\\@public.example/",
        "http://127.0.0.1:{port}#@public.example/", "http://127.0.0.1:{port}?@public.example/",
        "http://public.example\t@127.0.0.1:{port}/", "http://public.example%2f@127.0.0.1:{port}/",
    ],
)  # fmt: skip
async def test_tricks_with_the_url_lead_nowhere(make: Make, url: str) -> None:
    async with serving(ok) as server:
        response = await make(allowed=[]).send(post(url.format(port=server.port)))
        assert (response.status, response.failure in ("blocked", "protocol", "dns")) == (0, True), response
        assert server.seen == []


@pytest.mark.parametrize(
    "to", ["http://127.0.0.1:{port}/inside", "//127.0.0.1:{port}/inside", "/inside", "file:///etc/passwd"]
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_leads_inside(make: Make, status: int, to: str) -> None:
    async with serving(lambda seen: web.Response()) as inside:
        target = to.format(port=inside.port)
        async with serving(lambda seen: web.Response(status=status, headers={"location": target})) as server:
            assert (await make().send(post(server.url()))).status == status
            assert (len(server.seen), inside.seen) == (1, [])


async def test_a_host_that_the_operator_allows_is_reached_by_name_only(make: Make) -> None:
    async with serving(ok) as server:
        client = make(allowed=["localhost"])
        assert (await client.send(post(server.url(host="localhost")))).status == 200
        assert (await client.send(post(server.url(host="127.0.0.1")))).failure == "blocked"


async def test_a_name_that_changes_its_mind_is_asked_at_connect_time(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: the name is public when looked at, private when connected to. Here there is only one look."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *args: object, **kwargs: object) -> object:
        if host == "rebind.example":
            asked.append(host)
            return real("127.0.0.1", *args, **kwargs)  # type: ignore[arg-type]
        return real(host, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    async with serving(ok) as server:
        assert (await make(allowed=[]).send(post(server.url(host="rebind.example")))).failure == "blocked"
        assert server.seen == []
    assert asked == ["rebind.example"]


async def test_proxies_of_the_environment_are_not_used(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    async with serving(ok) as server:
        assert (await make().send(post(server.url()))).status == 200


async def test_a_dead_neighbour_takes_no_connection_away(make: Make) -> None:
    released = asyncio.Event()

    async def wait(seen: Seen) -> web.Response:
        await released.wait()
        return web.Response()

    async with serving(wait) as dead, serving(ok) as healthy:
        client = make()
        stuck = [asyncio.create_task(client.send(post(dead.url()))) for _ in range(300)]
        for _ in range(20):
            assert (await client.send(post(healthy.url()))).status == 200
        assert not any(task.done() for task in stuck)
        released.set()
        await asyncio.gather(*stuck)

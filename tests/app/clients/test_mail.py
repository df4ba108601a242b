"""Mail attempts against a real Postfix, and against one who behaves badly."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from app.clients.guard import Guard
from app.clients.mail import MailClient
from app.kafka import settle
from integrations import email
from integrations.base import MailRequest, Response
from schemas.delivery import Delivered, Rejected, Retry
from tests.helpers.kafka import free_port
from tests.helpers.smtp import PASSWORD, USER, MailServer
from tests.helpers.words import NOON, a_command
from tests.integrations.test_contract import a_delivery


def a_mail(port: int, cause: str = "1", **changed: Any) -> tuple[MailRequest, str]:
    delivery = a_delivery(a_command(cause=cause, title="Growth is slow"))
    values = {
        "host": "localhost",
        "port": port,
        "security": "none",
        "sender": "uptake@example.org",
        "recipients": ["team@example.com"],
        "timeout_s": 10,
    }
    config = email.Config.model_validate({**values, **changed})
    return email.render(delivery, config, NOON), f"<{delivery.id}@example.org>"


def a_client(server: MailServer | None = None, allowed: tuple[str, ...] = ("127.0.0.0/8", "::1")) -> MailClient:
    return MailClient(Guard(allowed), lambda: 7, server.trusting() if server else None)


async def arrived(server: MailServer, recipient: str, message_id: str) -> bool:
    return await settle(lambda: any(m["message-id"] == message_id for m in server.messages(recipient)), within_s=60)


async def test_a_message_arrives_with_the_deliverys_id(smtp: MailServer) -> None:
    request, message_id = a_mail(smtp.plain_port, "plain", recipients=["team@example.com", "ops@example.com"])
    response = await a_client().send(request)
    assert (response.status, response.at) == (250, 7)
    assert email.interpret(response) == Delivered()
    for recipient in ("team@example.com", "ops@example.com"):
        assert await arrived(smtp, recipient, message_id)
    [message] = [m for m in smtp.messages("team@example.com") if m["message-id"] == message_id]
    assert message["subject"] == "Growth is slow"
    assert "Few use search." in message.get_content()


async def test_starttls_and_a_password(smtp: MailServer) -> None:
    secured = {"security": "starttls", "username": USER, "password": PASSWORD}
    request, message_id = a_mail(smtp.starttls_port, "starttls", **secured)
    assert (await a_client(smtp).send(request)).status == 250
    assert await arrived(smtp, "team@example.com", message_id)


async def test_tls_from_the_first_byte(smtp: MailServer) -> None:
    request, message_id = a_mail(smtp.tls_port, "tls", security="tls")
    assert (await a_client(smtp).send(request)).status == 250
    assert await arrived(smtp, "team@example.com", message_id)


async def test_a_wrong_password_is_refused_for_good(smtp: MailServer) -> None:
    request, _ = a_mail(smtp.starttls_port, security="starttls", username=USER, password="wrong-horse")
    response = await a_client(smtp).send(request)
    assert response.status == 535
    assert isinstance(email.interpret(response), Rejected)
    assert b"wrong-horse" not in response.body


async def test_one_unknown_recipient_and_nobody_gets_it(smtp: MailServer) -> None:
    request, message_id = a_mail(smtp.plain_port, "half", recipients=["team@example.com", "unknown@example.com"])
    response = await a_client().send(request)
    assert 500 <= response.status < 600
    assert isinstance(email.interpret(response), Rejected)
    later, later_id = a_mail(smtp.plain_port, "after half")
    assert (await a_client().send(later)).status == 250
    assert await arrived(smtp, "team@example.com", later_id)
    assert not any(m["message-id"] == message_id for m in smtp.messages("team@example.com"))


async def test_a_certificate_that_nobody_vouches_for(smtp: MailServer) -> None:
    for port, security in ((smtp.tls_port, "tls"), (smtp.starttls_port, "starttls")):
        request, _ = a_mail(port, security=security)
        assert (await a_client().send(request)).failure == "tls"


async def test_a_server_without_tls_gets_nothing_in_the_clear(smtp: MailServer) -> None:
    request, message_id = a_mail(smtp.plain_port, "downgrade", security="starttls")
    response = await a_client(smtp).send(request)
    assert (response.status, response.failure) == (0, "tls")
    assert not any(m["message-id"] == message_id for m in smtp.messages("team@example.com"))


async def test_private_addresses_are_refused(smtp: MailServer) -> None:
    for host in ("localhost", "127.0.0.1"):
        request, _ = a_mail(smtp.plain_port, host=host)
        response = await a_client(allowed=()).send(request)
        assert response.failure == "blocked"
        assert email.interpret(response) == Rejected(reason="blocked")


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "::1", "::ffff:127.0.0.1", "127.1", "１２７.0.0.1", "2130706433"]
)
async def test_mail_reaches_no_private_address_however_it_is_spelt(host: str) -> None:
    said: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.append(b"connected")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    request, _ = a_mail(server.sockets[0].getsockname()[1], host=host)
    response = await a_client(allowed=()).send(request)
    server.close()
    assert (response.failure in ("blocked", "dns"), said) == (True, [])


async def test_a_mail_servers_name_that_changes_its_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding, as for HTTP: one look-up, and its answer is both judged and connected to."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *args: object, **kwargs: object) -> object:
        asked.append(host)
        return real("93.184.216.34" if len(asked) > 1 else "127.0.0.1", *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    request, _ = a_mail(free_port(), host="rebind.example")
    assert (await a_client(allowed=()).send(request)).failure == "blocked"
    assert asked == ["rebind.example"]


async def test_nobody_there_and_no_such_name() -> None:
    request, _ = a_mail(free_port())
    assert (await a_client().send(request)).failure == "connect"
    request, _ = a_mail(25, host="nobody.invalid")
    assert (await a_client().send(request)).failure == "dns"


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        ([b"421 busy\r\n"], Retry(reason="smtp_421")),
        ([b"220 hi\r\n", b"250 hi\r\n", b"451 later\r\n"], Retry(reason="smtp_451")),
        ([b"220 hi\r\n", b"250 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"554 spam\r\n"], Rejected(reason="smtp_554")),
        ([b"220 hi\r\n", b""], Retry(reason="protocol")),
        ([b"HTTP/1.1 400 Bad Request\r\n"], Retry(reason="protocol")),
        ([], Retry(reason="timeout")),
    ],
)  # fmt: skip
async def test_one_who_behaves_badly(lines: list[bytes], outcome: object) -> None:
    released = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for turn, line in enumerate(lines):
            if turn:
                until = b"\r\n.\r\n" if turn and lines[turn - 1].startswith(b"354") else b"\r\n"
                await reader.readuntil(until)
            writer.write(line)
        if not lines:
            await released.wait()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    request, _ = a_mail(server.sockets[0].getsockname()[1], host="127.0.0.1", timeout_s=1)
    response: Response = await a_client().send(request)
    released.set()
    server.close()
    assert email.interpret(response) == outcome

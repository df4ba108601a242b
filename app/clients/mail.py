"""One mail attempt: connect, hand over, leave. All recipients or none: a message is never half delivered."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

import aiosmtplib
from aiosmtplib import SMTP

from app.clients.guard import Blocked, Guard
from integrations.base import Failure, MailRequest, Response


class MailClient:
    """Sends `MailRequest`s, a connection each."""

    def __init__(self, guard: Guard, now: Callable[[], int], tls: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._now = now
        self._tls = tls

    async def send(self, request: MailRequest) -> Response:
        """One attempt, within the request's timeout. Never raises but for cancellation."""
        try:
            async with asyncio.timeout(request.timeout_s):
                status, text = await self._hand_over(request)
        except aiosmtplib.SMTPResponseException as error:
            if error.code <= 0:  # the library's word for an answer that is none
                return Response(status=0, at=self._now(), failure="protocol")
            return Response(status=error.code, at=self._now(), body=error.message.encode())
        except (aiosmtplib.SMTPException, TimeoutError, OSError, ValueError) as error:
            return Response(status=0, at=self._now(), failure=failure_of(error))
        return Response(status=status, at=self._now(), body=text.encode())

    async def _hand_over(self, request: MailRequest) -> tuple[int, str]:
        smtp = SMTP(
            hostname=request.host,
            sock=await self._connect(request.host, request.port),
            use_tls=request.security == "tls",
            start_tls=request.security == "starttls",
            tls_context=self._tls,
            timeout=request.timeout_s,
        )
        try:
            await smtp.connect()
            if request.username is not None and request.password is not None:
                await smtp.login(request.username, request.password.get_secret_value())
            await smtp.mail(request.sender)
            for recipient in request.recipients:
                await smtp.rcpt(recipient)
            answer = await smtp.data(request.message)
            # The message is theirs now; how the connection ends changes nothing.
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                await smtp.quit()
            return answer.code, answer.message
        finally:
            smtp.close()

    async def _connect(self, host: str, port: int) -> socket.socket:
        failed: OSError | None = None
        for endpoint in await self._guard.endpoints(host, port):
            made = socket.socket(endpoint.family, socket.SOCK_STREAM)
            made.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(made, (endpoint.address, endpoint.port))
            except OSError as error:
                made.close()
                failed = error
            except BaseException:
                made.close()
                raise
            else:
                return made
        raise failed or OSError("no address")


def failure_of(error: BaseException) -> Failure:
    """Which kind of failure an error is."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Blocked):
            return "blocked"
        if isinstance(cause, ssl.SSLError):
            return "tls"
        if isinstance(cause, socket.gaierror):
            return "dns"
        cause = cause.__cause__
    if isinstance(error, TimeoutError | aiosmtplib.SMTPTimeoutError):
        return "timeout"
    if isinstance(error.__cause__, aiosmtplib.SMTPServerDisconnected):
        return "protocol"
    if isinstance(error, OSError) and not isinstance(error, aiosmtplib.SMTPServerDisconnected):
        return "connect"
    if isinstance(error, aiosmtplib.SMTPException) and "tls" in str(error).lower():
        return "tls"
    return "protocol"

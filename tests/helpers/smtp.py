"""A real mail server (Postfix) for tests: in the clear, with STARTTLS and a password, and with TLS from the first byte."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path

import pytest

from tests.helpers.kafka import free_port

USER, PASSWORD = "uptake", "correct-horse"
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
RECIPIENTS = ("team@example.com", "ops@example.com")
"""Known to the server; all others it refuses for good."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where it listens, and what it has."""

    plain_port: int
    starttls_port: int
    tls_port: int
    directory: Path

    def trusting(self) -> ssl.SSLContext:
        """A client's context that trusts its certificate."""
        return ssl.create_default_context(cafile=str(self.directory / "cert.pem"))

    def messages(self, recipient: str) -> list[EmailMessage]:
        """What has arrived for a recipient."""
        parser = BytesParser(policy=default)
        files = sorted((self.directory / "mail" / recipient / "new").glob("*"))
        return [m for m in (parser.parsebytes(f.read_bytes()) for f in files) if isinstance(m, EmailMessage)]


@pytest.fixture(scope="session")
def smtp() -> Iterator[MailServer]:
    """The session's mail server."""
    with provide_smtp() as server:
        yield server


@contextmanager
def provide_smtp() -> Iterator[MailServer]:
    """A mail server for the length of the block. Its configuration, queue and mail lie in a directory of its own."""
    postfix = shutil.which("postfix", path=_PATH)
    if postfix is None or shutil.which("saslpasswd2", path=_PATH) is None or os.geteuid() != 0:
        pytest.skip("needs Postfix with SASL and root: run `make test` as root on Debian, which installs it")
    directory = Path(tempfile.mkdtemp(prefix="uptake-smtp-"))
    server = MailServer(free_port(), free_port(), free_port(), directory)
    _configure(server)
    try:
        subprocess.run([postfix, "-c", str(directory / "etc"), "start"], check=True, capture_output=True, timeout=60)
        _wait(server)
        yield server
    finally:
        subprocess.run([postfix, "-c", str(directory / "etc"), "stop"], capture_output=True, timeout=60)
        shutil.rmtree(directory, ignore_errors=True)


def _configure(server: MailServer) -> None:
    directory = server.directory
    directory.chmod(0o755)
    for name in ("etc/sasl", "spool", "data", "mail"):
        (directory / name).mkdir(parents=True)
    shutil.chown(directory / "data", "postfix")
    (directory / "mail").chmod(0o777)
    _certificate(directory)
    known = " ".join(f"{r}={r}/" for r in RECIPIENTS)
    (directory / "etc" / "main.cf").write_text(MAIN.format(directory=directory, known=known))
    (directory / "etc" / "master.cf").write_text(
        f"{server.plain_port} inet n - n - - smtpd\n"
        f"{server.starttls_port} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt -o smtpd_sasl_auth_enable=yes "
        "-o smtpd_client_restrictions=permit_sasl_authenticated,reject\n"
        f"{server.tls_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n" + MASTER
    )
    users = directory / "users"
    (directory / "etc" / "sasl" / "smtpd.conf").write_text(
        f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\nsasldb_path: {users}\n"
    )
    subprocess.run(
        ["saslpasswd2", "-p", "-c", "-f", str(users), "-u", "localhost", USER],
        input=PASSWORD.encode(),
        check=True,
        env={**os.environ, "PATH": _PATH},
    )
    users.chmod(0o644)


def _certificate(directory: Path) -> None:
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip


def _wait(server: MailServer) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.tls_port), timeout=0.2):
            return
        time.sleep(0.05)
    raise RuntimeError("Postfix did not start:\n" + (server.directory / "maillog").read_text()[-2_000:])


MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
myhostname = localhost
mydestination =
inet_interfaces = loopback-only
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = reject_unauth_destination
virtual_mailbox_domains = example.com
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = inline:{{ {known} }}
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_minimum_uid = 1
smtpd_tls_cert_file = {directory}/cert.pem
smtpd_tls_key_file = {directory}/key.pem
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = {directory}/etc/sasl
smtpd_sasl_local_domain = localhost
"""
MASTER = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

__all__ = ["MailServer", "provide_smtp", "smtp"]

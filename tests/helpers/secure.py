"""A real Kafka whose second listener asks for TLS and a SCRAM password, with certificates made for the occasion."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.broker import Broker, Listener
from tests.helpers.kafka import ROOT, free_port

JAAS = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@dataclass(frozen=True, slots=True)
class SecureKafka:
    """Where it is, who may in, and whom to believe."""

    address: str
    plain: str
    ca: Path
    other_ca: Path
    """One that has not signed the broker's certificate."""
    client_certificate: Path
    client_key: Path


@contextmanager
def provide_secure(directory: Path, users: dict[str, str]) -> Iterator[SecureKafka]:
    """The broker for the length of the block; it asks for a client certificate too, of whoever has one."""
    certificates = directory / "tls"
    certificates.mkdir(parents=True)
    ca, broker_pair, client_pair = (
        _authority(certificates, "ca"),
        *(_signed(certificates, "ca", name) for name in ("broker", "client")),
    )
    other = _authority(certificates, "other")
    store = certificates / "broker.store.pem"
    store.write_text(broker_pair[1].read_text() + broker_pair[0].read_text())
    listener = Listener(
        port=free_port(),
        protocol="SASL_SSL",
        settings={
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(ca),
            "ssl.client.auth": "requested",
            "sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
            "scram-sha-256.sasl.jaas.config": JAAS,
            "scram-sha-512.sasl.jaas.config": JAAS,
        },
        users=users,
    )
    broker = Broker(directory / "broker", jars=ROOT / ".uptake" / "jars", second=listener)
    try:
        plain = broker.start(free_port())
        yield SecureKafka(listener.address, plain, ca, other, *client_pair)
    finally:
        broker.stop()


def _authority(directory: Path, name: str) -> Path:
    certificate = directory / f"{name}.pem"
    _openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-keyout", str(directory / f"{name}.key"), "-out", str(certificate),
    )  # fmt: skip
    return certificate


def _signed(directory: Path, by: str, name: str) -> tuple[Path, Path]:
    """(certificate, PKCS #8 key) of `localhost`."""
    key, request, certificate, extra = (directory / f"{name}.{kind}" for kind in ("key", "csr", "pem", "ext"))
    extra.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request))
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", str(directory / f"{by}.pem"), "-CAkey", str(directory / f"{by}.key"),
        "-CAcreateserial", "-days", "2", "-extfile", str(extra), "-out", str(certificate),
    )  # fmt: skip
    return certificate, key


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)

"""Why a cluster does not let us in. aiokafka logs the reason of a failed start and raises "unable to bootstrap": this asks again."""

from __future__ import annotations

import ssl

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from transport.options import Security

ANSWERS_WITHIN_MS = 5_000


async def refusal(bootstrap: str, security: Security) -> str | None:
    """What the first of these addresses that answers says against us, with the next move; None where nobody answers, or all is well.

    Never raises for what the cluster does. The sentence holds no password.
    """
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            connection = await create_conn(
                host.strip("[]"), int(port), request_timeout_ms=ANSWERS_WITHIN_MS, **security.client()
            )
            try:
                await connection.send(MetadataRequest([]))  # without SASL it is here that a door stays shut
            finally:
                connection.close()
            return None
        except (TimeoutError, KafkaError, OSError) as error:
            if (said := _sentence(error, address.strip(), security)) is not None:
                return said
    return None


def _sentence(error: BaseException, address: str, security: Security) -> str | None:
    match error:
        case SaslAuthenticationFailed() | AuthenticationFailedError():
            return (
                f"Kafka at {address} refuses user {security.username!r} ({security.mechanism}): check UPTAKE_KAFKA_USERNAME, "
                "…_PASSWORD and …_SASL_MECHANISM"
            )
        case UnsupportedSaslMechanismError() | IllegalSaslStateError():
            return (
                f"Kafka at {address} does not take {security.mechanism}: set UPTAKE_KAFKA_SASL_MECHANISM to one it has"
            )
        case ssl.SSLCertVerificationError():
            return (
                f"Kafka at {address} shows a certificate that is not trusted ({error.verify_message}): name its authority in "
                "UPTAKE_KAFKA_CA_FILE, and the address as the certificate does"
            )
        case ssl.SSLError():
            return (
                f"Kafka at {address} does not speak TLS as we do ({error.reason or 'handshake failed'}): check the port, "
                "UPTAKE_KAFKA_SECURITY and the client certificate"
            )
        case KafkaError() if "closed" in str(error) or "close" in type(error).__name__.lower():
            return f"Kafka at {address} hangs up on {security.protocol}: check that UPTAKE_KAFKA_SECURITY is what this port asks for"
    return None

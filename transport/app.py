"""A role's Faust app, set so that Faust does membership, agents and flow, and this room does the rest."""

from __future__ import annotations

from typing import Any

import faust
from faust.types.auth import CredentialsArg

from transport.consumer import BlockTransport
from transport.metrics import Metrics
from transport.options import Options, Security
from transport.runs import Runs
from transport.tables import CheckpointedTables


class RoleApp(faust.App):
    """A Faust app with runners."""

    runs: Runs

    def _new_transport(self) -> Any:
        return BlockTransport(self.conf.broker_consumer, self)


def make_app(options: Options, metrics: Metrics) -> RoleApp:
    """The app of a role: group `prefix + role`, topics of equal partition counts owned together.

    Nothing connects before it is started (`await app.start()`, or a `faust.Worker`). Raises nothing for a broker that is
    away: the worker retries.
    """
    app = RoleApp(
        options.group,
        broker=";".join(f"kafka://{address}" for address in options.servers()),
        broker_credentials=_credentials(options.security),
        broker_session_timeout=options.session_timeout_s,
        broker_heartbeat_interval=options.session_timeout_s / 4,
        broker_rebalance_timeout=options.rebalance_timeout_s,
        broker_request_timeout=options.request_timeout_ms / 1000,
        consumer_group_instance_id=options.instance_id,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=options.partition_fetch_bytes,
        datadir=str(options.data_dir),
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=options.partitions,
        table_standby_replicas=0,
        stream_recovery_delay=0.0,
        stream_wait_empty=True,
        stream_buffer_maxsize=options.queued_batches,
        processing_guarantee="at_least_once",
        key_serializer="raw",
        value_serializer="raw",
        TableManager=CheckpointedTables,
        autodiscover=False,
    )
    app.runs = Runs(app, options, metrics)
    return app


def _credentials(security: Security) -> CredentialsArg | None:
    """The same for Faust's own producer."""
    context = security.client().get("ssl_context")
    if security.protocol.startswith("SASL"):
        return faust.SASLCredentials(
            mechanism=security.mechanism,
            username=security.username,
            password=security.password,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None

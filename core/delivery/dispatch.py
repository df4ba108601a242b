"""DISPATCH: a command → the deliveries of the connections that want it, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from pydantic import ValidationError

from core.accounts import Book
from core.batch import Batch
from core.definitions import Catalogue
from core.delivery.accounts import Dispatched
from core.delivery.directory import Directory, lane_of
from core.delivery.ledger import REPLAY_HORIZON_MS, Ledger
from core.delivery.receipts import suppressed, trace_headers
from core.delivery.routing import wanted_by
from core.delivery.stages import ledger_key, reason_against
from core.effects import Count, DeadLetter, Effect, Emit
from core.forgetting import Forgetting
from core.task import StateRecord, TaskSpec
from schemas.commands import DOMAINS, Command
from schemas.definitions import Connection
from schemas.delivery import Delivery, SuppressionReason
from schemas.envelope import derived_id
from schemas.topics import INTEGRATIONS_WITH_TOPICS

STEP = "dispatch"
_COUNTERS = b"counters"
_LEDGER = b"ledger|"


class DispatchTask:
    """One partition of all `commands.*`. State: the ledger of ids, and the accounts."""

    def __init__(
        self, partition: int, catalogue: Catalogue, book: Book | None = None, horizon_ms: int = REPLAY_HORIZON_MS
    ) -> None:
        self.accounts = Dispatched()
        self._partition = partition
        self._directory = Directory(catalogue)
        self._book = book or Book("commanded")
        self._horizon_ms = horizon_ms
        self._forgotten = Forgetting(catalogue)
        self._ledger = Ledger()
        self._clock = 0
        self._dirty: dict[bytes, bytes | None] = {}
        self._counted = False

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take a row of the ledger, or the accounts."""
        if value is None:
            return
        if key == _COUNTERS:
            self.accounts = msgspec.json.decode(value, type=Dispatched)
        elif key.startswith(_LEDGER):
            self._ledger.add(key[len(_LEDGER) :].decode(), int(value))

    def loaded(self) -> None:
        """Nothing to build."""

    def step(self, batch: Batch) -> Iterable[Effect]:
        """Route every command of the batch. Time is the broker's, of each row."""
        effects: list[Effect] = []
        for row, value in enumerate(batch.values):
            now = int(batch.timestamps[row])
            self._clock = max(self._clock, now)
            try:
                if value is None:
                    raise ValueError("no value")
                command = Command.model_validate_json(value)
            except ValueError as error:
                effects.append(_dead(batch, row, value, error))
            else:
                origin = f"{batch.topic}/{batch.partition}/{batch.offsets[row]}"
                effects += self._take(command, origin, now)
        for id_ in self._ledger.forget(self._clock):
            self._dirty[_LEDGER + id_.encode()] = None
        return effects

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """Export the accounts' difference."""
        return (self._book.put(str(self._partition), self.accounts.difference),)

    def wake_at(self) -> int | None:
        """Nothing here waits."""
        return None

    def drain(self) -> list[StateRecord]:
        """Ids taken and forgotten, and the accounts where they changed."""
        records: list[StateRecord] = list(self._dirty.items())
        self._dirty = {}
        if self._counted:
            records.append((_COUNTERS, msgspec.json.encode(self.accounts)))
            self._counted = False
        return records

    def _take(self, command: Command, origin: str, now: int) -> list[Effect]:
        self._counted = True
        self.accounts.commands += 1
        if self._forgotten.holds(command.tenant, command.subject):
            # Without a receipt: it would name the subject again.
            self.accounts.suppressed += 1
            return [
                Count("uptake_suppressed_total", 1, (STEP, "forgotten")),
                Count("uptake_forgotten_total", 1, (STEP,)),
            ]
        reason = reason_against(command, self._directory, self._ledger, now)
        if reason != "expired":
            self._remember(command)
        if reason is not None:
            self.accounts.suppressed += 1
            return _suppressed(command, reason, origin, now)
        connections = wanted_by(command, self._directory.connections(command.tenant), now)
        if not connections:
            self.accounts.left += 1
            return _suppressed(command, "no_connection", origin, now)
        self.accounts.routed += 1
        self.accounts.deliveries += len(connections)
        return [bind(command, connection) for connection in connections]

    def _remember(self, command: Command) -> None:
        id_ = ledger_key(command)
        if id_ not in self._ledger:
            until = command.expires_at + self._horizon_ms
            self._ledger.add(id_, until)
            self._dirty[_LEDGER + id_.encode()] = str(until).encode()


def bind(command: Command, connection: Connection) -> Emit:
    """A command bound to a connection. The same two always give the same delivery id."""
    lane = lane_of(connection)
    delivery = Delivery(
        id=derived_id("delivery", command.tenant, command.id, lane),
        tenant=command.tenant,
        connection=connection.name,
        integration=connection.integration,
        sandboxed=not connection.enabled,
        command=command,
    )
    return Emit(
        delivery_topic(connection.integration, urgent=command.priority == "urgent"),
        lane.encode(),
        delivery.model_dump_json().encode(),
        headers=trace_headers(command),
    )


def delivery_topic(integration: str, *, urgent: bool) -> str:
    """`deliveries.<integration>[.urgent]`; integrations without topics of their own share `deliveries.other`."""
    name = integration if integration in INTEGRATIONS_WITH_TOPICS else "other"
    return f"deliveries.{name}.urgent" if urgent else f"deliveries.{name}"


def dispatch_spec(catalogue: Catalogue) -> TaskSpec:
    """How the role `deliver` makes its DISPATCH tasks."""
    book = Book("commanded")
    return TaskSpec(
        role="deliver",
        group="commands",
        topics=tuple(f"commands.{domain}" for domain in DOMAINS),
        make=lambda partition: DispatchTask(partition, catalogue, book),
        state_topic="state.dispatch",
    )


def _suppressed(command: Command, reason: SuppressionReason, origin: str, now: int) -> list[Effect]:
    return [suppressed(command, reason, origin, now), Count("uptake_suppressed_total", 1, (STEP, reason))]


def _dead(batch: Batch, row: int, value: bytes | None, error: ValueError) -> DeadLetter:
    return DeadLetter(
        topic=batch.topic,
        partition=batch.partition,
        offset=int(batch.offsets[row]),
        step=STEP,
        reason="null_value" if value is None else "invalid",
        detail=explain(error),
        key=batch.rows.key(row),
        value=value,
        at=int(batch.timestamps[row]),
        headers=batch.headed.get(row, ()),
    )


def explain(error: ValueError) -> str:
    """Which fields are wrong and how, without the values they hold."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors(include_input=False)[:5]
    )

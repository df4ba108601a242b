"""DELIVER: deliveries wait as rows, go out as attempts, and end as receipts. Who sends is none of its business.

step      rows in; their offset is finished, whatever becomes of them
due       → attempts that may be made now
finished  what became of one → a receipt, and the row parked until its retry, or gone
tick      what waited too long → a receipt
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from core.accounts import Book
from core.batch import Batch
from core.definitions import Catalogue
from core.delivery import receipts, retry
from core.delivery.accounts import Ended
from core.delivery.attempts import Attempt, attempt_of, read, subject_of, verdict_of
from core.delivery.breaker import Breaker
from core.delivery.directory import Directory
from core.delivery.dispatch import explain
from core.delivery.lanes import Lane
from core.delivery.routing import RANK
from core.delivery.rows import Row, Rows
from core.effects import Count, DeadLetter, Effect, Observe
from core.forgetting import Forgetting
from core.task import StateRecord, TaskSpec
from schemas.definitions import Connection
from schemas.delivery import Delivered, Delivery, Outcome, Rejected, Retry
from schemas.topics import INTEGRATIONS_WITH_TOPICS

STEP = "deliver"
MAX_WAITING = 100_000
"""Deliveries that may wait for one connection, and as many urgent ones on top; what is more is set aside, to be replayed."""
MAX_ALL = 400_000
"""The same for all connections of a partition together: memory has a bound however many destinations are dead. Holding the
partition back instead would make the healthy ones wait for the dead.
"""


class DeliverTask:
    """One partition of all `deliveries.*`."""

    def __init__(
        self,
        partition: int,
        catalogue: Catalogue,
        book: Book | None = None,
        max_waiting: int = MAX_WAITING,
        max_all: int = MAX_ALL,
    ) -> None:
        self.partition = partition
        self._directory = Directory(catalogue)
        self._book = book or Book("deliveries")
        self._max_waiting = max_waiting
        self._max_all = max_all
        self._rows = Rows()
        self._lanes: dict[str, Lane] = {}
        self._in_flight: dict[str, Row] = {}
        self._sequence = 0
        self._parked: Counter[str] = Counter()
        self._unreadable: dict[str, Row] = {}
        self._forgotten = Forgetting(catalogue)
        self._forgot = 0

    @property
    def waiting(self) -> int:
        """Deliveries that have not ended, in flight or parked."""
        return len(self._rows)

    @property
    def parked(self) -> Mapping[str, int]:
        """Integration → deliveries that have not ended, of every integration that had one."""
        return self._parked

    @property
    def accounts(self) -> Ended:
        """What became of all others."""
        return self._rows.accounts

    @property
    def breakers(self) -> dict[str, Breaker]:
        """Lane → its breaker, of those that do not let everything through."""
        return {name: lane.breaker for name, lane in list(self._lanes.items()) if lane.breaker.state != "closed"}

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one record of the state topic."""
        self._rows.load(key, value)

    def loaded(self) -> None:
        """Put what waited before into its lanes."""
        self._rows.loaded()
        for row in sorted(self._rows, key=lambda row: (row.arrived, row.topic, row.offset)):
            self._park(row)

    def step(self, batch: Batch) -> Iterable[Effect]:
        """Take the batch's deliveries in. Nothing is sent here."""
        effects: list[Effect] = []
        for index, value in enumerate(batch.values):
            try:
                if value is None:
                    raise ValueError("no value")
                delivery = Delivery.model_validate_json(value)
            except ValueError as error:
                reason = "null_value" if value is None else "invalid"
                effects.append(_dead(batch, index, reason, explain(error)))
            else:
                effects += self._take(delivery, batch, index)
        return effects

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """End what nobody should act on any more, forget whom to forget, and export the figures."""
        effects = self._forget()
        for row in self._rows.expired(now):
            if row.id not in self._in_flight:
                effects += self._expire(row, now)
        for row in self._unreadable.values():
            self._end(row, "rejected")
            effects.append(_set_aside(row, "unreadable", "kept by a version whose deliveries differ", now))
            effects.append(Count("uptake_deliveries_total", 1, (row.integration, "rejected")))
        self._unreadable = {}
        effects.append(self._book.put(str(self.partition), self.accounts.difference(self.waiting)))
        effects += [
            Observe("uptake_parked", n, (integration, str(self.partition))) for integration, n in self._parked.items()
        ]
        return effects

    def wake_at(self) -> int | None:
        """Expiry is swept once a second; attempts are asked for with `due`."""
        return None

    def drain(self) -> list[StateRecord]:
        """Rows that changed."""
        return self._rows.drain()

    def due(self, now: int, free: int) -> list[Attempt]:
        """At most `free` attempts that may be made now, each lane within its own concurrency and rate. Every attempt
        handed out must come back through `finished`.
        """
        attempts: list[Attempt] = []
        for name, lane in self._lanes.items():
            if len(attempts) >= free:
                break
            connection = self._directory.connection(name)
            if lane.in_flight == lane.waiting or self._stopped(connection):
                continue
            for place in lane.take(now, connection, self._directory.generation, free - len(attempts)):
                row = self._rows.get(place[-1])
                if row is None or row.id in self._in_flight or now >= row.expires_at:
                    continue
                if self._directory.paused(row.tenant, rule=row.rule, connection=name.partition("|")[2]):
                    lane.hold(place, self._directory.generation)
                    continue
                delivery = read(row)
                if delivery is None:
                    self._unreadable[row.id] = row
                    continue
                lane.in_flight += 1
                self._in_flight[row.id] = row
                attempt = attempt_of(row, delivery, connection)
                if connection is not None:
                    lane.breaker.started(row.id)
                attempts.append(attempt)
        return attempts

    def next_at(self, now: int) -> int | None:
        """When `due` may have something at the earliest, as things stand."""
        times = [
            at
            for name, lane in self._lanes.items()
            if lane.waiting > lane.in_flight
            and not self._stopped(connection := self._directory.connection(name))
            and (at := lane.next_at(now, connection)) is not None
        ]
        return min(times, default=None)

    def finished(
        self,
        attempt: Attempt,
        outcome: Outcome,
        now: int,
        *,
        took_ms: float | None = None,
        also: Iterable[Effect] = (),
    ) -> list[Effect]:
        """Take an attempt back. `also` are effects that belong to its success (the record it is), in the same transaction."""
        row = self._in_flight.pop(attempt.delivery.id)
        lane = self._lanes[row.lane]
        lane.in_flight -= 1
        row.attempts = attempt.number
        counts: list[Effect] = [Count("uptake_attempts_total", 1, (row.integration, outcome.outcome))]
        before = lane.breaker.state
        lane.breaker.ended(row.id, verdict_of(attempt, outcome), now)
        if lane.breaker.state == "open" != before:
            counts.append(Count("uptake_breaker_opened_total", 1, (row.integration, row.lane)))
        if took_ms is not None:
            counts.append(Observe("uptake_attempt_seconds", took_ms / 1_000, (row.integration,)))
        if self._forgotten.holds(row.tenant, attempt.delivery.command.subject):
            delivered = isinstance(outcome, Delivered)
            self._end(row, "delivered" if delivered else "suppressed")
            return [*(also if delivered else ()), *counts, *_forgotten()]
        if isinstance(outcome, Retry):
            return counts + self._again(row, attempt, outcome, now, took_ms)
        receipt = receipts.attempted(
            attempt.delivery, row.origin, attempt.number, outcome, now, sandboxed=attempt.sandboxed, took_ms=took_ms
        )
        self._end(row, outcome.outcome)
        counts.append(Count("uptake_deliveries_total", 1, (row.integration, outcome.outcome)))
        if isinstance(outcome, Delivered):
            return [*also, receipt, *counts]
        return [receipt, _set_aside(row, "rejected", outcome.reason, now), *counts]

    def _again(self, row: Row, attempt: Attempt, outcome: Retry, now: int, took_ms: float | None) -> list[Effect]:
        connection = attempt.connection
        limits = retry.Limits(
            attempts=connection.max_attempts if connection else 1,
            until=row.arrived + 1_000 * (connection.max_age_s if connection else 0),
            expires_at=row.expires_at,
        )
        verdict = retry.after(outcome, row.id, attempt.number, limits, now)
        at = verdict.at if isinstance(verdict, retry.Again) else None
        reason = outcome.reason if isinstance(verdict, retry.Again) else f"{verdict.budget}: {outcome.reason}"
        receipt = receipts.attempted(
            attempt.delivery,
            row.origin,
            attempt.number,
            outcome,
            now,
            sandboxed=attempt.sandboxed,
            reason=reason,
            retry_at=at,
            took_ms=took_ms,
        )
        if isinstance(verdict, retry.Over):
            self._end(row, "rejected")
            ended = Count("uptake_deliveries_total", 1, (row.integration, "rejected"))
            return [receipt, _set_aside(row, verdict.budget, outcome.reason, now), ended]
        if outcome.after_s:
            self._lanes[row.lane].close_until(now + int(1_000 * min(outcome.after_s, 3_600)))
        row.due = verdict.at
        self._rows.changed(row)
        self._put(row)
        return [receipt]

    def _take(self, delivery: Delivery, batch: Batch, index: int) -> list[Effect]:
        accounts = self._rows.count()
        accounts.received += 1
        if self._forgotten.holds(delivery.tenant, delivery.command.subject):
            accounts.suppressed += 1
            return _forgotten()
        now = int(batch.timestamps[index])
        key = batch.rows.key(index)
        if self._rows.get(delivery.id) is not None:
            accounts.suppressed += 1
            return [Count("uptake_suppressed_total", 1, (STEP, "duplicate"))]
        command = delivery.command
        row = Row(
            id=delivery.id,
            lane=key.decode(errors="replace") if key else f"{delivery.tenant}|{delivery.connection}",
            rank=RANK[command.priority],
            integration=delivery.integration,
            tenant=delivery.tenant,
            rule=command.rule,
            due=now,
            arrived=now,
            expires_at=command.expires_at,
            topic=batch.topic,
            partition=batch.partition,
            offset=int(batch.offsets[index]),
            key=key,
            value=batch.values[index] or b"",
            headers=tuple((name, bytes(content)) for name, content in batch.headed.get(index, ())),
        )
        waiting = lane.waiting if (lane := self._lanes.get(row.lane)) is not None else 0
        # Urgent ones have room of their own: what waits must not keep out what should overtake it.
        own = 2 if row.rank == RANK["urgent"] else 1
        if waiting >= own * self._max_waiting or len(self._rows) >= own * self._max_all:
            accounts.rejected += 1
            full = Rejected(reason="queue_full")
            detail = f"{waiting} deliveries wait for {row.lane} already, {len(self._rows)} in all of this partition"
            return [
                receipts.attempted(delivery, row.origin, 0, full, now, sandboxed=delivery.sandboxed),
                _dead(batch, index, "queue_full", detail),
                Count("uptake_deliveries_total", 1, (row.integration, "rejected")),
            ]
        self._rows.add(row)
        self._park(row)
        return []

    def _park(self, row: Row) -> None:
        """Begin to wait in the lane."""
        self._lanes.setdefault(row.lane, Lane()).waiting += 1
        self._parked[row.integration] += 1
        self._put(row)

    def _put(self, row: Row) -> None:
        self._sequence += 1
        self._lanes[row.lane].put(row.id, rank=row.rank, sequence=self._sequence, due=row.due, tenant=row.tenant)

    def _end(self, row: Row, how: str) -> None:
        self._rows.remove(row)
        self._parked[row.integration] -= 1
        self._lanes[row.lane].waiting -= 1
        accounts = self._rows.count()
        setattr(accounts, how, getattr(accounts, how) + 1)

    def _expire(self, row: Row, now: int) -> list[Effect]:
        delivery = read(row)
        if delivery is None:
            self._unreadable[row.id] = row
            return []
        self._end(row, "suppressed")
        return [
            receipts.expired(delivery, row.origin, row.attempts, now, sandboxed=delivery.sandboxed),
            Count("uptake_deliveries_total", 1, (row.integration, "expired")),
            Count("uptake_suppressed_total", 1, (STEP, "expired")),
        ]

    def _forget(self) -> list[Effect]:
        """Deliveries about subjects that are to be forgotten end without a receipt; what is in the air ends first."""
        version = self._forgotten.version
        if self._forgot == version:
            return []
        effects: list[Effect] = []
        flying = False
        for row in list(self._rows):
            about = subject_of(row)
            if about is None or not self._forgotten.holds(row.tenant, about):
                continue
            if row.id in self._in_flight:
                flying = True
                continue
            self._end(row, "suppressed")
            effects += _forgotten()
        if not flying:
            self._forgot = version
        return effects

    def _stopped(self, connection: Connection | None) -> bool:
        return connection is not None and self._directory.paused(connection.tenant, connection=connection.name)


def deliver_spec(catalogue: Catalogue) -> TaskSpec:
    """How the role `deliver` makes its DELIVER tasks."""
    book = Book("deliveries")
    return TaskSpec(
        role="deliver",
        group="deliveries",
        topics=tuple(f"deliveries.{i}{u}" for i in INTEGRATIONS_WITH_TOPICS for u in (".urgent", "")),
        make=lambda partition: DeliverTask(partition, catalogue, book),
        state_topic="state.deliver",
    )


def _forgotten() -> list[Effect]:
    """Without a receipt: it would name the subject again."""
    return [Count("uptake_suppressed_total", 1, (STEP, "forgotten")), Count("uptake_forgotten_total", 1, (STEP,))]


def _set_aside(row: Row, reason: str, detail: str, now: int) -> DeadLetter:
    return DeadLetter(row.topic, row.partition, row.offset, STEP, reason, detail, row.key, row.value, now, row.headers)


def _dead(batch: Batch, index: int, reason: str, detail: str) -> DeadLetter:
    return DeadLetter(
        topic=batch.topic,
        partition=batch.partition,
        offset=int(batch.offsets[index]),
        step=STEP,
        reason=reason,
        detail=detail,
        key=batch.rows.key(index),
        value=batch.values[index],
        at=int(batch.timestamps[index]),
        headers=batch.headed.get(index, ()),
    )

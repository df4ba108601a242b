"""ORCHESTRATE's task: one partition's runs. Signals, detections, receipts and METER's clocks in; commands and histories out.

A timer fires when the clock, the least of all sources' (as DECIDE's), has passed it, and every signal that was there when that
clock was read has been taken: METER writes a clock and the signals before it in one transaction, so what is read behind them
is late. A partition whose METER is behind holds its timers back, as it must: their events are still to come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
import numpy as np

from core.batch import Batch
from core.decide.explain import with_user
from core.decide.packing import decode, encode, key, read_key
from core.definitions import Catalogue
from core.delivery.receipts import suppressed
from core.effects import Count, DeadLetter, Effect, Emit, Observe
from core.forgetting import Forgetting
from core.people.profile import TOPICS as PEOPLE
from core.task import StateRecord, TaskSpec
from core.workflows import jobs
from core.workflows.aliases import PATIENCE_MS, Word, side
from core.workflows.desk import Came, Desk, Occurrence
from core.workflows.happened import DAY_MS, occurrence_of
from core.workflows.names import FORWARD, HANDOVER, Names
from core.workflows.publishing import PUBLISH, read_announcement
from core.workflows.shelf import DETECTIONS, Shelf, finding
from schemas.commands import Command
from schemas.definitions import Workflow
from schemas.detections import DETECTION
from schemas.envelope import key as topic_key
from schemas.registers import HOT, Clock, Signal
from schemas.registers import decode as decode_register

STEP: Final = "orchestrate"
SIGNALS, RECEIPTS, REGISTERS = "signals", "receipts", "meter.registers"
MOST_A_TICK: Final = 2_000
"""Runs woken by one tick: what else is due goes on at once, in the next."""
SETTLED_MS: Final = 150
"""From reading a clock to trusting that the signals before it are known to be there."""
_LATENESS_KNOWN_MS: Final = 3_600_000
_signal = msgspec.json.Decoder(Signal).decode
_write = msgspec.json.Encoder().encode


class _Receipt(msgspec.Struct):
    """What a run needs of a receipt."""

    tenant: str
    subject: str
    command: str
    status: str
    final: bool
    at: int
    reason: str | None = None


_receipt = msgspec.json.Decoder(_Receipt).decode


def runs_spec(catalogue: Catalogue, partitions: int, sources: Sequence[str] = HOT) -> TaskSpec:
    """How the tasks are made. All four topics are keyed by subject, or told to every partition (clocks).
    `sources`: whose clocks are waited for.
    """
    return TaskSpec(
        role="orchestrate",
        group="runs",
        topics=(SIGNALS, DETECTIONS, RECEIPTS, REGISTERS),
        make=lambda partition: RunsTask(partition, partitions, catalogue, sources),
        state_topic="state.orchestrate",
        state_format=2,  # 2: runs have former names, and rows say which names are another's
    )


class RunsTask:
    """Partition `partition`. `partitions`: of each source topic, and of this one. `sources`: those whose clocks are waited for, the
    first of `schemas.registers.SOURCES`.
    """

    def __init__(
        self,
        partition: int,
        partitions: int,
        catalogue: Catalogue,
        sources: Sequence[str] = HOT,
        patience_ms: int = PATIENCE_MS,
    ) -> None:
        """`patience_ms`: how long a name waits for what another partition hands over to it."""
        self.partition, self.partitions = partition, partitions
        self._catalogue = catalogue
        self._shelf = Shelf(catalogue)
        self.desk = Desk(self._shelf)
        self._sources, self._patience_ms = sources, patience_ms
        self._clocks = np.full(len(sources) * partitions, -1, np.int64)
        self._moved = False
        self._armed: list[tuple[int, int]] = []
        """(when it was read, the clock), oldest first: not yet trusted."""
        self._trusted = -1
        self._ticked = 0
        self._forgotten = Forgetting(catalogue)
        self._names = Names(self.desk, self._forgotten.holds, self._again, self._says)
        self._forgot = 0
        self._shown: set[str] = set()
        """Workflows of which runs were counted by the last tick."""

    # --- state ------------------------------------------------------------------------------------------------------

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take one state row; the later one of a key wins."""
        row, *rest = read_key(key)
        if row == "clocks":
            if value is not None:
                told = decode(value)
                self._clocks[: len(told)] = told  # an older version knew fewer sources
        elif value is None:
            self.desk.unload((row, *rest))
        else:
            self.desk.load((row, *rest), value)

    def loaded(self) -> None:
        """Every row is there."""
        self.desk.loaded()

    def drain(self) -> list[StateRecord]:
        """Rows that changed since the last drain."""
        records: list[StateRecord] = [(key(*row), value) for row, value in self.desk.rows()]
        if self._moved:
            records.append((key("clocks"), encode(self._clocks.tolist())))
            self._moved = False
        return records

    # --- work -------------------------------------------------------------------------------------------------------

    def step(self, batch: Batch) -> Iterable[Effect]:
        """Take a batch of any of the topics."""
        effects: list[Effect] = []
        takes = {SIGNALS: self._signal, DETECTIONS: self._detection, RECEIPTS: self._receipt}
        take: Callable[[bytes, int], list[Came]] | None = takes.get(batch.topic)
        for row, value in enumerate(batch.values):
            if take is None:
                self._clock(value)
                continue
            try:
                effects += self._told(take(value or b"", int(batch.timestamps[row])), int(batch.timestamps[row]))
            except (msgspec.MsgspecError, ValueError) as error:
                effects.append(_dead(batch, row, str(error).splitlines()[0]))
        return effects + self._names.drain() + self._refused()

    def tick(self, now: int, caught_up: Sequence[tuple[str, int]]) -> Iterable[Effect]:
        """Fire what is due; forget who is to be forgotten."""
        self._ticked = now
        effects: list[Effect] = []
        clock = int(self._clocks.min())
        if clock > max(self._trusted, self._armed[-1][1] if self._armed else -1):
            self._armed.append((now, clock))
        if (SIGNALS, self.partition) in caught_up:
            while self._armed and now >= self._armed[0][0] + SETTLED_MS:
                self._trusted = self._armed.pop(0)[1]
        effects += self._told(self._names.overdue(now, self._patience_ms), now)
        if self._trusted >= 0:
            came = self.desk.advance(self._trusted, now, MOST_A_TICK)
            effects += self._told(came, now)
            for one in came:
                late = now - one.record.job.at
                if 0 <= late < _LATENESS_KNOWN_MS:
                    effects.append(Observe("uptake_timer_late_seconds", late / 1000))
        if self._forgot != self._forgotten.version:
            self._forgot = self._forgotten.version
            if gone := self.desk.forget(self._forgotten.holds):
                effects.append(Count("uptake_forgotten_total", gone, (STEP,)))
        effects += self._names.drain()
        effects.append(Observe("uptake_runs", len(self.desk), (str(self.partition),)))
        going = self.desk.going_on()
        for name in sorted(self._shown | going.keys()):
            effects.append(Observe("uptake_workflow_runs", going.get(name, 0), (name, str(self.partition))))
        self._shown = set(going)
        effects.append(Observe("uptake_workflows", len(self._catalogue.of(Workflow)), ()))
        return effects

    def wake_at(self) -> int | None:
        """Soon, while something is due that waits only for the signals before it to be there."""
        due = self.desk.due
        if due is None or due > max(int(self._clocks.min()), self._trusted):
            return None
        return self._ticked + (1 if due <= self._trusted else SETTLED_MS)

    # --- what comes in ----------------------------------------------------------------------------------------------

    def _again(self, word: Word, subject: str) -> list[Came]:
        """Take a word that was kept, or comes from a former name of the subject's."""
        value = word.value.encode()
        match word.topic:
            case "signals":
                return self._signal(value, word.stamp, subject, word.path)
            case "detections":
                return self._detection(value, word.stamp, subject, word.path)
            case _:
                return self._receipt(value, word.stamp, subject, word.path)

    def _signal(self, value: bytes, now: int, subject: str | None = None, path: Sequence[str] = ()) -> list[Came]:
        """`subject`, `path`: of a word that was kept or sent on."""
        signal = _signal(value)
        if subject is not None and subject != signal.subject:
            signal = msgspec.structs.replace(signal, subject=subject)
        if self._forgotten.holds(signal.tenant, signal.subject):
            self._names.forgotten(signal)
            return []
        if signal.kind == HANDOVER:
            return self._names.handed_over(signal, Word(SIGNALS, value.decode(), now))
        if signal.kind == FORWARD:
            return self._names.forwarded(signal)
        if signal.kind != PUBLISH and (self.desk.aliases.concerns(signal.tenant) or side(signal) is not None):
            came = self._names.signal(signal, Word(SIGNALS, value.decode(), now, list(path)))
            if came is not None:
                return came
        if signal.kind == "approval":
            return self._approval(signal, now)
        if signal.kind == "cancel":
            return self._cancel(signal, now)
        if signal.kind in ("pause", "resume", "move"):
            return self._word(signal, now)
        if signal.kind == PUBLISH:
            self.desk.published(read_announcement(signal))
            return []
        if signal.kind == "trigger":
            return self._trigger(signal, now)
        if signal.kind == "segment":
            edge = f"segment_{signal.data.get('edge')}:{signal.data.get('segment')}"
            return self.desk.happened(occurrence_of(signal, DETECTIONS, now, edge), now)
        if signal.kind == "merge":
            return self._merge(signal, now)
        told = not path and signal.topic in PEOPLE and self.desk.asks(signal.tenant, signal.subject)
        if signal.topic is None or not (signal.workflows or told):
            return []
        what = occurrence_of(signal, signal.topic, now)
        return self.desk.happened(what, now, named=bool(signal.workflows), says=not path)

    def _says(self, signal: Signal, now: int) -> None:
        if signal.topic in PEOPLE:
            self.desk.says(occurrence_of(signal, signal.topic, now), now)

    def _merge(self, signal: Signal, now: int) -> list[Came]:
        row = signal.data.get("profile")
        if not isinstance(row, list):
            return []
        return self.desk.merged(signal.tenant, signal.product, signal.subject, row, signal.at, signal.cause, now)

    def _approval(self, signal: Signal, now: int) -> list[Came]:
        run, step, approved = (signal.data.get(name) for name in ("run", "step", "approved"))
        if not isinstance(run, str) or not isinstance(step, str) or not isinstance(approved, bool):
            raise msgspec.ValidationError("an approval names `run` and `step`, and `approved` is true or false")
        return self.desk.answer(run, jobs.Approval(signal.at, step, approved, str(signal.data.get("by", ""))), now)

    def _cancel(self, signal: Signal, now: int) -> list[Came]:
        run, compensate = signal.data.get("run"), signal.data.get("compensate", False)
        if not isinstance(run, str) or not isinstance(compensate, bool):
            raise msgspec.ValidationError("a cancellation names its `run`, and `compensate` is true or false")
        return self.desk.cancel(run, jobs.Cancel(signal.at, str(signal.data.get("by", "")), compensate), now)

    def _word(self, signal: Signal, now: int) -> list[Came]:
        run, nodes = signal.data.get("run"), signal.data.get("nodes", {})
        if not isinstance(run, str) or not isinstance(nodes, dict):
            raise msgspec.ValidationError(f"a word of kind {signal.kind} names its `run`")
        by = str(signal.data.get("by", ""))
        if signal.kind == "move":
            return self.desk.move(run, signal.at, by, {str(k): str(v) for k, v in nodes.items()}, now)
        word = jobs.Pause(signal.at, by) if signal.kind == "pause" else jobs.Resume(signal.at, by)
        return self.desk.told(run, word, now)

    def _trigger(self, signal: Signal, now: int) -> list[Came]:
        if not signal.workflows:
            return []
        return self.desk.trigger(signal.workflows, occurrence_of(signal, signal.topic or "", now), now)

    def _detection(self, value: bytes, now: int, subject: str | None = None, path: Sequence[str] = ()) -> list[Came]:
        found = DETECTION.validate_json(value)
        about = subject or found.subject
        came = self._names.word(found.tenant, about, DETECTIONS, value, now, path)
        if came is not None:
            return came
        what = Occurrence(
            tenant=found.tenant,
            product=found.product,
            subject=about,
            cause=found.id,
            at=found.at,
            topic=DETECTIONS,
            data=with_user(found.model_dump(mode="json")),
            name=finding(found),
            act=found.act,
            past=found.at < now - DAY_MS,
        )
        return self.desk.happened(what, now)

    def _receipt(self, value: bytes, now: int, subject: str | None = None, path: Sequence[str] = ()) -> list[Came]:
        found = _receipt(value)
        about = subject or found.subject
        if not found.final:
            return []
        came = self._names.word(found.tenant, about, RECEIPTS, value, now, path)
        if came is not None:
            return came
        status = "delivered" if found.reason == "shadow" else found.status  # a run in shadow goes on
        told = jobs.Receipt(found.at, found.command, status, found.reason)
        return self.desk.receipt(found.tenant, about, told, now)

    def _clock(self, value: bytes | None) -> None:
        try:
            record = decode_register(value or b"")
        except msgspec.MsgspecError:
            return  # DECIDE, which reads them all, sets it aside
        if not isinstance(record, Clock) or not 0 <= record.partition < self.partitions:
            return
        if record.source not in self._sources:
            return
        source = record.partition + self._sources.index(record.source) * self.partitions
        if record.at > self._clocks[source]:
            self._clocks[source] = record.at
            self._moved = True

    # --- what comes out ---------------------------------------------------------------------------------------------

    def _told(self, came: Sequence[Came], now: int) -> list[Effect]:
        effects: list[Effect] = []
        for one in came:
            record = one.record
            place = topic_key(record.tenant, record.subject)
            effects.append(Emit("runs", place, _write(record)))
            effects.append(Count("uptake_run_jobs_total", 1, (type(record.job).__name__.lower(),)))
            if record.status != "running":
                effects.append(Count("uptake_runs_ended_total", 1, (record.status,)))
            effects += [
                Count("uptake_runs_moved_total", 1, (str(note.detail.get("reason", note.what)),))
                for note in record.notes
                if note.what in ("moved", "kept")
            ]
            for command in one.commands:
                effects += self._command(command, now, one.shadow)
            if one.failed:
                effects.append(Count("uptake_failed_total", one.failed, (STEP, "step")))
        return effects

    def _command(self, command: Command, now: int, shadow: bool) -> list[Effect]:
        place = topic_key(command.tenant, command.subject)
        if self._catalogue.paused(command.tenant, rule=command.rule):
            return [
                suppressed(command, "paused", STEP, now),
                Count("uptake_suppressed_total", 1, (STEP, "paused")),
            ]
        if shadow:
            return [
                suppressed(command, "shadow", STEP, now, whole=True),
                Count("uptake_suppressed_total", 1, (STEP, "shadow")),
            ]
        return [
            Emit(f"commands.{command.domain}", place, command.model_dump_json().encode()),
            Count("uptake_commands_total", 1, (command.domain, command.rule)),
        ]

    def _refused(self) -> list[Effect]:
        found: list[Effect] = [Count("uptake_runs_refused_total", n, (why,)) for why, n in self.desk.refused.items()]
        self.desk.refused.clear()
        found += [
            Count("uptake_late_rows_total", n, (SIGNALS, why)) for why, n in self.desk.let_go.items() if why == "full"
        ]
        self.desk.let_go.clear()  # what DECIDE finds of profiles too, it counts
        return found


def _dead(batch: Batch, row: int, detail: str) -> DeadLetter:
    return DeadLetter(
        batch.topic,
        batch.partition,
        int(batch.offsets[row]),
        STEP,
        "invalid",
        detail,
        batch.rows.key(row),
        batch.values[row],
        int(batch.timestamps[row]),
        batch.headed.get(row, ()),
    )

"""aiokafka's consumer, fetching blocks: whole stored batches become columns and never record objects.

By instance and subclass only: other consumers of the process are untouched. `_proc_fetch_request` still does all of
aiokafka's work (errors, positions, replicas); afterwards the parser it installed for each partition is exchanged for
ours, within the same turn of the event loop, so nobody can have read from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.errors import UnsupportedCodecError
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch

from transport.blocks import NO_ROWS, Block, BlockBuilder, JoinedKeys, Spoiled
from transport.framing import HEADER, LENGTH_END, Columns, StoredHeader, frame, read_header
from transport.inflate import TooLarge, old_payload, refuse_too_large
from transport.options import Options
from transport.plain import frame_records

SMALLEST_BATCH = 14
"""Bytes after the length that every format has; less cannot be stepped over."""
MAGIC_AT = 16
"""Where every format names itself."""
FARTHEST = 1 << 31
"""Offsets from the first to the last record of a batch; Kafka keeps the distance in 32 bits."""
LINGER_BYTES = 64 * 1024
"""Compressed bytes of an answer that are worth not waiting for more."""
MOST_KEPT = 256 * 1024
"""Bytes that are set aside of what has no known end."""


@dataclass(slots=True)
class Fetching:
    """What the parsers of one consumer share."""

    batch_rows: int
    refetches: int
    records: bool
    """Use the slow twin."""
    block_bytes: int = 32 << 20
    """A block is handed on once its stored batches hold so much when inflated: snapshots shrink a hundredfold in the log."""
    seeks: dict[TopicPartition, int] = field(default_factory=dict)
    """How often each partition was sought; blocks carry it, so that those from before a seek are told apart."""
    retries: dict[tuple[TopicPartition, int], int] = field(default_factory=dict)
    """Refetches by partition and base offset."""
    idle_wait_ms: int = 200
    """How long the broker may hold a fetch that asks for all there is to ask it for. One that leaves out partitions whose last
    answer is still being worked is held as long as aiokafka was told, for they wait until it is back.
    """
    linger_ms: int = 0
    """How long the broker may hold one whose last answer brought rows, until it has `LINGER_BYTES`."""
    stored: int = 0
    """Stored batches framed in columns, for the test that the fast path is the one in use."""

    @classmethod
    def of(cls, options: Options) -> Fetching:
        """As the options say."""
        return cls(
            options.batch_rows,
            options.refetches,
            options.framing == "records",
            idle_wait_ms=options.fetch_idle_wait_ms,
            linger_ms=options.fetch_linger_ms,
        )


class PartitionBlocks(aiokafka_fetcher.PartitionRecords):  # type: ignore[misc]
    """Iterates over the blocks of one partition's part of a fetch. aiokafka reads `next_fetch_offset` from it."""

    next_fetch_offset: int

    def __init__(self, plain: Any, raw: bytes, end: int, shared: Fetching) -> None:
        self._raw = raw
        self._end = end
        self._shared = shared
        super().__init__(
            plain._tp,
            None,
            plain._aborted_transactions,
            plain.next_fetch_offset,
            None,
            None,
            plain._check_crcs,
            plain._isolation_level,
        )

    def _unpack_records(self) -> Iterator[Block]:
        shared = self._shared
        builder = self._builder()
        for stored in self._stored():
            columns, next_offset = self._columns(stored)
            if columns is None:
                break  # wrong checksum or length: what is here goes out, the rest is fetched again from this batch on
            if isinstance(columns, Spoiled):
                builder.set_aside(columns)
            else:
                builder.add(columns, self.next_fetch_offset)
            self.next_fetch_offset = max(next_offset, self.next_fetch_offset)
            builder.move(self.next_fetch_offset)
            if len(builder) >= shared.batch_rows or builder.size >= shared.block_bytes:
                yield builder.build()
                builder = self._builder()
        if builder.moved:
            yield builder.build()

    def _builder(self) -> BlockBuilder:
        topic, partition = self._tp
        return BlockBuilder(topic, partition, self.next_fetch_offset, self._shared.seeks.get(self._tp, 0), self._end)

    def _stored(self) -> Iterator[bytes]:
        """The whole stored batches of the fetch; the last one may be cut off and is left for the next fetch.

        A length that cannot be ends it: where the next batch begins nobody knows, so all that is left is handed on as one.
        """
        raw, at = self._raw, 0
        while at + LENGTH_END <= len(raw):
            length = int.from_bytes(raw[at + 8 : at + LENGTH_END], "big", signed=True)
            if length < SMALLEST_BATCH:
                yield raw[at:]
                return
            if at + LENGTH_END + length > len(raw):
                return
            yield raw[at : at + LENGTH_END + length]
            at += LENGTH_END + length

    def _columns(self, stored: bytes) -> tuple[Columns | Spoiled | None, int]:
        """What a stored batch holds, and the offset behind it."""
        length = int.from_bytes(stored[8:LENGTH_END], "big", signed=True)
        if length < SMALLEST_BATCH:
            return self._beyond_reading(stored, f"a batch of {length} bytes")
        if stored[MAGIC_AT] < 2:
            try:
                refuse_too_large(*old_payload(stored))
                old = frame_records(stored)
            except Exception as error:  # aiokafka's parser of the old formats raises whatever an odd byte leads to
                return self._beyond_reading(stored, f"format {stored[MAGIC_AT]}: {error}")
            return old, int(old.offsets[-1]) + 1 if len(old.offsets) else self.next_fetch_offset
        if len(stored) < HEADER.size:
            return self._beyond_reading(stored, f"a header of {len(stored)} bytes")
        header = read_header(stored)
        columns = self._read(stored, header)
        if isinstance(columns, Spoiled) and not self._follows(header.next_offset):
            # Its own word about where it ends is no better than the rest of it.
            return self._beyond_reading(stored, columns.detail)
        return columns, header.next_offset

    def _follows(self, offset: int) -> bool:
        """Whether an offset can be the one behind a batch that is read at our position."""
        return self.next_fetch_offset < offset <= self.next_fetch_offset + FARTHEST

    def _beyond_reading(self, stored: bytes, detail: str) -> tuple[Spoiled | None, int]:
        """Bytes that say nothing reliable: fetched again as a wrong checksum is, then set aside, one offset further.

        If they still begin the next answer they are set aside again, and so the position gets past them, record by record.
        """
        position = self.next_fetch_offset
        place = (self._tp, position)
        tries = self._shared.retries.get(place, 0)
        if tries < self._shared.refetches:
            self._shared.retries[place] = tries + 1
            return None, position
        self._shared.retries.pop(place, None)
        return Spoiled(position, position + 1, stored[:MOST_KEPT], "corrupt_batch", detail[:300], 0), position + 1

    def _read(self, stored: bytes, header: StoredHeader) -> Columns | Spoiled | None:
        """Columns (empty for markers and aborted transactions), or the batch set aside; None: fetch it again."""
        batch = DefaultRecordBatch(stored)
        place = (self._tp, header.base_offset)
        if self._check_crcs and not batch.validate_crc():
            tries = self._shared.retries.get(place, 0)
            if tries < self._shared.refetches:
                self._shared.retries[place] = tries + 1
                return None
            self._shared.retries.pop(place, None)
            return self._spoiled(stored, header, "corrupt_batch", f"wrong checksum in each of {tries + 1} fetches")
        try:
            if self._skipped(batch, header):
                return _NOTHING
            refuse_too_large(stored[HEADER.size :], header.attributes & 0x07)
            if self._shared.records:
                return frame_records(stored)
            self._shared.stored += 1
            return frame(stored, header)
        except UnsupportedCodecError as error:
            return self._spoiled(stored, header, "unknown_codec", str(error))
        except TooLarge as error:
            return self._spoiled(stored, header, "inflates_too_much", str(error))
        except Exception as error:  # the twin lets pass what a decompressor raises
            return self._spoiled(stored, header, "corrupt_batch", str(error))

    def _skipped(self, batch: Any, header: StoredHeader) -> bool:
        """Transaction markers, and rows of a transaction that was aborted (`read_committed`)."""
        if self._isolation_level == aiokafka_fetcher.READ_COMMITTED and header.producer_id >= 0:
            self._consume_aborted_up_to(header.base_offset)
            if header.is_control:
                for record in batch:
                    if ControlRecord.parse(record.key) == ABORT_MARKER:
                        self._aborted_producers.discard(header.producer_id)
            if header.is_transactional and header.producer_id in self._aborted_producers:
                return True
        return header.is_control

    def _spoiled(self, stored: bytes, header: StoredHeader, reason: Any, detail: str) -> Spoiled:
        return Spoiled(header.base_offset, header.next_offset, stored, reason, detail, header.max_timestamp)


_NOTHING = Columns(NO_ROWS, NO_ROWS, (), JoinedKeys([], []), {}, 0)


class _TappedClient:
    """A fetcher's client that keeps the raw record sets of the last answers beside aiokafka's own parser of them."""

    def __init__(self, client: Any, raw: dict[TopicPartition, bytes]) -> None:
        self._client = client
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node: Any, request: Any) -> Any:
        response = await self._client.send(node, request)
        if isinstance(request, aiokafka_fetcher.FetchRequest):
            for topic, partitions in response.topics:
                for partition, *_, record_set in partitions:
                    self._raw[TopicPartition(topic, partition)] = record_set
        return response


class BlockFetcher(aiokafka_fetcher.Fetcher):  # type: ignore[misc]
    """A fetcher whose records are blocks. Made by turning a just constructed one into it."""

    _client: Any

    def adopt(self, shared: Fetching) -> None:
        """Called once, in the turn of the event loop that constructed the fetcher."""
        self._shared = shared
        self._raw: dict[TopicPartition, bytes] = {}
        self._flowing: set[Any] = set()
        """Nodes whose last answer brought rows."""
        self._client = _TappedClient(self._client, self._raw)

    def _get_actions_per_node(self, assignment: Any) -> Any:
        actions = super()._get_actions_per_node(assignment)
        if actions[0]:
            behind = {self._select_read_replica(tp) for tp in self._records if tp in assignment.tps}
            for node, request in actions[0]:
                if self._shared.linger_ms and node in self._flowing:
                    request._min_bytes, request._max_wait_ms = LINGER_BYTES, self._shared.linger_ms
                elif node not in behind:
                    request._max_wait_ms = self._shared.idle_wait_ms
        return actions

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> Any:
        woken = await super()._proc_fetch_request(assignment, node_id, request)
        (self._flowing.add if any(self._raw.values()) else self._flowing.discard)(node_id)
        for partition, result in self._records.items():
            if type(result) is not aiokafka_fetcher.FetchResult or not result.has_more():
                continue
            plain = result._partition_records
            if type(plain) is aiokafka_fetcher.PartitionRecords:
                state = assignment.state_value(partition)
                result._partition_records = PartitionBlocks(
                    plain, self._raw[partition], state.highwater or 0, self._shared
                )
        for topic, partitions in request.topics:
            for partition, *_ in partitions:
                self._raw.pop(TopicPartition(topic, partition), None)
        return woken


class BlockConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer of blocks: wherever aiokafka would hand out records it hands out `Block`s."""

    shared: Fetching

    @property
    def _fetcher(self) -> Any:
        return self.__dict__.get("_block_fetcher")

    @_fetcher.setter
    def _fetcher(self, fetcher: Any) -> None:
        if fetcher is not None:
            fetcher.__class__ = BlockFetcher
            fetcher.adopt(self.shared)
        self.__dict__["_block_fetcher"] = fetcher

    def seek_block(self, partition: TopicPartition, offset: int) -> int:
        """Seek, and return the number that blocks from here on carry."""
        number = self.shared.seeks.get(partition, 0) + 1
        self.shared.seeks[partition] = number
        self.seek(partition, offset)
        return number


def block_consumer(shared: Fetching, **arguments: Any) -> BlockConsumer:
    """Make one; arguments as `AIOKafkaConsumer`."""
    consumer = BlockConsumer.__new__(BlockConsumer)
    consumer.shared = shared
    consumer.__init__(**arguments)  # type: ignore[misc]
    return consumer

"""Faust's way of keeping offsets, put into our transport in the place of `Intake`, with its four defects to switch on alone.

Ours takes positions from the fetch and demands that each block begins where the last one ended. Faust's counts what was
acknowledged, and books the holes it saw while reading, to find out how far everything is done. Done right that is correct
too (the control: no defect). The defects stand in faust-streaming 0.15.3, `transport/consumer.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args
from unittest import mock

from core.batch import Batch
from core.effects import Effect
from transport import runner
from transport.blocks import Block
from transport.intake import Intake
from transport.options import Options

Defect = Literal["hole_takes_its_record", "head_hole_of_one", "nothing_before_zero", "no_hole_after_zero"]
DEFECTS: tuple[Defect, ...] = get_args(Defect)
SAYS: Mapping[Defect, str] = {
    "hole_takes_its_record": "the interval of a hole has the record after it inside (`_add_gap`)",
    "head_hole_of_one": "one missing offset after the committed one is no gap (`min(acked) - committed > 1`)",
    "nothing_before_zero": "with nothing, or 0, committed there is no check at all (`if committed_offset`)",
    "no_hole_after_zero": "a hole after offset 0 is not booked (`if gap > 1 and r_offset`)",
}


class FaustIntake(Intake):
    """Positions by acknowledged offsets and booked holes."""

    defect: Defect | None = None

    def __init__(self, partition: int, options: Options, start: Mapping[str, int]) -> None:
        super().__init__(partition, options, start)
        self._acked: dict[str, set[int]] = {topic: set() for topic in start}
        self._holes: dict[str, list[tuple[int, int]]] = {topic: [] for topic in start}
        self._spoiled: dict[str, set[int]] = {topic: set() for topic in start}
        self._read = {topic: offset - 1 for topic, offset in start.items()}
        """Offset of the last record read."""

    def read(self, block: Block) -> None:
        """Seen by the fetcher, before anybody is handed it: the holes are booked."""
        topic = block.topic
        if block.seek != self._seeks.get(topic):
            return
        holes = self._holes[topic]
        spoiled = _spoiled(block)
        self._spoiled[topic].update(spoiled)
        for offset in sorted(block.offsets.tolist() + spoiled):
            if offset - self._read[topic] > 1 and self._books(topic):
                holes.append((self._read[topic] + 1, offset + (self.defect == "hole_takes_its_record")))
            self._read[topic] = offset
        if block.next_offset - self._read[topic] > 1 and self._books(topic):
            holes.append((self._read[topic] + 1, block.next_offset))

    def _books(self, topic: str) -> bool:
        return self.defect != "no_hole_after_zero" or self._read[topic] != 0

    def accept(self, block: Block) -> Batch | None:
        topic = block.topic
        if block.seek == self._seeks.get(topic) and block.start != self.expected[topic]:
            reached = self._over(topic, self.expected[topic], ())
            missing = block.start - reached
            unseen = (self.defect == "head_hole_of_one" and missing == 1) or (
                self.defect == "nothing_before_zero" and not self.next[topic]
            )
            if missing <= 0 or unseen:
                self.expected[topic] = block.start
        before = self.next.get(topic)
        batch = super().accept(block)
        if block.seek == self._seeks.get(topic):
            # Like Faust's undecodable records: at once.
            self._acked[topic].update(o for o in self._spoiled[topic] if block.start <= o < block.next_offset)
        if batch is None and before is not None and self.next[topic] != before:
            self.next[topic] = before
            self._advance(topic)
        return batch

    def finish(self, batch: Batch, effects: Iterable[Effect]) -> None:
        topic = self._options.topic(batch.topic)
        before = self.next[topic]
        super().finish(batch, effects)
        self.next[topic] = before
        self._acked[topic].update(batch.offsets.tolist())
        self._advance(topic)

    def _advance(self, topic: str) -> None:
        head, acked = self.next[topic], self._acked[topic]
        if acked:
            first = min(acked)
            if (self.defect == "head_hole_of_one" and first - head == 1) or (
                self.defect == "nothing_before_zero" and not head
            ):
                head = first
        self.next[topic] = self._over(topic, head, acked)
        self._acked[topic] = {offset for offset in acked if offset >= self.next[topic]}

    def _over(self, topic: str, offset: int, acked: Iterable[int]) -> int:
        """The first offset from here on that is neither acknowledged nor in a hole."""
        while True:
            beyond = max((end for begin, end in self._holes[topic] if begin <= offset < end), default=offset)
            if beyond == offset and offset in acked:
                beyond = offset + 1
            if beyond == offset:
                return offset
            offset = beyond


def _spoiled(block: Block) -> list[int]:
    return [offset for batch in block.spoiled for offset in range(batch.offset, batch.next_offset)]


@contextmanager
def offsets_as_faust(defect: Defect | None) -> Iterator[None]:
    """Our transport with Faust's book-keeping and that one defect; None: with none of them."""
    with mock.patch.object(runner, "Intake", type("Mutated", (FaustIntake,), {"defect": defect})):
        yield

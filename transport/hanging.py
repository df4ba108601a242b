"""Producers that began a transaction and hang: nobody reads on behind it, so where, and for how long, is said."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from aiokafka import TopicPartition

from transport.metrics import Metrics
from transport.options import Options
from transport.source import Source

log = logging.getLogger(__name__)

HANGING_S = 10.0
"""How long a foreign transaction may be open before it is named."""


class OpenTransactions:
    """Looks at the source partitions of one task."""

    def __init__(
        self, role: str, tps: Sequence[TopicPartition], options: Options, metrics: Metrics, source: Source
    ) -> None:
        self._role = role
        self._tps = tps
        self._options = options
        self._metrics = metrics
        self._source = source
        self._since: dict[TopicPartition, tuple[int, float, bool]] = {}
        """Offset at which rows are held back, since when, and whether it was named."""

    def look(self, now: float) -> None:
        """Export how long each has been held; name one that has been for `HANGING_S`. `now` in seconds of a steady clock."""
        for tp in self._tps:
            offset, before = self._source.held(tp), self._since.pop(tp, None)
            seconds = 0.0
            if offset is not None:
                _, since, named = before if before is not None and before[0] == offset else (offset, now, False)
                seconds = now - since
                if seconds >= HANGING_S and not named:
                    named = True
                    self._name(tp, offset, seconds)
                self._since[tp] = (offset, since, named)
            labels = (self._role, self._options.name(tp.topic), str(tp.partition))
            self._metrics.observe("uptake_open_transaction_seconds", seconds, labels)

    def _name(self, tp: TopicPartition, offset: int, seconds: float) -> None:
        log.warning(
            "%s/%d: a producer's transaction has been open for %.0f s and holds back the rows from offset %d on; "
            "`kafka-transactions.sh describe-producers --topic %s --partition %d` names it",
            *(tp.topic, tp.partition, seconds, offset, tp.topic, tp.partition),
        )

"""A consumer that is asked where partitions begin and end, and reads none of them."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition


def look_at(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> None:
    """Tell a consumer of the partitions whose offsets it will be asked for, and let it read none of them.

    One that was not told asks for their topics one after the other when it comes upon them, a pause each. It is given a place in
    each: one that looked for places itself would not hear that it is stopped meanwhile.
    """
    places = list(partitions)
    consumer.assign(places)
    consumer.pause(*places)
    for place in places:
        consumer.seek(place, 0)

"""When has a space come to rest? Asked of the broker, not of the workers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from cdp_stream.stages.identity import BARRIER_KEY
from cdp_stream.stages.profile_shapes import ProfileBarrier
from cdp_stream.stages.records import DEAD_LETTERS, PROFILE_CHANGES, SHIPMENTS
from cdp_stream.stream.catch_up import read_to_end
from cdp_stream.stream.kafka_log import KafkaLog
from cdp_stream.stream.log import consuming
from cdp_stream.stream.topics import TopicNames
from torture.load import SOURCES
from torture.snapshot import ROLES
from torture.workers import Workers

_QUIET_S = 4.0
_STUCK_S = 300.0


def wait_until_quiet(workers: Workers, stuck_s: float = _STUCK_S) -> None:
    """Until all sources are cut into slices, all shipments are taken in, and no output has come for some seconds.

    Raises TimeoutError when nothing moves for `stuck_s`.
    """
    since, last = time.monotonic(), Position()
    while True:
        workers.supervise(0.7)
        now = asyncio.run(_position(workers))
        if now != last:
            since, last = time.monotonic(), now
        elif now.is_done and time.monotonic() - since >= _QUIET_S:
            return
        elif time.monotonic() - since >= stuck_s:
            raise TimeoutError(f"workers have not moved for {stuck_s:.0f} s: {last}")


@dataclass(frozen=True)
class Position:
    """How far a space is."""

    undecided: int = -1
    """Source offsets that no published position has passed."""
    taken: tuple[int, ...] = ()
    """Each profile partition's next message."""
    shipments_left: int = -1
    """Partitions whose last shipment has not been taken in."""
    outputs: int = 0

    @property
    def is_done(self) -> bool:
        """Is nothing left to do?"""
        return self.undecided == self.shipments_left == 0


async def _position(workers: Workers) -> Position:
    settings, names = workers.settings, TopicNames.of(workers.topology.topology, workers.settings)
    group = f"{names.prefix}{names.space}.sources"
    consumer = AIOKafkaConsumer(**settings.aiokafka_options(), group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        every = [TopicPartition(topic, number) for topic, count in SOURCES.items() for number in range(count)]
        ends = await consumer.end_offsets(every)
        decided = [await consumer.committed(where) or 0 for where in every]
        # Clocks and the syncs of lists go on for ever, and so do their topics.
        roles = [role for role in ROLES if role not in (PROFILE_CHANGES, SHIPMENTS)]
        topics = {names.of_role(role): 1 if role == DEAD_LETTERS else names.partitions for role in roles}
        topics |= {topic: names.partitions for _, topic in names.destinations}
        outputs = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
        count = sum((await consumer.end_offsets(outputs)).values())
    finally:
        await consumer.stop()
    left = sum(ends.values()) - sum(decided)
    shipments_left, taken = await _shipments_left(workers, names)
    return Position(left, taken if left or shipments_left else (), shipments_left, count)


async def _shipments_left(workers: Workers, names: TopicNames) -> tuple[int, tuple[int, ...]]:
    """Partitions whose last shipment lies beyond the stored position, as the ends of topics and changelogs say; and each
    one's next message.
    """
    shipments = [TopicPartition(names.of_role(SHIPMENTS), number) for number in range(names.partitions)]
    changelogs = [TopicPartition(names.changelog("profiles"), number) for number in range(names.partitions)]
    last: dict[TopicPartition, int] = {}
    found: dict[int, ProfileBarrier] = {}
    async with consuming(KafkaLog(workers.settings.aiokafka_options())) as consumer:
        ends = await consumer.end_offsets(shipments + changelogs)
        starts = {where: max(0, end - (5_000 if where in changelogs else 500)) for where, end in ends.items()}
        async for where, record in read_to_end(consumer, starts):
            if where in shipments:
                last[where] = record.offset
            elif record.key == BARRIER_KEY:
                found[where.partition] = msgspec.msgpack.decode(record.value, type=ProfileBarrier)
    taken = {number: barrier.shipments_next for number, barrier in found.items()}
    behind = sum(1 for where, offset in last.items() if taken.get(where.partition, 0) <= offset)
    return behind, tuple(found[number].next_offset for number in sorted(found))

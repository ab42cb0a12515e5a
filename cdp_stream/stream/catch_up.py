"""Catch up after a claim: the state from the changelog, and what of our outputs the log holds beyond the state."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from cdp_stream.model.ports import Store
from cdp_stream.stages.identity import BARRIER_KEY
from cdp_stream.stream.step import Positions
from cdp_stream.stream.topics import MESSAGE_BYTES_MAX

_FETCH_MS = 500
_RESTORE_CHUNK = 5_000
log = logging.getLogger("cdp_stream.catch_up")


def plain_consumer(options: dict[str, Any], **more: Any) -> AIOKafkaConsumer:
    """A consumer outside any group, reading from where it is told."""
    settings: dict[str, Any] = {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "max_partition_fetch_bytes": MESSAGE_BYTES_MAX,
        "fetch_max_bytes": 4 * MESSAGE_BYTES_MAX,
        **more,
    }
    return AIOKafkaConsumer(**options, **settings)


async def read_to_end(
    consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int]
) -> AsyncIterator[tuple[TopicPartition, ConsumerRecord]]:
    """Every record from these positions to the ends as they are now, markers and gaps passed over."""
    consumer.assign(list(starts))
    earliest = await consumer.beginning_offsets(list(starts))
    ends = await consumer.end_offsets(list(starts))
    left = set()
    for where, start in starts.items():
        begin = max(start, earliest[where])
        if begin < ends[where]:
            consumer.seek(where, begin)
            left.add(where)
    for done in set(starts) - left:
        consumer.pause(done)
    while left:
        batches = await consumer.getmany(*left, timeout_ms=_FETCH_MS, max_records=_RESTORE_CHUNK)
        for where, records in batches.items():
            for record in records:
                if record.offset < ends[where]:
                    yield where, record
        for where in list(left):
            if await consumer.position(where) >= ends[where]:
                left.discard(where)
                consumer.pause(where)


async def outputs_beyond(
    options: dict[str, Any], outputs: Sequence[TopicPartition], positions: Positions, own: str
) -> dict[tuple[TopicPartition, str], int]:
    """Our outputs (`src` beginning with `own`) beyond the stored positions, with their offsets."""
    starts = {where: positions.get(where.topic, {}).get(where.partition, 0) for where in outputs}
    found: dict[tuple[TopicPartition, str], int] = {}
    consumer = plain_consumer(options)
    await consumer.start()
    try:
        async for where, record in read_to_end(consumer, starts):
            for name, value in record.headers:
                if name == "src" and value.decode().startswith(own):
                    found[where, value.decode()] = record.offset
    finally:
        await consumer.stop()
    if found:
        log.info("%s: %d outputs were sent and not stored; they will not be sent again", own, len(found))
    return found


async def restore(options: dict[str, Any], store: Store, changelog: TopicPartition, start: int) -> int:
    """Bring the store up to the changelog's end; returns the next offset. A no-op when it is there already.

    A step's changes and its barrier are one record batch, so what is read always ends at a barrier.
    """
    consumer = plain_consumer(options)
    await consumer.start()
    pending: dict[bytes, bytes | None] = {}
    position, count = start, 0
    try:
        async for _, record in read_to_end(consumer, {changelog: start}):
            pending[bytes(record.key)] = None if record.value is None else bytes(record.value)
            position = record.offset + 1
            count += 1
            if record.key == BARRIER_KEY and len(pending) >= _RESTORE_CHUNK:
                store.commit(pending)
                pending = {}
                log.info("%s/%d: restoring, %d records", changelog.topic, changelog.partition, count)
        if pending:
            store.commit(pending)
    finally:
        await consumer.stop()
    if count:
        log.info("%s/%d: restored from %d records", changelog.topic, changelog.partition, count)
    return position

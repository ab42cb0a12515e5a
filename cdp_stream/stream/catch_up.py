"""Catch up after a claim: the state from the changelog, and what of our outputs the log holds beyond the state."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from aiokafka.structs import TopicPartition

from cdp_stream.model.ports import Store
from cdp_stream.stages.identity import BARRIER_KEY
from cdp_stream.stream.log import Consumer, Log, ReadRecord
from cdp_stream.stream.step import Positions

_FETCH_MS = 500
_RESTORE_CHUNK = 5_000
_log = logging.getLogger("cdp_stream.catch_up")


async def read_to_end(
    consumer: Consumer, starts: Mapping[TopicPartition, int]
) -> AsyncIterator[tuple[TopicPartition, ReadRecord]]:
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
    log: Log, outputs: Sequence[TopicPartition], positions: Positions, own: str, is_done: Callable[[str], bool]
) -> dict[tuple[TopicPartition, str], int]:
    """Our outputs (`src` beginning with `own`) beyond the stored positions, with their offsets.

    Those of steps that are stored are left out: a position stays before an output whose step is not, and with it
    before later ones.
    """
    starts = {where: positions.get(where.topic, {}).get(where.partition, 0) for where in outputs}
    found: dict[tuple[TopicPartition, str], int] = {}
    consumer = log.consumer()
    await consumer.start()
    try:
        async for where, record in read_to_end(consumer, starts):
            for name, value in record.headers:
                src = value.decode() if name == "src" else ""
                if src.startswith(own) and not is_done(src):
                    found[where, src] = record.offset
    finally:
        await consumer.stop()
    if found:
        _log.info("%s: %d outputs were sent and not stored; they will not be sent again", own, len(found))
    return found


async def restore(log: Log, store: Store, changelog: TopicPartition, start: int) -> int:
    """Bring the store up to the changelog's end; returns the next offset. A no-op when it is there already.

    A step's changes and its barrier are one record batch, so what is read always ends at a barrier.
    """
    consumer = log.consumer()
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
                _log.info("%s/%d: restoring, %d records", changelog.topic, changelog.partition, count)
        if pending:
            store.commit(pending)
    finally:
        await consumer.stop()
    if count:
        _log.info("%s/%d: restored from %d records", changelog.topic, changelog.partition, count)
    return position

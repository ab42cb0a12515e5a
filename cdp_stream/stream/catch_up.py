"""Catch up after a claim: the state from the changelog, and what of our outputs the log holds beyond the state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from aiokafka.structs import TopicPartition

from cdp_stream.errors import LogContradiction
from cdp_stream.model.ports import Store
from cdp_stream.model.time import Instant
from cdp_stream.stream.log import Consumer, Log, ReadRecord, consuming
from cdp_stream.stream.step import Positions

_FETCH_MS = 20
"""How long to wait for records before asking whether the end is reached: what stands before it may be markers, and no
records come then at all."""
_RESTORE_CHUNK = 5_000
_RESTORE_BYTES = 4 * 1024 * 1024
"""How much of a changelog one answer of the broker holds."""
_SAY_EVERY_S = 2.0
RESTORED_KEY = b"\0restored"
"""Up to where the changelog stands in the store; of a restore under way; in no changelog."""
CURRENT_KEY = b"\0current"
"""When the store was last known to be at its changelog's end, by the clock of whoever wrote it; in no changelog. It is
committed with what it is said of, so a store that has lost its last commits says so.
"""
_log = logging.getLogger("cdp_stream.catch_up")


async def read_to_end(
    consumer: Consumer, starts: Mapping[TopicPartition, int], least: Mapping[TopicPartition, int] | None = None
) -> AsyncIterator[tuple[TopicPartition, ReadRecord]]:
    """Every record from these positions to the ends as they are now, markers and gaps passed over.

    `least`: up to where a log is known to be written, whatever end it tells: a new leader tells an earlier one at first.
    """
    async for where, records in _batches_to_end(consumer, starts, least):
        for record in records:
            yield where, record


async def _batches_to_end(
    consumer: Consumer, starts: Mapping[TopicPartition, int], least: Mapping[TopicPartition, int] | None = None
) -> AsyncIterator[tuple[TopicPartition, Sequence[ReadRecord]]]:
    # Asked before anything is assigned: an answer would wait behind the fetch under way.
    earliest, told = await consumer.beginning_offsets(list(starts)), await consumer.end_offsets(list(starts))
    ends = {where: max(end, (least or {}).get(where, 0)) for where, end in told.items()}
    begins = {where: max(start, earliest[where]) for where, start in starts.items()}
    left = {where for where, begin in begins.items() if begin < ends[where]}
    consumer.assign(sorted(left))
    for where in left:
        consumer.seek(where, begins[where])
    while left:
        batches = await consumer.getmany(*left, timeout_ms=_FETCH_MS, max_records=_RESTORE_CHUNK)
        for where, records in batches.items():
            before_end = records
            if records and records[-1].offset >= ends[where]:
                before_end = [record for record in records if record.offset < ends[where]]
            if before_end:
                yield where, before_end
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
    async with consuming(log) as consumer:
        async for where, record in read_to_end(consumer, starts):
            for name, value in record.headers:
                src = value.decode() if name == "src" else ""
                if src.startswith(own) and not is_done(src):
                    found[where, src] = record.offset
    if found:
        _log.info("%s: %d outputs were sent and not stored; they will not be sent again", own, len(found))
    return found


async def require_input(log: Log, where: TopicPartition, next_offset: int) -> None:
    """The input still begins at or before the next offset to be read, and reaches it.

    Raises LogContradiction: what retention removed unread, and what was truncated or made anew, is never passed over.
    """
    async with consuming(log) as consumer:
        earliest = (await consumer.beginning_offsets([where]))[where]
        end = (await consumer.end_offsets([where]))[where]
    if earliest > next_offset:
        raise LogContradiction(
            f"{where.topic}/{where.partition}: records {next_offset} to {earliest - 1} were removed before they were "
            "read; has the topic a retention? It must have none"
        )
    if end < next_offset:
        raise LogContradiction(
            f"{where.topic}/{where.partition}: ends at {end}, but everything before {next_offset} was read from it; the "
            "topic was deleted and made anew, or truncated"
        )


async def restore(
    log: Log,
    store: Store,
    changelog: TopicPartition,
    barrier_position: int,
    told: Callable[[int], object] = int,
    now_ms: Instant = 0,
) -> int:
    """Bring the store up to the changelog's end; returns the next offset. A no-op when it is there already.

    `barrier_position`: up to where the stored barrier knows the changelog. `told`: hears how many per cent are done.
    `now_ms`: what the store says of its age when it is complete. A restore that was interrupted goes on where
    it was: until it is complete the store is of no use, and nobody reads it. Raises LogContradiction when the changelog
    is shorter than what was stored.
    """
    start = max(barrier_position, restored_to(store))
    pending: dict[bytes, bytes | None] = {}
    loop, position, size = asyncio.get_running_loop(), start, 0
    async with consuming(log, bare=True, max_partition_fetch_bytes=_RESTORE_BYTES) as consumer:
        end = (await consumer.end_offsets([changelog]))[changelog]
        if end < start:
            raise LogContradiction(
                f"{changelog.topic}/{changelog.partition}: ends at {end}, but the state was stored up to {start}; the "
                "topic was deleted and made anew, or truncated. Put it back, or begin with an empty space"
            )
        began = said = loop.time()
        async for _, records in _batches_to_end(consumer, {changelog: start}):
            for record in records:
                pending[record.key] = record.value
            position = records[-1].offset + 1
            size += sum(len(record.key) + len(record.value or b"") for record in records)
            if len(pending) >= _RESTORE_CHUNK:
                store.commit({**pending, RESTORED_KEY: encode_restored(position)})
                pending = {}
                told(100 * (position - start) // (end - start))
                if loop.time() - said >= _SAY_EVERY_S:
                    said = loop.time()
                    # A restore that is killed goes on from what it has said.
                    store.flush()
                    _say(changelog, position - start, end - start, said - began)
        if position > start or start > barrier_position:
            # Complete: from here on the barrier says where the store stands.
            store.commit({**pending, RESTORED_KEY: None, CURRENT_KEY: encode_current(now_ms)})
            store.flush()
            _log.info(
                "%s/%d: restored %d offsets, from %d, %.1f MB in %.1f s",
                changelog.topic,
                changelog.partition,
                position - start,
                start,
                size / 1e6,
                loop.time() - began,
            )
    return position


def restored_to(store: Store) -> int:
    """Up to where an unfinished restore, or a standby, has brought the store; 0 when it is neither."""
    raw = store.get(RESTORED_KEY)
    return 0 if raw is None else int.from_bytes(raw, "big")


def encode_restored(next_offset: int) -> bytes:
    """The value of `RESTORED_KEY`."""
    return next_offset.to_bytes(8, "big")


def encode_current(now_ms: Instant) -> bytes:
    """The value of `CURRENT_KEY`."""
    return now_ms.to_bytes(8, "big")


def current_ms(store: Store) -> Instant | None:
    """When the store was last known to be at its changelog's end; None where it does not say."""
    raw = store.get(CURRENT_KEY)
    return None if raw is None else int.from_bytes(raw, "big")


def _say(changelog: TopicPartition, done: int, whole: int, seconds: float) -> None:
    _log.info(
        "%s/%d: restoring, %d %%, ready in about %.0f s",
        changelog.topic,
        changelog.partition,
        100 * done // whole,
        seconds * (whole - done) / done,
    )

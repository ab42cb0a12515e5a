"""The sources, read by the owner of the identity log: cut into slices, and given out again slice by slice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from cdp_stream.errors import BrokerUnavailable, LogContradiction
from cdp_stream.model.event import RawRecord
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.entries import SourceSlice, records_crc
from cdp_stream.stream.log import Consumer, Log, ReadRecord, TopicShape
from cdp_stream.stream.source_buffer import SourceBuffer, joined, raw_record

_FETCH_MS = 1_000
_RETRIES = 30
_BUFFER_SLICES = 4
_COMMITTED_WITHIN_S = 1.0
"""How long closing waits for positions that are on their way to the broker."""


@dataclass(slots=True)
class SourceTopic:
    """A source topic of the space, as the broker knows it."""

    topic: str
    topic_id: str
    partitions: int
    identity: bool


async def find_sources(log: Log, topics: Sequence[str]) -> Mapping[str, TopicShape]:
    """The source topics as the broker knows them. Raises BrokerUnavailable when one does not exist."""
    found = await log.describe(topics)
    missing = sorted(set(topics) - set(found))
    if missing:
        raise BrokerUnavailable(f"source topics do not exist: {', '.join(missing)}; create them or disable them")
    return found


def sources_of(topology: CompiledTopology, prefix: str) -> dict[str, bool]:
    """The topics that are read under a topology, and whether each one's events may map identifiers."""
    return {prefix + source.topic: source.identity for source in topology.topology.sources if source.enabled}


class SourceReader:
    """Reads every partition of every source with a consumer of its own, `read_committed`, in no group's assignment."""

    def __init__(self, log: Log, group: str, topics: Sequence[SourceTopic], step_events: int, step_bytes: int) -> None:
        self._log = log
        self._group = group
        self._topics = {topic.topic: topic for topic in topics}
        self._step_events = step_events
        self._step_bytes = step_bytes
        self._buffers: dict[TopicPartition, SourceBuffer] = {}
        self._starts: dict[TopicPartition, int] = {}
        self._cut: dict[tuple[str, int, int], Sequence[RawRecord]] = {}
        self._consumer: Consumer
        self._reread: Consumer | None = None
        self._committing: asyncio.Task[None] | None = None

    async def start(self, positions: dict[TopicPartition, int]) -> None:
        """Begin at these positions; partitions not named begin at their earliest record."""
        # No reset: records that retention removes before they are read must stop the worker, not be passed over.
        self._consumer = self._log.consumer(
            group_id=self._group, isolation_level="read_committed", auto_offset_reset="none", packed=True
        )
        await self._consumer.start()
        every = [
            TopicPartition(topic.topic, number) for topic in self._topics.values() for number in range(topic.partitions)
        ]
        earliest = await self._consumer.beginning_offsets(every)
        self._consumer.assign(every)
        for where in every:
            start = positions.get(where, earliest[where])
            if start < earliest[where]:
                raise _removed(where, start, earliest[where])
            self._consumer.seek(where, start)
            self._starts[where] = start
            topic = self._topics[where.topic]
            self._buffers[where] = SourceBuffer(where, topic.topic_id, identity=topic.identity)

    async def fill(self, timeout_ms: int) -> bool:
        """Fetch more, at most until the buffers hold some slices. True if there is something to cut."""
        held = self._held()
        if held < self._step_events * _BUFFER_SLICES:
            wait = 0 if held else timeout_ms
            batches = await _getmany(self._consumer, timeout_ms=wait, max_records=self._step_events)
            for where, records in batches.items():
                self._buffers[where].extend(records)
            held = self._held()
        return held > 0

    def _held(self) -> int:
        return sum(map(len, self._buffers.values()))

    def has_backlog(self) -> bool:
        """Is there enough for a whole step?"""
        return self._held() >= self._step_events

    def cut(self) -> tuple[SourceSlice, ...]:
        """The next slice of what is buffered: partitions in turn, up to the limits of a step."""
        parts = []
        left, room = self._step_events, self._step_bytes
        filled = sum(1 for buffer in self._buffers.values() if buffer)
        for where in sorted(self._buffers):
            buffer = self._buffers[where]
            if not buffer or left <= 0 or room <= 0:
                continue
            share = max(1, left // max(1, filled))
            filled -= 1
            taken, room = buffer.take(share, room)
            left -= len(taken)
            part = self._part(where, taken)
            self._cut[part.topic, part.partition, part.start] = taken
            parts.append(part)
        return tuple(parts)

    def _part(self, where: TopicPartition, taken: Sequence[RawRecord]) -> SourceSlice:
        # From where the last slice of this partition ended: markers and aborted records leave gaps before the first.
        start = self._starts[where]
        end = self._starts[where] = taken[-1].source.offset + 1
        return SourceSlice(
            where.topic,
            self._topics[where.topic].topic_id,
            where.partition,
            start,
            end,
            len(taken),
            records_crc(taken),
            self._topics[where.topic].identity,
        )

    async def take(self, parts: Sequence[SourceSlice]) -> Sequence[RawRecord]:
        """The records that a slice names, in its order: those cut here, or read again."""
        records: list[Sequence[RawRecord]] = []
        for part in parts:
            held = self._cut.pop((part.topic, part.partition, part.start), None)
            records.append(held if held is not None and len(held) == part.count else await self._read(part))
        return joined(records)

    async def _read(self, part: SourceSlice) -> list[RawRecord]:
        where = TopicPartition(part.topic, part.partition)
        if self._reread is None:
            self._reread = self._log.consumer(isolation_level="read_committed", auto_offset_reset="none", bare=True)
            await self._reread.start()
        consumer = self._reread
        consumer.assign([where])
        consumer.seek(where, part.start)
        taken: list[RawRecord] = []
        for _ in range(_RETRIES):
            batches = await _getmany(consumer, timeout_ms=_FETCH_MS, max_records=part.count - len(taken))
            found = batches.get(where, [])
            taken.extend(
                raw_record(where, part.topic_id, record, identity=part.identity)
                for record in found
                if record.offset < part.end
            )
            if len(taken) >= part.count or await consumer.position(where) >= part.end:
                break
        return taken

    async def is_drained(self) -> bool:
        """Has every source been read and cut to its end?"""
        for where, buffer in self._buffers.items():
            end = self._consumer.last_stable_offset(where)
            if buffer or end is None or await self._consumer.position(where) < end:
                return False
        return True

    async def lag(self) -> int:
        """How many offsets lie between what was cut and the ends of the sources."""
        behind = 0
        for where, buffer in self._buffers.items():
            end = self._consumer.highwater(where)
            if end is not None:
                behind += max(0, end - await self._consumer.position(where)) + len(buffer)
        return behind

    async def commit(self, positions: dict[TopicPartition, int]) -> None:
        """Publish how far events are decided as the group's offsets, for ordinary lag tools.

        Sources that are read no more are passed over.
        """
        read = {where: offset for where, offset in positions.items() if where in self._buffers}
        if read:
            # Whoever is cancelled meanwhile is, and the commit goes on: the client cannot take back what is on its way.
            self._committing = asyncio.get_running_loop().create_task(self._consumer.commit(read))
            await asyncio.shield(self._committing)

    async def stop(self) -> None:
        """Close the consumers, after what is on its way to the broker."""
        if self._committing is not None:
            await asyncio.wait({self._committing}, timeout=_COMMITTED_WITHIN_S)
        if hasattr(self, "_consumer"):
            await self._consumer.stop()
        if self._reread is not None:
            await self._reread.stop()


async def _getmany(
    consumer: Consumer, timeout_ms: int, max_records: int
) -> Mapping[TopicPartition, Sequence[ReadRecord]]:
    """The consumer's `getmany`. Raises LogContradiction where what it should read next is gone."""
    try:
        return await consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
    except OffsetOutOfRangeError as error:
        where, start = next(iter(error.args[0].items()))
        earliest = await consumer.beginning_offsets([where])
        raise _removed(where, start, earliest[where]) from error


def _removed(where: TopicPartition, start: int, earliest: int) -> LogContradiction:
    if earliest <= start:
        return LogContradiction(
            f"{where.topic}/{where.partition}: ends before {start}, which is to be read next; the topic was truncated, or "
            "deleted and made anew"
        )
    return LogContradiction(
        f"{where.topic}/{where.partition}: retention removed records {start} to {earliest - 1} before they were read; "
        "`cdp-stream accept-loss` goes on without them"
    )

"""The log as the step loop sees it: the one port between what an owner does and the Kafka that it does it on.

`kafka_log.KafkaLog` is the real one; the simulator has another. Everything that decides (what is sent, what is skipped,
when the changelog goes, when the store is written, how far a catch-up reads) stands above this port and is the same code
on both. Reading is the part of aiokafka's consumer that is used here, so the real consumer needs no wrapper.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiokafka.structs import TopicPartition

from cdp_stream.model.ports import Changes, Store
from cdp_stream.model.time import Instant
from cdp_stream.store.rocks import wipe

if TYPE_CHECKING:
    from cdp_stream.stream.inputs import Inputs

BatchRecord = tuple[bytes | None, bytes | None, str | None]
"""Key, value, and what the header `src` says; None: no such header."""
NOT_TOLD: Final = -1


class ReadRecord(Protocol):
    """A record as it is read."""

    @property
    def topic(self) -> str:
        """Where it stands."""

    @property
    def partition(self) -> int:
        """Where it stands."""

    @property
    def offset(self) -> int:
        """Where it stands."""

    @property
    def timestamp(self) -> Instant:
        """The sender's time, or that of the append, as the topic has it."""

    @property
    def key(self) -> Any:
        """Bytes or None."""

    @property
    def value(self) -> Any:
        """Bytes or None."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Names and values."""


class Consumer(Protocol):
    """Reads partitions by hand, in no group; what these methods do is documented by aiokafka."""

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Release everything."""

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these partitions and no others."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from this offset."""

    def pause(self, *partitions: TopicPartition) -> None:
        """Give no more records of these."""

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[ReadRecord]]:
        """What is there, after waiting at most so long for the first of it."""

    async def position(self, partition: TopicPartition) -> int:
        """Where the next read begins; behind markers and aborted records that were passed over."""

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The earliest offsets that the log still has."""

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The ends of the partitions as they are now."""

    def last_stable_offset(self, partition: TopicPartition) -> int | None:
        """The end for those who read committed records only, as of the last fetch."""

    def highwater(self, partition: TopicPartition) -> int | None:
        """The end, as of the last fetch."""

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Publish positions of the consumer's group."""


class Acknowledged(Protocol):
    """What the log says of a batch that it has taken."""

    @property
    def offset(self) -> int:
        """Of the batch's first record; the others follow it without gaps."""

    @property
    def appended_ms(self) -> Instant:
        """The time that a reader will find on the batch's records, where the log gives them its own; else, or not known, `NOT_TOLD`."""


class BatchWriter(Protocol):
    """Writes with one producer id and epoch; the log refuses it as soon as there is a later epoch."""

    async def submit(self, where: TopicPartition, records: Sequence[BatchRecord]) -> Awaitable[Acknowledged]:
        """Put one record batch in line, which the log takes whole or not at all; await the result for its base offset.

        Batches of one partition are taken in the order in which they were submitted.
        """

    async def stop(self) -> None:
        """Release everything."""


class TopicShape(Protocol):
    """A topic's id with the broker, and the number of its partitions."""

    topic_id: str
    partitions: int


class Log(Protocol):
    """A broker."""

    @property
    def inputs(self) -> Inputs:
        """Reads for all owners of this process."""

    def consumer(self, **more: Any) -> Consumer:
        """A consumer, not started yet. `more`: aiokafka's `group_id`, `isolation_level`, `auto_offset_reset` and
        `max_partition_fetch_bytes` and `fetch_max_wait_ms`; `bare`: its records need not know their topic and partition, which costs less; and
        `packed`: they may come as runs (`source_buffer.Packed`), which costs least.
        """

    async def mark(self, transactional_id: str, outputs: Sequence[TopicPartition]) -> tuple[int, int]:
        """Initialise the id, begin a transaction, add every output to it without a record, abort it.

        Returns the transaction's producer id and epoch.
        """

    async def initialise(self, transactional_id: str) -> tuple[int, int]:
        """Producer id and epoch of this id from now on; returns when every marker of its last transaction stands."""

    async def writer(self, producer_id: int, epoch: int) -> BatchWriter:
        """A started writer, idempotent and without transactions, with this id and epoch."""

    async def describe(self, topics: Sequence[str]) -> Mapping[str, TopicShape]:
        """Those of the topics that exist."""


@asynccontextmanager
async def consuming(log: Log, **more: Any) -> AsyncIterator[Consumer]:
    """A started consumer, which is stopped at the end. `more`: as `Log.consumer` has it."""
    consumer = log.consumer(**more)
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def _always(_partition: int) -> bool:
    return True


async def _at_once(store: Store, changes: Changes) -> None:
    store.commit(changes)


@dataclass(frozen=True, slots=True)
class World:
    """What an owner needs besides its settings: a log, a place for its state, and a clock."""

    log: Log
    open_store: Callable[[Path], Store]
    """Opens or creates the store in a folder."""
    clock_ms: Callable[[], Instant]
    """The owner's own clock; it enters the log with every entry, and decides nothing by itself."""
    is_ours: Callable[[int], Awaitable[bool]] = _always
    """Whether the group still gives this process the input partition; waits while the group is undecided."""
    commit: Callable[[Store, Changes], Awaitable[None]] = _at_once
    """Commits a step's changes to a store; others may have their turn meanwhile."""
    wipe: Callable[[Path], None] = wipe
    """Removes the store in a folder, which nobody has open."""

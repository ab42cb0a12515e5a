"""A broker in memory: partitions with offsets, markers, aborted records and producer epochs, as Kafka has them.

What is modelled is what the step loop's guarantees rest on. A transaction's markers reach the partitions one by one,
after its end was acknowledged; a partition refuses a batch whose epoch is older than the newest that it has seen, and
takes it until then; a new initialisation waits for all markers of the transaction before.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from aiokafka.structs import TopicPartition

from cdp_stream.model.time import Instant
from cdp_stream.stream.log import BatchRecord


class Refused(Exception):
    """The broker did not take a batch: a later claim of its producer id has left its marker."""


@dataclass(slots=True)
class Stored:
    """One place of a partition: a record, or a marker, which no reader sees."""

    topic: str
    partition: int
    offset: int
    timestamp: Instant
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    marker: bool = False
    aborted: bool = False


@dataclass(slots=True)
class Partition:
    """One partition's log."""

    where: TopicPartition
    stored: list[Stored] = field(default_factory=list)
    end: int = 0
    epochs: dict[int, int] = field(default_factory=dict)
    """Newest epoch seen here, by producer id."""
    open_from: int | None = None
    """Where the open transaction of a source's producer begins."""
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def last_stable(self) -> int:
        """The end for readers of committed records."""
        return self.end if self.open_from is None else self.open_from

    def since(self, offset: int) -> list[Stored]:
        """Everything stored from an offset on."""
        return self.stored[bisect_left(self.stored, offset, key=lambda stored: stored.offset) :]

    def put(self, stored: Stored) -> None:
        """Append at the end and wake the readers."""
        self.stored.append(stored)
        self.end += 1
        self.wake()

    def wake(self) -> None:
        """Let those look again who wait for records."""
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def compact(self) -> None:
        """Keep the last record of each key, as a cleaner does behind the active segment; deletions stay."""
        keep = max(0, len(self.stored) - _ACTIVE)
        last = {stored.key: stored.offset for stored in self.stored if not stored.marker}
        self.stored = [
            stored
            for number, stored in enumerate(self.stored)
            if number >= keep or (not stored.marker and last[stored.key] == stored.offset)
        ]


_ACTIVE = 6
"""Records of the active segment, which compaction leaves alone."""

Taken = Callable[[TopicPartition, Sequence[Stored], int, int], None]
"""Hears of every batch that was taken: partition, records, producer id, epoch."""


@dataclass(slots=True)
class _Topic:
    topic_id: str
    partitions: int


class SimulatedBroker:
    """Topics, producer ids and their epochs, committed group offsets."""

    def __init__(self, draw: Random, clock: Callable[[], Instant]) -> None:
        """`clock`: the broker's own, of which log append times are taken."""
        self._draw = draw
        self.clock = clock
        self.topics: dict[str, _Topic] = {}
        self.partitions: dict[TopicPartition, Partition] = {}
        self.append_time: set[str] = set()
        """Topics whose records bear the broker's time."""
        self.compacted: set[str] = set()
        self.producer_ids: dict[str, int] = {}
        self.epochs: dict[str, int] = {}
        self._markers: dict[str, list[asyncio.Task[None]]] = {}
        self.committed: dict[tuple[str, TopicPartition], int] = {}
        self.heard: list[Taken] = []
        self.claims: list[Callable[[int, int], None]] = []
        """Hear of every epoch with which somebody is going to write."""

    def create(self, topic: str, partitions: int) -> None:
        """A topic, if there is none of that name."""
        if topic in self.topics:
            return
        self.topics[topic] = _Topic(f"id-{len(self.topics)}-{topic}", partitions)
        for number in range(partitions):
            where = TopicPartition(topic, number)
            self.partitions[where] = Partition(where)

    def append(
        self,
        where: TopicPartition,
        records: Iterable[BatchRecord],
        timestamp: Instant | None = None,
        producer: tuple[int, int] = (-1, 0),
    ) -> int:
        """Take a batch whole, or refuse it. Returns its base offset."""
        partition = self.partitions[where]
        producer_id, epoch = producer
        if epoch < partition.epochs.get(producer_id, 0):
            raise Refused(f"{where.topic}/{where.partition}: epoch {epoch} is older than {partition.epochs}")
        if producer_id >= 0:
            partition.epochs[producer_id] = epoch
        base = partition.end
        own_time = timestamp is None or where.topic in self.append_time
        at = self.clock() if own_time or timestamp is None else timestamp
        taken = []
        for key, value, src in records:
            headers = () if src is None else (("src", src.encode()),)
            stored = Stored(where.topic, where.partition, partition.end, at, key, value, headers)
            taken.append(stored)
            partition.put(stored)
        for hear in self.heard:
            hear(where, taken, producer_id, epoch)
        return base

    def put_marker(self, where: TopicPartition, producer_id: int, epoch: int) -> None:
        """End a transaction here: older epochs are refused from now on."""
        partition = self.partitions[where]
        partition.epochs[producer_id] = max(epoch, partition.epochs.get(producer_id, 0))
        partition.put(Stored(where.topic, where.partition, partition.end, self.clock(), None, None, (), marker=True))

    async def mark(self, transactional_id: str, outputs: Sequence[TopicPartition]) -> tuple[int, int]:
        """A transaction without a record, aborted; its markers arrive later, each when it can."""
        producer_id, epoch = await self.initialise(transactional_id)
        loop = asyncio.get_running_loop()
        self._markers[transactional_id] = [
            loop.create_task(self._marker_arrives(where, producer_id, epoch)) for where in outputs
        ]
        return producer_id, epoch

    async def _marker_arrives(self, where: TopicPartition, producer_id: int, epoch: int) -> None:
        await asyncio.sleep(self._draw.choice((0.001, 0.005, 0.05)) * (1 + self._draw.random()))
        self.put_marker(where, producer_id, epoch)

    async def initialise(self, transactional_id: str) -> tuple[int, int]:
        """The next epoch of this id, once all markers of its last transaction stand."""
        while waiting := [marker for marker in self._markers.get(transactional_id, []) if not marker.done()]:
            await asyncio.wait(waiting)
        producer_id = self.producer_ids.setdefault(transactional_id, len(self.producer_ids) + 1)
        epoch = self.epochs[transactional_id] = self.epochs.get(transactional_id, -1) + 1
        return producer_id, epoch

    def append_aborted(self, where: TopicPartition, records: Sequence[BatchRecord]) -> None:
        """A transaction of somebody else that was given up: its records keep their offsets and are not read."""
        partition = self.partitions[where]
        base = self.append(where, records)
        for stored in partition.since(base):
            stored.aborted = True
        self.put_marker(where, -1, 0)

    def open_transaction(self, where: TopicPartition) -> None:
        """From here on records are held back from readers of committed records."""
        self.partitions[where].open_from = self.partitions[where].end

    def end_transaction(self, where: TopicPartition) -> None:
        """Commit what was held back."""
        partition = self.partitions[where]
        partition.open_from = None
        self.put_marker(where, -1, 0)

    def compact(self) -> None:
        """Run the cleaner on every compacted topic."""
        for where, partition in self.partitions.items():
            if where.topic in self.compacted:
                partition.compact()

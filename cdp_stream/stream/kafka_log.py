"""The log on Kafka: the real implementation of the port in `log.py`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from cdp_stream.errors import Fenced
from cdp_stream.model.ports import Changes, Store
from cdp_stream.model.time import Instant
from cdp_stream.store.rocks import RocksStore
from cdp_stream.stream.batches import WrittenBy, after, record_batch
from cdp_stream.stream.consumers import closed, plain_consumer
from cdp_stream.stream.inputs import Inputs
from cdp_stream.stream.log import Acknowledged, BatchRecord, World
from cdp_stream.stream.producing import Producing
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topic_ids import TopicInfo, describe_topics
from cdp_stream.stream.topics import MESSAGE_BYTES_MAX

_TRANSACTION_TIMEOUT_MS = 10_000
_POLL_S = 0.002
_STOP_WITHIN_S = 3.0
_WAITS_S = 5.0
"""After how long a claim says that it still waits for a leader."""
_ASIDE_FROM = 1_000
"""So many changes take longer to be written than a thread to take them over: then the loop goes on meanwhile."""
log = logging.getLogger("cdp_stream.claim")


def wall_clock_ms() -> Instant:
    """This machine's clock."""
    return time.time_ns() // 1_000_000


def kafka_world(settings: Settings) -> World:
    """Kafka, RocksDB and the machine's clock."""
    return World(KafkaLog(settings.aiokafka_options()), RocksStore, wall_clock_ms, commit=_commit)


async def _commit(store: Store, changes: Changes) -> None:
    if len(changes) < _ASIDE_FROM:
        store.commit(changes)
    else:
        await asyncio.to_thread(store.commit, changes)


class KafkaLog:
    """`log.Log` with aiokafka."""

    def __init__(self, options: dict[str, Any]) -> None:
        """`options`: what every client of the broker is given (`Settings.aiokafka_options`)."""
        self._options = options
        self._producing = Producing(options)
        self.inputs = Inputs(self)

    def consumer(self, **more: Any) -> AIOKafkaConsumer:
        """A consumer, not started yet."""
        return plain_consumer(self._options, **more)

    async def mark(self, transactional_id: str, outputs: Sequence[TopicPartition]) -> tuple[int, int]:
        """Begin a transaction, add every output partition to it without a record, abort it."""
        producer = self._transactional(transactional_id)
        await producer.start()
        try:
            for topic in sorted({output.topic for output in outputs}):
                await producer.partitions_for(topic)
            await producer.begin_transaction()
            transaction = producer._txn_manager  # noqa: SLF001 - adding partitions without records has no public door
            for output in outputs:
                transaction.maybe_add_partition_to_txn(output)
            transaction.notify_task_waiter()
            waits = asyncio.get_running_loop().time() + _WAITS_S
            while missing := transaction.partitions_to_add():
                if asyncio.get_running_loop().time() > waits:
                    waits += _WAITS_S
                    log.warning("%s: the claim waits for leaders of %s", transactional_id, sorted(missing)[:5])
                await asyncio.sleep(_POLL_S)
            # An error empties the list too; a partition without a marker would let an older owner in.
            unmarked = set(outputs) - set(transaction.txn_partitions)
            if unmarked:
                raise Fenced(f"{transactional_id}: the claim was refused for {sorted(unmarked)[:5]}")
            await producer.abort_transaction()
            return transaction.producer_id, transaction.producer_epoch
        finally:
            await closed(producer.stop())

    async def initialise(self, transactional_id: str) -> tuple[int, int]:
        """Producer id and epoch of this id from now on."""
        producer = self._transactional(transactional_id)
        await producer.start()
        try:
            transaction = producer._txn_manager  # noqa: SLF001
            return transaction.producer_id, transaction.producer_epoch
        finally:
            await closed(producer.stop())

    async def writer(self, producer_id: int, epoch: int) -> KafkaWriter:
        """A started, idempotent writer with this id and epoch."""
        await self._producing.join()
        return KafkaWriter(self._producing, producer_id, epoch)

    async def describe(self, topics: Sequence[str]) -> Mapping[str, TopicInfo]:
        """Those of the topics that exist."""
        admin = AIOKafkaAdminClient(**self._options)
        await admin.start()
        try:
            return await describe_topics(admin, list(topics))
        finally:
            await closed(admin.close())

    def _transactional(self, transactional_id: str) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **self._options, transactional_id=transactional_id, transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS
        )


class KafkaWriter:
    """`log.BatchWriter`: builds the record batches of one claim and numbers them, partition by partition."""

    def __init__(self, producing: Producing, producer_id: int, epoch: int) -> None:
        self._producing = producing
        self._producer_id = producer_id
        self._epoch = epoch
        self._sequences: dict[TopicPartition, int] = {}

    async def submit(self, where: TopicPartition, records: Sequence[BatchRecord]) -> Awaitable[Acknowledged]:
        """Put one record batch in line."""
        sequence = self._sequences.get(where, 0)
        by = WrittenBy(self._producer_id, self._epoch, sequence)
        raw = record_batch(list(records), MESSAGE_BYTES_MAX, wall_clock_ms(), by)
        assert raw is not None, f"{where.topic}: {len(records)} records do not fit one record batch"
        self._sequences[where] = after(sequence, len(records))
        return self._producing.put(where, raw, self)

    async def stop(self) -> None:
        """Send no more; what is still under way counts for nothing, so it is not waited for long."""
        await self._producing.leave(self, _STOP_WITHIN_S)

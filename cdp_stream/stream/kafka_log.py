"""The log on Kafka: the real implementation of the port in `log.py`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from cdp_stream.errors import Fenced
from cdp_stream.model.time import Instant
from cdp_stream.store.rocks import RocksStore
from cdp_stream.stream.batches import WrittenBy, after, record_batch
from cdp_stream.stream.log import Acknowledged, BatchRecord, World
from cdp_stream.stream.producing import Producing
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topic_ids import TopicInfo, describe_topics
from cdp_stream.stream.topics import MESSAGE_BYTES_MAX

_TRANSACTION_TIMEOUT_MS = 10_000
_FETCH_BYTES = 4 * 1024 * 1024
"""How much one answer of the broker holds; a record batch that is larger comes alone. Answers of tens of megabytes cost
more in copying and fresh memory than they save in requests."""
_POLL_S = 0.002
_STOP_WITHIN_S = 3.0
_WAITS_S = 5.0
"""After how long a claim says that it still waits for a leader."""
log = logging.getLogger("cdp_stream.claim")


def wall_clock_ms() -> Instant:
    """This machine's clock."""
    return time.time_ns() // 1_000_000


def kafka_world(settings: Settings) -> World:
    """Kafka, RocksDB and the machine's clock."""
    return World(KafkaLog(settings.aiokafka_options()), RocksStore, wall_clock_ms)


def plain_consumer(options: dict[str, Any], *, bare: bool = False, **more: Any) -> AIOKafkaConsumer:
    """A consumer outside any group, reading from where it is told. `bare`: its records do not say where they stand."""
    settings: dict[str, Any] = {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "max_partition_fetch_bytes": _FETCH_BYTES // 8,
        "fetch_max_bytes": _FETCH_BYTES,
        **more,
    }
    return (BareConsumer if bare else AIOKafkaConsumer)(**options, **settings)


class _AsParsed(OrderedDict[TopicPartition, Any]):
    """What a consumer has fetched; its records are given out as the parser makes them."""

    def __setitem__(self, where: TopicPartition, fetched: Any) -> None:
        records = getattr(fetched, "_partition_records", None)
        if records is not None:
            records._consumer_record = _as_parsed  # noqa: SLF001 - a contract test watches it
        super().__setitem__(where, fetched)


def _as_parsed(_where: TopicPartition, record: Any) -> Any:
    return record


class BareConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer whose records know their offset, timestamp, key, value and headers, and no more: a third of the cost
    of a record lies in writing its topic, its partition and sizes beside it.
    """

    async def start(self) -> None:
        """Connect."""
        await super().start()
        self._fetcher._records = _AsParsed(self._fetcher._records)  # noqa: SLF001 - a contract test watches it


class KafkaLog:
    """`log.Log` with aiokafka."""

    def __init__(self, options: dict[str, Any]) -> None:
        """`options`: what every client of the broker is given (`Settings.aiokafka_options`)."""
        self._options = options
        self._producing = Producing(options)

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
            await producer.stop()

    async def initialise(self, transactional_id: str) -> tuple[int, int]:
        """Producer id and epoch of this id from now on."""
        producer = self._transactional(transactional_id)
        await producer.start()
        try:
            transaction = producer._txn_manager  # noqa: SLF001
            return transaction.producer_id, transaction.producer_epoch
        finally:
            await producer.stop()

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
            await admin.close()

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

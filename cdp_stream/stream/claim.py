"""The claim: from here on this process is the one writer of a stage partition, and the broker refuses all others.

A transactional id fixed per stage partition gives every claim the same producer id with a higher epoch. An empty
transaction over all output partitions, aborted, leaves a marker with the new epoch in each; the second
initialisation returns only when all of these markers stand, and its epoch is the one that is used. What an older
owner still sends is refused from then on, in every topic. See docs/adr/0004-claim-and-step.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from cdp_stream.stream.topics import MESSAGE_BYTES_MAX

_TRANSACTION_TIMEOUT_MS = 10_000
_POLL_S = 0.002
log = logging.getLogger("cdp_stream.claim")


async def claim(
    options: dict[str, Any], transactional_id: str, outputs: Sequence[TopicPartition]
) -> tuple[AIOKafkaProducer, int]:
    """A started, idempotent producer that only the latest claim of this id may use, and its producer id."""
    log.info("%s: claiming %d output partitions", transactional_id, len(outputs))
    await _mark(options, transactional_id, outputs)
    producer_id, epoch = await _initialise(options, transactional_id)
    producer = AIOKafkaProducer(
        **options,
        acks="all",
        enable_idempotence=True,
        max_batch_size=MESSAGE_BYTES_MAX,
        max_request_size=MESSAGE_BYTES_MAX * 2,
        linger_ms=0,
    )
    producer._txn_manager.set_pid_and_epoch(producer_id, epoch)  # noqa: SLF001 - the fence; a contract test watches it
    await producer.start()
    log.info("%s: claimed, producer id %d, epoch %d", transactional_id, producer_id, epoch)
    return producer, producer_id


async def _mark(options: dict[str, Any], transactional_id: str, outputs: Sequence[TopicPartition]) -> None:
    """Begin a transaction, add every output partition to it without a record, abort it."""
    producer = _transactional(options, transactional_id)
    await producer.start()
    try:
        for topic in sorted({output.topic for output in outputs}):
            await producer.partitions_for(topic)
        await producer.begin_transaction()
        transaction = producer._txn_manager  # noqa: SLF001 - adding partitions without records has no public door
        for output in outputs:
            transaction.maybe_add_partition_to_txn(output)
        transaction.notify_task_waiter()
        while transaction.partitions_to_add():  # noqa: ASYNC110 - the client offers no event for it
            await asyncio.sleep(_POLL_S)
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def _initialise(options: dict[str, Any], transactional_id: str) -> tuple[int, int]:
    producer = _transactional(options, transactional_id)
    await producer.start()
    try:
        transaction = producer._txn_manager  # noqa: SLF001
        return transaction.producer_id, transaction.producer_epoch
    finally:
        await producer.stop()


def _transactional(options: dict[str, Any], transactional_id: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        **options, transactional_id=transactional_id, transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS
    )

"""The claim: from here on this process is the one writer of a stage partition, and the broker refuses all others.

A transactional id fixed per stage partition gives every claim the same producer id with a higher epoch. An empty
transaction over all output partitions, aborted, leaves a marker with the new epoch in each; the second
initialisation returns only when all of these markers stand, and its epoch is the one that is used. What an older
owner still sends is refused from then on, in every topic. See docs/adr/0004-claim-and-step.md.

An owner that stood still between the two could wake up after a later claim was complete. The second initialisation
would give it the highest epoch of all, without a marker anywhere, beside an owner that is at work. So the two epochs
must follow each other.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from aiokafka.structs import TopicPartition

from cdp_stream.errors import Fenced
from cdp_stream.stream.log import BatchWriter, Log

_log = logging.getLogger("cdp_stream.claim")


async def claim(
    log: Log, transactional_id: str, outputs: Sequence[TopicPartition], is_ours: Callable[[], Awaitable[bool]]
) -> tuple[BatchWriter, int]:
    """A writer that only the latest claim of this id may use, and its producer id.

    `is_ours`: asked before anybody is fenced off, and again before the claim is used. Raises Fenced where it says no,
    and when another claim of this id came in between.
    """
    await _require(is_ours, transactional_id)
    _log.info("%s: claiming %d output partitions", transactional_id, len(outputs))
    marked_id, marked_epoch = await log.mark(transactional_id, outputs)
    producer_id, epoch = await log.initialise(transactional_id)
    if (producer_id, epoch) != (marked_id, marked_epoch + 1):
        raise Fenced(f"{transactional_id}: another claim came in between: {marked_epoch} was marked, {epoch} is ours")
    await _require(is_ours, transactional_id)
    writer = await log.writer(producer_id, epoch)
    _log.info("%s: claimed, producer id %d, epoch %d", transactional_id, producer_id, epoch)
    return writer, producer_id


async def _require(is_ours: Callable[[], Awaitable[bool]], transactional_id: str) -> None:
    if not await is_ours():
        raise Fenced(f"{transactional_id}: the group has given the partition to another worker")

"""What the owner of the identity log asks it beside the entries that come next."""

from __future__ import annotations

from aiokafka.structs import TopicPartition

from cdp_stream.errors import LogContradiction
from cdp_stream.stages.entries import Slice, decode_entry, encode_entry, gives_up
from cdp_stream.stages.identity import IdentityBarrier, entry_hash
from cdp_stream.stream.catch_up import read_to_end, require_input
from cdp_stream.stream.log import Log, consuming


async def recognise(log: Log, where: TopicPartition, barrier: IdentityBarrier) -> None:
    """The log is the one that the state was made from: it holds the last entry done, with the same bytes.

    Raises LogContradiction.
    """
    await require_input(log, where, barrier.next_offset)
    async with consuming(log) as consumer:
        async for _, record in read_to_end(consumer, {where: barrier.entry_offset}):
            raw = encode_entry(decode_entry(record.value))
            if record.offset == barrier.entry_offset and entry_hash(raw) != barrier.entry_hash:
                raise LogContradiction(
                    f"{where.topic}: entry {record.offset} is not the one that was done; the topic was deleted and "
                    "made anew, or another space wrote to it"
                )
            if record.offset >= barrier.entry_offset:
                return


async def is_given_up(log: Log, where: TopicPartition, offset: int, named: Slice) -> bool:
    """Does an order behind this offset give up records of this slice? Then no owner will ever decide it."""
    async with consuming(log) as consumer:
        async for _, record in read_to_end(consumer, {where: offset + 1}):
            if gives_up(decode_entry(record.value), named):
                return True
    return False

"""Controls from the command line: appended to the identity log by a plain producer, answered in the ledger.

The fence of the log's owner is the epoch of the owner's own producer id; another producer neither needs nor disturbs it.
Whoever may write to the identity log may give orders: the broker's access rules for that topic are the guard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from cdp_stream.errors import CdpStreamError
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.entries import AcceptLoss, Control, ResyncEntry, SourceReset, decode_entry, encode_entry
from cdp_stream.stages.orders import apply_control
from cdp_stream.stages.records import LEDGER, partition_of
from cdp_stream.stream.catch_up import read_to_end
from cdp_stream.stream.consumers import plain_consumer
from cdp_stream.stream.groups import members_of
from cdp_stream.stream.in_force import InForce
from cdp_stream.stream.kafka_log import wall_clock_ms
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import MESSAGE_BYTES_MAX, TopicNames

_POLL_MS: Final = 200
_ANSWERS: Final = ("topology_applied", "loss_accepted", "source_reset", "resync_requested")


Order = Control | ResyncEntry | AcceptLoss | SourceReset


class Sent:
    """A control that stands in the identity log, and from where in the ledger its answer is to be looked for."""

    def __init__(self, control: Order, offset: int, answers_from: int) -> None:
        self.control = control
        self.offset = offset
        self.answers_from = answers_from


async def send_apply(settings: Settings, names: TopicNames, proposed: CompiledTopology, in_force: InForce) -> Sent:
    """Append the control that asks for `proposed`. Raises CdpStreamError when another one waits in the log already."""
    consumer = plain_consumer(settings.aiokafka_options())
    await consumer.start()
    identity_log, ledger = TopicPartition(names.identity_log, 0), _ledger_of(names)
    try:
        await _refuse_a_second(consumer, identity_log, in_force)
        ends = await consumer.end_offsets([identity_log, ledger])
    finally:
        await consumer.stop()
    control = apply_control(proposed, in_force.version, ends[identity_log], wall_clock_ms())
    return await _send(settings, identity_log, control, ends[ledger])


async def send_order(settings: Settings, names: TopicNames, make: Callable[[int, Instant], Order]) -> Sent:
    """Append an order. `make` is given the end of the identity log, for the order's id, and the present time."""
    identity_log, ledger = TopicPartition(names.identity_log, 0), _ledger_of(names)
    consumer = plain_consumer(settings.aiokafka_options())
    await consumer.start()
    try:
        ends = await consumer.end_offsets([identity_log, ledger])
    finally:
        await consumer.stop()
    return await _send(settings, identity_log, make(ends[identity_log], wall_clock_ms()), ends[ledger])


async def _send(settings: Settings, identity_log: TopicPartition, control: Order, answers_from: int) -> Sent:
    producer = AIOKafkaProducer(**settings.aiokafka_options(), acks="all", max_request_size=MESSAGE_BYTES_MAX)
    await producer.start()
    try:
        sent = await producer.send_and_wait(identity_log.topic, encode_entry(control), partition=0)
    finally:
        await producer.stop()
    return Sent(control, sent.offset, answers_from)


async def _refuse_a_second(consumer: Any, identity_log: TopicPartition, in_force: InForce) -> None:
    async for _, record in read_to_end(consumer, {identity_log: in_force.barrier.next_offset}):
        entry = decode_entry(bytes(record.value))
        if isinstance(entry, Control) and entry.control == "apply" and entry.based_on == in_force.version:
            raise CdpStreamError(
                f"another topology waits in {identity_log.topic} already (entry {record.offset}); it is decided as "
                "soon as a worker runs. Apply again when it is in force"
            )


async def answer_to(settings: Settings, names: TopicNames, sent: Sent, within_s: float) -> dict[str, Any] | None:
    """The ledger row that decides the control, or None if there is none within these seconds."""
    consumer = plain_consumer(settings.aiokafka_options())
    await consumer.start()
    try:
        ledger = _ledger_of(names)
        consumer.assign([ledger])
        consumer.seek(ledger, sent.answers_from)
        async with asyncio.timeout(within_s):
            while True:
                batches = await consumer.getmany(ledger, timeout_ms=_POLL_MS)
                for record in batches.get(ledger, []):
                    row: dict[str, Any] = orjson.loads(record.value)
                    if row.get("decision") in _ANSWERS and row["message_id"] == sent.control.id:
                        return row
    except TimeoutError:
        return None
    finally:
        await consumer.stop()


async def outcome_of(settings: Settings, names: TopicNames, sent: Sent, within_s: float, done: str) -> dict[str, Any]:
    """What has become of an order within these seconds, as a program may read it.

    `outcome` is `waiting` where nobody is there to decide or is waited for, `undecided`, `refused` (with its
    `violation`), or `done` (with the row's `seq`); `workers`: how many there are.
    """
    group = f"{names.prefix}{names.space}.identity"
    result: dict[str, Any] = {"outcome": "waiting", "workers": (await members_of(settings, [group]))[group]}
    if not within_s or not result["workers"]:
        return result
    row = await answer_to(settings, names, sent, within_s)
    if row is None:
        return {**result, "outcome": "undecided"}
    if "violation" in row:
        return {**result, "outcome": "refused", "violation": row["violation"]}
    return {**result, "outcome": done, "seq": row["seq"]}


def _ledger_of(names: TopicNames) -> TopicPartition:
    return TopicPartition(names.of_role(LEDGER), partition_of(names.space, names.partitions))

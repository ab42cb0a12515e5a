"""Output topics as a person reads them: from where, how far, and on as they grow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from cdp_stream.errors import BrokerUnavailable, CdpStreamError
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stream.in_force import read_in_force, space_names
from cdp_stream.stream.kafka_log import KafkaLog
from cdp_stream.stream.log import Log, ReadRecord, TopicShape, consuming
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import TopicNames

_POLL_MS: Final = 250
_LOOK_EVERY_S: Final = 5.0
"""A topic that is deleted is noticed within so long: its reader is only told that there is nothing new."""


async def names_in_force(settings: Settings, file: CompiledTopology) -> TopicNames:
    """The topics of a space as its topology in force names them. Raises CdpStreamError when it has none yet."""
    log = KafkaLog(settings.aiokafka_options())
    in_force = await read_in_force(log, TopicNames.of(file.topology, settings))
    if in_force is None:
        raise CdpStreamError(f"space {file.space}: no worker has put a topology in force here yet")
    return space_names(settings, file.topology, in_force)


async def follow(
    log: Log, topics: Sequence[str], *, from_beginning: bool, to_end: bool = False
) -> AsyncIterator[ReadRecord]:
    """The records of these topics, from their beginnings or only new ones; for ever, or to the ends as they are now.

    Order is that of each partition; between partitions it is the order of arrival. Raises CdpStreamError where a topic is
    deleted meanwhile.
    """
    shapes = await log.describe(topics)
    every = [TopicPartition(topic, number) for topic in sorted(shapes) for number in range(shapes[topic].partitions)]
    if not every:
        return
    async with consuming(log) as consumer:
        consumer.assign(every)
        ends = await consumer.end_offsets(every)
        starts = await consumer.beginning_offsets(every) if from_beginning else ends
        for where in every:
            consumer.seek(where, starts[where])
        left: set[TopicPartition] = {where for where in every if starts[where] < ends[where]}
        loop = asyncio.get_running_loop()
        look_at = loop.time() + _LOOK_EVERY_S
        while left or not to_end:
            for where, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                for record in records:
                    if not to_end or record.offset < ends[where]:
                        yield record
            if loop.time() >= look_at:
                await _require_same(log, shapes)
                look_at = loop.time() + _LOOK_EVERY_S
            left = {where for where in left if await consumer.position(where) < ends[where]}


async def _require_same(log: Log, shapes: Mapping[str, TopicShape]) -> None:
    """These are still the topics that the broker has. A broker that is away says nothing about it."""
    with contextlib.suppress(BrokerUnavailable, KafkaError):
        found = await log.describe(sorted(shapes))
        for topic, shape in shapes.items():
            if topic not in found:
                raise CdpStreamError(f"{topic}: the topic was deleted while it was read")
            if found[topic].topic_id != shape.topic_id:
                raise CdpStreamError(f"{topic}: the topic was deleted and made anew while it was read; read it again")

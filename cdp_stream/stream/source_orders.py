"""Orders about a source that can no longer be read as the state needs it: what is lost is given up, by name and in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiokafka.structs import TopicPartition

from cdp_stream.errors import UsageError
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.entries import AcceptLoss, SourceReset
from cdp_stream.stream.controls import Order, answer_to, send_order
from cdp_stream.stream.groups import members_of
from cdp_stream.stream.in_force import InForce, read_in_force, space_names
from cdp_stream.stream.kafka_log import KafkaLog
from cdp_stream.stream.log import consuming
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import TopicNames

_LOOK_AGAIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Loss:
    """Offsets of a source partition that will not be read: from the state's position up to `to`."""

    topic: str
    partition: int
    position: int
    to: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an order: its place in the log, and whether it was `done`, `refused`, or is `waiting`."""

    outcome: str
    entry: int
    workers: int
    violation: str | None = None


class SourceOrders:
    """Orders about the sources of one space."""

    def __init__(self, settings: Settings, names: TopicNames, in_force: InForce) -> None:
        self._settings = settings
        self._names = names
        self._in_force = in_force
        self._log = KafkaLog(settings.aiokafka_options())

    @classmethod
    async def of(cls, settings: Settings, topology: CompiledTopology) -> SourceOrders:
        """Raises UsageError when the space has no topology in force: then nothing was read yet."""
        log = KafkaLog(settings.aiokafka_options())
        in_force = await read_in_force(log, TopicNames.of(topology.topology, settings))
        if in_force is None:
            raise UsageError(f"space {topology.space}: no worker has put a topology in force here yet")
        return cls(settings, space_names(settings, topology.topology, in_force), in_force)

    async def loss(self, topic: str, partition: int, to: int | None) -> Loss:
        """What going on at `to` gives up; None: at the earliest record that is still there. Raises UsageError."""
        real = self._names.prefix + topic
        position = self._in_force.barrier.sources.get(real, {}).get(partition)
        if position is None:
            raise UsageError(f"{real}/{partition}: nothing of it was ever read, so nothing can be given up")
        where = TopicPartition(real, partition)
        found = await self._log.describe([real])
        if real not in found or partition >= found[real].partitions:
            raise UsageError(f"{real}/{partition}: no such partition; if the topic was made anew, use source-reset")
        if found[real].topic_id != position.topic_id:
            raise UsageError(f"{real}: the topic was deleted and made anew: use source-reset")
        async with consuming(self._log) as consumer:
            earliest = (await consumer.beginning_offsets([where]))[where]
            end = (await consumer.end_offsets([where]))[where]
        wanted = earliest if to is None else to
        if not position.offset < wanted <= end:
            raise UsageError(
                f"{real}/{partition}: read up to {position.offset}, still has {earliest} to {end}; --to {wanted} gives "
                "nothing up or lies beyond its end"
            )
        return Loss(real, partition, position.offset, wanted)

    async def positions(self, topic: str) -> dict[int, int]:
        """Up to where each partition of a source was read. Raises UsageError when it is not one that was made anew."""
        real = self._names.prefix + topic
        read = self._in_force.barrier.sources.get(real)
        if not read:
            raise UsageError(f"{real}: nothing of it was ever read; it begins at its earliest records anyway")
        found = await self._log.describe([real])
        if real in found and all(found[real].topic_id == position.topic_id for position in read.values()):
            raise UsageError(f"{real}: is the topic that was read; its records would be decided twice")
        return {partition: position.offset for partition, position in sorted(read.items())}

    async def accept(self, loss: Loss, within_s: float) -> Answer:
        """Give the records up."""
        return await self._send(
            lambda end, clock: AcceptLoss(
                clock, f"accept-loss-{loss.topic}-{loss.partition}-{loss.to}-{end}", loss.topic, loss.partition, loss.to
            ),
            within_s,
        )

    async def reset(self, topic: str, within_s: float) -> Answer:
        """Read a source that was made anew from its earliest records."""
        real = self._names.prefix + topic
        return await self._send(lambda end, clock: SourceReset(clock, f"source-reset-{real}-{end}", real), within_s)

    async def _send(self, make: Callable[[int, Instant], Order], within_s: float) -> Answer:
        sent = await send_order(self._settings, self._names, make)
        group = f"{self._names.prefix}{self._names.space}.identity"
        loop = asyncio.get_running_loop()
        until, row = loop.time() + within_s, None
        # Again and again: a worker that has stopped is a member until its session is over.
        while (workers := (await members_of(self._settings, [group]))[group]) and row is None and loop.time() < until:
            row = await answer_to(self._settings, self._names, sent, min(_LOOK_AGAIN_S, within_s))
        if row is None:
            return Answer("waiting", sent.offset, workers)
        violation = row.get("violation")
        return Answer("done" if violation is None else "refused", sent.offset, workers, violation)

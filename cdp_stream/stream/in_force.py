"""Which topology is in force in a space, read from its topics alone: from any machine, with or without a worker.

The last record of the identity stage's changelog is its barrier; it names the entry of the identity log that put the
topology in force. So finding it costs the same for a small space and for a large one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiokafka.structs import TopicPartition

from cdp_stream.config.topology import Topology
from cdp_stream.errors import Problem, StateError, TopologyError
from cdp_stream.stages.entries import Control, decode_entry
from cdp_stream.stages.identity import BARRIER_KEY, IdentityBarrier
from cdp_stream.stages.state_format import decode_barrier
from cdp_stream.stream.catch_up import read_to_end
from cdp_stream.stream.log import Log, consuming
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import TopicNames

_WINDOW: Final = 64
"""How many of a changelog's last records are read first; only markers of claims can stand behind its barrier."""
_WINDOW_GROWS: Final = 32


@dataclass(frozen=True, slots=True)
class InForce:
    """The topology in force, and where the identity stage stands."""

    version: str
    topology: Topology
    barrier: IdentityBarrier


async def read_in_force(log: Log, names: TopicNames) -> InForce | None:
    """The topology in force, or None if no worker has put one in force yet. `names`: of any version of the topology."""
    raw = await last_barrier(log, TopicPartition(names.changelog("identity"), 0))
    if raw is None:
        return None
    barrier = decode_barrier(raw, IdentityBarrier)
    if barrier.topology_version is None:
        return None
    topology = await _topology_of_entry(log, TopicPartition(names.identity_log, 0), barrier)
    return InForce(barrier.topology_version, topology, barrier)


async def last_barrier(log: Log, changelog: TopicPartition) -> bytes | None:
    """The barrier of a stage partition's last step, or None if it has stored none."""
    if not await log.describe([changelog.topic]):
        return None
    async with consuming(log) as consumer:
        begin = (await consumer.beginning_offsets([changelog]))[changelog]
        end = (await consumer.end_offsets([changelog]))[changelog]
        size, found = _WINDOW, None
        while found is None and begin < end:
            start = max(begin, end - size)
            async for _, record in read_to_end(consumer, {changelog: start}):
                if record.key == BARRIER_KEY:
                    found = bytes(record.value)
            if start == begin:
                break
            size *= _WINDOW_GROWS
        return found


async def _topology_of_entry(log: Log, where: TopicPartition, barrier: IdentityBarrier) -> Topology:
    # A consumer would look for a topic that is gone for ever.
    if await log.describe([where.topic]):
        async with consuming(log) as consumer:
            async for _, record in read_to_end(consumer, {where: barrier.topology_entry}):
                entry = decode_entry(bytes(record.value))
                if record.offset == barrier.topology_entry and isinstance(entry, Control):
                    return Topology.from_canonical(entry.topology)
                break
    raise StateError(
        f"{where.topic}: entry {barrier.topology_entry}, which put topology version {barrier.topology_version} in "
        "force, is not there any more; this topic must keep everything (retention.ms=-1)"
    )


def space_names(settings: Settings, file: Topology, in_force: InForce | None) -> TopicNames:
    """The topics of a space: of the topology in force, or of the file where there is none yet.

    Raises TopologyError when the file is of another shape than the space: that is fixed for its life.
    """
    if in_force is None:
        return TopicNames.of(file, settings)
    refuse_other_shape(file, in_force.topology)
    return TopicNames.of(in_force.topology, settings, in_force.barrier.destinations)


def refuse_other_shape(file: Topology, in_force: Topology) -> None:
    """Raise TopologyError when the file changes what is fixed for the life of a space."""
    problems = [
        Problem(
            name,
            f"{getattr(file, name)!r} cannot be put in force, the space runs with {getattr(in_force, name)!r}",
            f"{name} is fixed for the life of a space: set it back, or begin a new space",
        )
        for name in ("space", "partitions")
        if getattr(file, name) != getattr(in_force, name)
    ]
    if problems:
        raise TopologyError("topology", problems)

"""All that a space left behind, as any consumer without transactions sees it: outputs, identity log, sources, state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka.structs import TopicPartition

from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.records import (
    AUDIENCE_CHANGES,
    DEAD_LETTERS,
    DESTINATION_PREFIX,
    LEDGER,
    PROFILE_CHANGES,
    SHIPMENTS,
    TRAIT_CHANGES,
)
from cdp_stream.stream.catch_up import read_to_end
from cdp_stream.stream.kafka_log import KafkaLog
from cdp_stream.stream.log import consuming
from cdp_stream.stream.recompute import running_profiles
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import TopicNames


@dataclass(frozen=True)
class Row:
    """One record of an output topic; `src` is None where the header is missing."""

    offset: int
    key: bytes
    value: bytes
    src: str | None


@dataclass
class Snapshot:
    """What was read, and where the reading began (retention and trimming may have removed what is before)."""

    outputs: dict[str, dict[int, list[Row]]] = field(default_factory=dict)
    """Role to partition to rows."""
    entries: list[dict[str, Any]] = field(default_factory=list)
    """The identity log as plain JSON values, in order, each with the broker's time as `appended`."""
    sources: dict[tuple[str, int], dict[int, tuple[int, bytes]]] = field(default_factory=dict)
    """Topic and partition to offset to timestamp and value."""
    profiles: list[dict[str, Any]] = field(default_factory=list)
    """Final profiles, from the changelogs."""


ROLES = (LEDGER, PROFILE_CHANGES, SHIPMENTS, TRAIT_CHANGES, AUDIENCE_CHANGES, DEAD_LETTERS)


async def take_snapshot(settings: Settings, topology: CompiledTopology, sources: dict[str, int]) -> Snapshot:
    """Read everything of a space to its present end. `sources`: topics (with prefix) and their partitions."""
    names = TopicNames.of(topology.topology, settings)
    snapshot = Snapshot()
    roles = {names.of_role(role): role for role in ROLES}
    roles |= {topic: DESTINATION_PREFIX + name for name, topic in names.destinations}
    starts = {
        TopicPartition(topic, number): 0
        for topic, role in roles.items()
        for number in range(1 if role == DEAD_LETTERS else names.partitions)
    }
    starts |= {TopicPartition(topic, number): 0 for topic, count in sources.items() for number in range(count)}
    starts[TopicPartition(names.identity_log, 0)] = 0
    for where in starts:
        if where.topic in roles:
            snapshot.outputs.setdefault(roles[where.topic], {}).setdefault(where.partition, [])
        elif where.topic in sources:
            snapshot.sources[where.topic, where.partition] = {}
    async with consuming(KafkaLog(settings.aiokafka_options())) as consumer:
        async for where, record in read_to_end(consumer, starts):
            value = bytes(record.value or b"")
            if where.topic in sources:
                snapshot.sources[where.topic, where.partition][record.offset] = record.timestamp, value
            elif where.topic == names.identity_log:
                snapshot.entries.append(msgspec.json.decode(value) | {"appended": record.timestamp})
            else:
                src = dict(record.headers).get("src")
                row = Row(record.offset, bytes(record.key or b""), value, None if src is None else src.decode())
                snapshot.outputs[roles[where.topic]][where.partition].append(row)
    snapshot.profiles = await running_profiles(settings, names)
    return snapshot

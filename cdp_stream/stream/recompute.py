"""A running space, recomputed from its own log; and the digest of what its workers really wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aiokafka.structs import TopicPartition

from cdp_stream.errors import BrokerUnavailable
from cdp_stream.model.event import RawRecord
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.digest import OutputsDigest
from cdp_stream.stages.entries import Entry, Slice, decode_entry
from cdp_stream.stages.graph import GraphDraft
from cdp_stream.stages.history import message_ids
from cdp_stream.stages.profile_states import ProfileDraft
from cdp_stream.stages.records import (
    AUDIENCE_CHANGES,
    DEAD_LETTERS,
    DESTINATION_PREFIX,
    LEDGER,
    TRAIT_CHANGES,
    partition_of,
)
from cdp_stream.stages.views import profile_view
from cdp_stream.store.memory import MemoryStore
from cdp_stream.stream.catch_up import read_to_end, restore
from cdp_stream.stream.in_force import read_in_force, space_names
from cdp_stream.stream.kafka_log import KafkaLog
from cdp_stream.stream.log import consuming
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.sources import SourceReader
from cdp_stream.stream.topics import TopicNames


async def entries_of_space(
    settings: Settings, topology: CompiledTopology
) -> AsyncIterator[tuple[int, Instant, Entry, Sequence[RawRecord]]]:
    """Every entry of a space's identity log, with its offset, append time and records, to the log's present end."""
    names = TopicNames.of(topology.topology, settings)
    log = KafkaLog(settings.aiokafka_options())
    if not await log.describe([names.identity_log]):
        raise BrokerUnavailable(f"{names.identity_log}: no such topic; has a worker ever run on this space?")
    sources = SourceReader(log, "", [], settings.step_events_max, settings.step_bytes_max)
    try:
        async with consuming(log) as consumer:
            async for _, record in read_to_end(consumer, {TopicPartition(names.identity_log, 0): 0}):
                entry = decode_entry(record.value)
                records = await sources.take(entry.sources) if isinstance(entry, Slice) else []
                yield record.offset, record.timestamp, entry, records
    finally:
        await sources.stop()


async def running_digest(
    settings: Settings, topology: CompiledTopology, seen: Callable[[str, bytes, dict[str, bytes]], None] | None = None
) -> tuple[str, dict[str, int]]:
    """The digest of a space's topics and state as its workers wrote them, and how many records each topic holds."""
    log = KafkaLog(settings.aiokafka_options())
    in_force = await read_in_force(log, TopicNames.of(topology.topology, settings))
    names = space_names(settings, topology.topology, in_force)
    roles = [LEDGER, TRAIT_CHANGES, AUDIENCE_CHANGES, *(DESTINATION_PREFIX + name for name, _ in names.destinations)]
    starts = {TopicPartition(names.of_role(role), number): 0 for role in roles for number in range(names.partitions)}
    starts[TopicPartition(names.of_role(DEAD_LETTERS), 0)] = 0
    role_of = {names.of_role(role): role for role in [*roles, DEAD_LETTERS]}
    digest = OutputsDigest()
    async with consuming(log) as consumer:
        async for where, record in read_to_end(consumer, starts):
            headers = dict(record.headers)
            if "src" in headers:
                digest.add(role_of[where.topic], bytes(record.key or b""), bytes(record.value))
                if seen is not None:
                    seen(role_of[where.topic], bytes(record.key or b""), headers)
    return digest.total(await running_profiles(settings, names)), digest.counts


async def running_profiles(settings: Settings, names: TopicNames) -> list[dict[str, Any]]:
    """Every profile of a space, from the changelogs of both stages."""
    log = KafkaLog(settings.aiokafka_options())
    identity = MemoryStore()
    await restore(log, identity, TopicPartition(names.changelog("identity"), 0), 0)
    states = []
    for number in range(names.partitions):
        store = MemoryStore()
        await restore(log, store, TopicPartition(names.changelog("profiles"), number), 0)
        states.append(ProfileDraft(store))
    views = []
    space = GraphDraft(identity)
    for graph in space.all_profiles():
        draft = states[partition_of(graph.id, names.partitions)]
        views.append(
            profile_view(graph, draft.get(graph.id), message_ids(draft.histories.of(graph.id)), space.links(graph.id))
        )
    return views

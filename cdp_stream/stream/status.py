"""How a space stands, read from its topics and groups alone: from any machine, with or without a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from aiokafka.structs import TopicPartition

from cdp_stream.errors import CdpStreamError
from cdp_stream.model.time import format_instant
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.entries import decode_entry
from cdp_stream.stages.identity import IdentityBarrier
from cdp_stream.stages.profile_shapes import ProfileBarrier
from cdp_stream.stages.records import DEAD_LETTERS, PROFILE_CHANGES, SHIPMENTS
from cdp_stream.stages.state_format import decode_barrier
from cdp_stream.stream.catch_up import read_to_end
from cdp_stream.stream.groups import members_of
from cdp_stream.stream.in_force import last_barrier, read_in_force, space_names
from cdp_stream.stream.kafka_log import KafkaLog
from cdp_stream.stream.log import Log, consuming
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import TopicNames

DEAD_LETTERS_READ: Final = 10_000
"""How many of the latest dead letters are counted by reason."""
_TAIL: Final = 16


async def space_status(settings: Settings, file: CompiledTopology) -> dict[str, Any]:
    """The status as plain values. Raises CdpStreamError when no worker has ever run on the space."""
    log = KafkaLog(settings.aiokafka_options())
    in_force = await read_in_force(log, TopicNames.of(file.topology, settings))
    if in_force is None:
        raise CdpStreamError(f"space {file.space}: no worker has put a topology in force here yet")
    names = space_names(settings, file.topology, in_force)
    identity = in_force.barrier
    profiles = [
        await _profile_barrier(log, TopicPartition(names.changelog("profiles"), number))
        for number in range(names.partitions)
    ]
    every = {number: TopicPartition(names.of_role(PROFILE_CHANGES), number) for number in range(names.partitions)}
    arriving = {number: TopicPartition(names.of_role(SHIPMENTS), number) for number in range(names.partitions)}
    entries, letters = TopicPartition(names.identity_log, 0), TopicPartition(names.of_role(DEAD_LETTERS), 0)
    sources = await _source_partitions(log, names, identity)
    ends = await _ends(log, [entries, letters, *every.values(), *arriving.values(), *sources])
    groups = [f"{names.prefix}{names.space}.{stage}" for stage in ("identity", "profiles")]
    members = await members_of(settings, groups)
    return {
        "space": file.space,
        "topology": {
            "in_force": in_force.version,
            "file": file.version,
            "file_is_in_force": file.version == in_force.version,
        },
        "now": format_instant(identity.now),
        "profiles_created": identity.profiles_count,
        "profiles_parked": sum(barrier.parked for barrier in profiles),
        "groups": {group: {"members": members[group]} for group in groups},
        "sources": [
            {"topic": where.topic, "partition": where.partition, **_place(position, ends[where])}
            for where, position in sources.items()
        ],
        "identity": {**_place(identity.next_offset, ends[entries]), "last_entry": await _last_entry(log, entries)},
        "profiles": [
            {
                "partition": number,
                "changes": _place(barrier.next_offset, ends[every[number]]),
                "shipments": _place(barrier.shipments_next, ends[arriving[number]]),
                "now": format_instant(barrier.now),
                "parked": barrier.parked,
                "topology_version": barrier.topology_version,
                "backfill": _backfill(barrier),
            }
            for number, barrier in enumerate(profiles)
        ],
        "dead_letters": await _dead_letters(log, letters, ends[letters]),
    }


def _backfill(barrier: ProfileBarrier) -> dict[str, Any] | None:
    """How far a topology version that is coming into force has passed through a partition's profiles, or None."""
    if not barrier.reconsidered_from:
        return None
    return {
        "from": barrier.reconsidered_from,
        "to": barrier.topology_version,
        "profiles": barrier.reconsidered_count,
        "progress": round(barrier.progress, 4),
    }


def _place(position: int, end: int) -> dict[str, int]:
    # Markers of claims stand behind the last record; only records are work.
    return {"position": position, "end": end, "lag": max(0, end - position)}


async def _profile_barrier(log: Log, changelog: TopicPartition) -> ProfileBarrier:
    return decode_barrier(await last_barrier(log, changelog), ProfileBarrier)


async def _source_partitions(log: Log, names: TopicNames, identity: IdentityBarrier) -> dict[TopicPartition, int]:
    """How far each partition of the sources in force is decided; 0 for one that never was."""
    found = await log.describe(names.sources)
    positions = {}
    for topic, shape in sorted(found.items()):
        decided = identity.sources.get(topic, {})
        for number in range(shape.partitions):
            positions[TopicPartition(topic, number)] = decided[number].offset if number in decided else 0
    return positions


async def _ends(log: Log, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
    async with consuming(log) as consumer:
        return await consumer.end_offsets(partitions)


async def _last_entry(log: Log, where: TopicPartition) -> dict[str, Any] | None:
    last = None
    async for record in _latest(log, where, _TAIL):
        kind = type(decode_entry(bytes(record.value))).__name__.removesuffix("Entry").lower()
        last = {"offset": record.offset, "entry": kind, "appended": format_instant(record.timestamp)}
    return last


async def _dead_letters(log: Log, where: TopicPartition, end: int) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    last = None
    async for record in _latest(log, where, DEAD_LETTERS_READ):
        row = orjson.loads(record.value)
        counts[row["reason"]] += 1
        last = row["now"]
    return {
        "by_reason": dict(sorted(counts.items())),
        "counted": counts.total(),
        "earlier": end > DEAD_LETTERS_READ,
        "last": last,
    }


async def _latest(log: Log, where: TopicPartition, count: int) -> Any:
    async with consuming(log) as consumer:
        end = (await consumer.end_offsets([where]))[where]
        async for _, record in read_to_end(consumer, {where: max(0, end - count)}):
            yield record

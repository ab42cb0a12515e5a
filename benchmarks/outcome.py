"""A hash of what a run came to, equal over runs of one workload: profile ids, which hold the topic's id, stand aside."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import msgspec

from cdp_stream.model.profile import ProfileState
from cdp_stream.stages.graph import GraphDraft
from cdp_stream.stages.profile_states import ProfileDraft
from cdp_stream.store.rocks import RocksStore


def graph_hash(graph: GraphDraft) -> tuple[str, int]:
    """Of every profile: its identifiers with their times and messages, what it absorbed, who it is linked to."""
    every = {profile.id: profile for profile in graph.all_profiles()}
    names = {id_: min((m.type, m.value) for m in profile.mappings) for id_, profile in every.items()}
    rows = sorted(
        (
            profile.collection,
            names[profile.id],
            profile.created,
            [msgspec.to_builtins(mapping) for mapping in profile.mappings],
            profile.merges,
            len(profile.absorbed),
            sorted(names[link] for link in graph.links(profile.id)),
        )
        for profile in every.values()
    )
    return blake2b(msgspec.msgpack.encode(rows), digest_size=8).hexdigest(), len(rows)


def profiles_hash(profiles: Iterable[ProfileState]) -> tuple[str, int]:
    """Of every profile: its identifiers, the computed traits that it has, and the audiences it is a member of."""
    rows = sorted(
        (
            profile.collection,
            sorted((known.type, known.id) for known in profile.external_ids),
            sorted((key, repr(value)) for key, value in profile.computed.items() if value is not None),
            sorted(key for key, member in profile.memberships.items() if member),
        )
        for profile in profiles
    )
    return blake2b(msgspec.msgpack.encode(rows), digest_size=8).hexdigest(), len(rows)


def stored_graph(folder: Path) -> tuple[str, int]:
    """`graph_hash` of the state of stage identity that lies in this folder."""
    store = RocksStore(folder, read_only=True)
    try:
        return graph_hash(GraphDraft(store))
    finally:
        store.close()


def stored_profiles(folders: Iterable[Path]) -> tuple[str, int]:
    """`profiles_hash` over the states of all partitions of stage profiles."""
    found: list[ProfileState] = []
    for folder in folders:
        store = RocksStore(folder, read_only=True)
        try:
            found += ProfileDraft(store).all_profiles()
        finally:
            store.close()
    return profiles_hash(found)

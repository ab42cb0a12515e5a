"""A hash of what a run came to, equal over runs of one workload: profile ids, which hold the topic's id, stand aside."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from cdp_stream.model.graph import GraphProfile


def graph_hash(profiles: Iterable[GraphProfile]) -> tuple[str, int]:
    """Of every profile: its identifiers with their times and messages, what it absorbed, who it is linked to."""
    every = {profile.id: profile for profile in profiles}
    names = {id_: min((m.type, m.value) for m in profile.mappings) for id_, profile in every.items()}
    rows = sorted(
        (
            profile.collection,
            names[profile.id],
            profile.created,
            [msgspec.to_builtins(mapping) for mapping in profile.mappings],
            profile.merges,
            len(profile.absorbed),
            [names[link] for link in profile.links],
        )
        for profile in every.values()
    )
    return blake2b(msgspec.msgpack.encode(rows), digest_size=8).hexdigest(), len(rows)

"""Topology versions in the state of both stages: what a version is stored as, and how it is read back."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from cdp_stream.config.topology import Topology, canonical
from cdp_stream.errors import LogContradiction
from cdp_stream.model.ports import Store
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import CompiledTopology, compile_topology

_TOPOLOGY: Final = b"t"


class StoredVersion(Struct, frozen=True):
    """A topology version in the state: its canonical form, and from when on which audiences count events."""

    topology: dict[str, Any]
    since: dict[str, Instant]


def stored_version(raw: bytes) -> StoredVersion:
    """A topology version as the state has it. Formats 0 and 1 held the canonical form alone."""
    plain = msgspec.json.decode(raw)
    if "topology" not in plain:
        plain = {"topology": plain, "since": {}}
    return msgspec.convert(plain, StoredVersion)


def load_topology_version(store: Store, version: str) -> CompiledTopology:
    """A topology version that was once in force, from the state."""
    raw = store.get(_TOPOLOGY + version.encode())
    if raw is None:
        raise LogContradiction(f"topology version {version} is not in the state")
    stored = stored_version(raw)
    return compile_topology(Topology.from_canonical(stored.topology), since=stored.since)


def topology_write(topology: CompiledTopology) -> tuple[bytes, bytes]:
    """The state's pair for a topology version."""
    stored = StoredVersion(canonical(topology.topology), topology.since)
    return _TOPOLOGY + topology.version.encode(), msgspec.json.encode(stored)

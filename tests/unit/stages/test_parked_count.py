"""Profiles that wait: the barrier counts them, so that anyone can; and what a clock costs does not grow with them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from cdp_stream.config.topology import canonical, parse_topology
from cdp_stream.model.change import (
    Absorbed,
    Absorbs,
    Clock,
    ProfileChange,
    ProfileChanges,
    ProfileEvent,
    TopologyApplied,
)
from cdp_stream.model.ids import ProfileId
from cdp_stream.pipeline import CompiledTopology, compile_topology
from cdp_stream.stages.profile_shapes import ProfileStep, encode_changes
from cdp_stream.stages.profiles import ProfileStage
from cdp_stream.store.memory import MemoryStore

SPACE: dict[str, Any] = {"space": "s", "sources": [{"name": "web", "topic": "events"}]}
TOPOLOGY = compile_topology(parse_topology(SPACE))
LISTS = {
    "destinations": [{"name": "ads", "topic": "ads", "kind": "list", "sync_every": "1m"}],
    "audiences": [{"key": "a", "name": "A", "definition": "event('x').count() >= 1", "destinations": ["ads"]}],
}
A, B = ProfileId("use_a"), ProfileId("use_b")
WHEN: dict[str, Any] = {"message_id": "m", "time": 5}


class Partition:
    def __init__(self, number: int, topology: CompiledTopology = TOPOLOGY) -> None:
        self.stage = ProfileStage(MemoryStore(), number, 2)
        self.version = topology.version
        plain = canonical(topology.topology)
        self.take(TopologyApplied(index=0, record=0, now=1, version=self.version, topology=plain))

    def take(self, change: ProfileChange) -> ProfileStep:
        barrier = self.stage.barrier
        message = ProfileChanges(
            step=barrier.next_offset, previous=barrier.last_offset, topology_version=self.version, changes=[change]
        )
        return self.done(self.stage.decide([(barrier.next_offset, encode_changes(message))]))

    def done(self, step: ProfileStep | None) -> ProfileStep:
        assert step is not None
        self.stage.store.commit(step.writes)
        assert self.stage.states.parked_count() == self.stage.barrier.parked
        return step


def event(profile: ProfileId) -> ProfileEvent:
    return ProfileEvent(
        index=0, record=0, now=5, profile_id=profile, collection="users", type="track", created=5, **WHEN
    )


def test_a_survivor_waits_from_its_absorbs_to_the_last_shipment() -> None:
    first, second = Partition(0), Partition(1)
    first.take(event(A))
    second.take(event(B))
    second.take(Absorbs(index=0, record=0, now=6, profile_id=B, absorbed=(A,), **WHEN))
    assert 1 == second.stage.barrier.parked
    second.take(event(B))
    assert 1 == second.stage.barrier.parked
    (shipment,) = first.take(Absorbed(index=0, record=0, now=6, profile_id=A, into=B, **WHEN)).outputs
    second.done(second.stage.decide_shipments([(0, shipment.value)]))
    assert (0, 0) == (first.stage.barrier.parked, second.stage.barrier.parked)


def test_a_clock_costs_the_same_however_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = Partition(1, compile_topology(parse_topology(SPACE | LISTS)))
    for number in range(200):
        survivor = ProfileId(f"use_{number}")
        partition.take(event(survivor))
        absorbed = (ProfileId(f"use_of_{number}"),)
        partition.take(Absorbs(index=0, record=0, now=6, profile_id=survivor, absorbed=absorbed, **WHEN))
    assert 200 == partition.stage.barrier.parked
    partition.take(Clock(index=0, record=0, now=7))
    asked = Counter[bytes]()
    get = partition.stage.store.get

    def count(key: bytes) -> bytes | None:
        asked[key[:1]] += 1
        return get(key)

    monkeypatch.setattr(partition.stage.store, "get", count)
    for minutes in range(1, 11):
        partition.take(Clock(index=0, record=0, now=minutes * 60_000))
    assert asked.total() <= 10 * 10

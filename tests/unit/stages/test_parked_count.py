"""The barrier counts the profiles that wait, so that anyone can read the count without the state."""

from __future__ import annotations

from typing import Any

from cdp_stream.config.topology import canonical, parse_topology
from cdp_stream.model.change import Absorbed, Absorbs, ProfileChange, ProfileChanges, ProfileEvent, TopologyApplied
from cdp_stream.model.ids import ProfileId
from cdp_stream.pipeline import compile_topology
from cdp_stream.stages.profile_shapes import ProfileStep, encode_changes
from cdp_stream.stages.profiles import ProfileStage
from cdp_stream.store.memory import MemoryStore

TOPOLOGY = compile_topology(parse_topology({"space": "s", "sources": [{"name": "web", "topic": "events"}]}))
A, B = ProfileId("use_a"), ProfileId("use_b")
WHEN: dict[str, Any] = {"message_id": "m", "time": 5}


class Partition:
    def __init__(self, number: int) -> None:
        self.stage = ProfileStage(MemoryStore(), number, 2)
        plain = canonical(TOPOLOGY.topology)
        self.take(TopologyApplied(index=0, record=0, now=1, version=TOPOLOGY.version, topology=plain))

    def take(self, change: ProfileChange) -> ProfileStep:
        barrier = self.stage.barrier
        message = ProfileChanges(
            step=barrier.next_offset, previous=barrier.last_offset, topology_version=TOPOLOGY.version, changes=[change]
        )
        return self.done(self.stage.decide(barrier.next_offset, encode_changes(message)))

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
    second.done(second.stage.decide_shipment(0, shipment.value))
    assert (0, 0) == (first.stage.barrier.parked, second.stage.barrier.parked)

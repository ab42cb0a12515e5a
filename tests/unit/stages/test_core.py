"""The compiled core at its edges: what it does not understand goes back, nothing that is huge or deep stops it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cdp_stream.config.topology import parse_topology
from cdp_stream.model.change import NewExternalId, ProfileChanges, ProfileEvent, TopologyApplied
from cdp_stream.model.ids import ProfileId
from cdp_stream.model.profile import CustomTrait, ProfileState
from cdp_stream.pipeline import CompiledTopology, compile_topology
from cdp_stream.stages import native
from cdp_stream.stages.identity import BARRIER_KEY
from cdp_stream.stages.native import NATIVE
from cdp_stream.stages.orders import first_topology
from cdp_stream.stages.profile_shapes import ProfileStep, encode_changes
from cdp_stream.stages.profiles import ProfileStage
from cdp_stream.store.memory import MemoryStore
from cdp_stream.testing import TopologyDriver

NOW = 1_767_225_600_000
ID = ProfileId("use_1")
pytestmark = pytest.mark.skipif(NATIVE is None, reason="the core was not built: no Rust")


def topology_of(**sections: Any) -> CompiledTopology:
    plain = {"space": "core", "sources": [{"name": "web", "topic": "web"}], **sections}
    return compile_topology(parse_topology(plain))


def event(index: int = 0, **about: Any) -> ProfileEvent:
    fields = {"name": "A", "message_id": f"m{index}", "time": NOW, "now": NOW, **about}
    return ProfileEvent(index=index, record=index, profile_id=ID, collection="users", type="track", **fields)


class Walk:
    """One partition's stage, fed by hand."""

    def __init__(self, topology: CompiledTopology, *, compiled: bool = True) -> None:
        self.topology = topology
        self.stage = ProfileStage(MemoryStore(), 0, 1, compiled=compiled)
        self.offset = 0
        form = first_topology(topology, NOW).topology
        self.take(TopologyApplied(index=0, record=0, now=NOW, version=topology.version, topology=form))

    def take(self, *changes: Any) -> ProfileStep:
        message = ProfileChanges(
            step=self.offset, previous=self.offset - 1, topology_version=self.topology.version, changes=list(changes)
        )
        step = self.stage.decide([(self.offset, encode_changes(message))])
        assert step is not None
        self.offset += 1
        self.stage.store.commit({**step.writes, BARRIER_KEY: self.stage.encoded_barrier()})
        self.stage.states.committed()
        return step


COUNT = {"traits": [{"key": "k", "definition": "event('A').count()"}]}


def test_a_core_of_another_interface_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native._built() is NATIVE
    monkeypatch.setattr(NATIVE, "INTERFACE", native.INTERFACE + 1)
    assert native._built() is None
    monkeypatch.delattr(NATIVE, "INTERFACE")
    assert native._built() is None


@pytest.mark.parametrize("compiled", [True, False])
def test_what_the_core_cannot_read_of_a_profile_goes_back_with_all_that_was_not_written(*, compiled: bool) -> None:
    deep: Any = "at the bottom"
    for _ in range(200):
        deep = [deep]
    walk = Walk(topology_of(**COUNT), compiled=compiled)
    # As a room would leave it that has just done a change of the same step, such as a merge.
    walk.stage.states.put(
        ProfileState(id=ID, collection="users", created=NOW, custom={"c": CustomTrait(deep, NOW, "m")})
    )
    walk.take(event(traits={"d": 1}))
    stored = walk.stage.store.get(b"p" + ID.encode())
    assert stored is not None
    profile = msgspec.msgpack.decode(stored, type=ProfileState)
    assert profile.custom == {"c": CustomTrait(deep, NOW, "m"), "d": CustomTrait(1, NOW, "m0")}
    assert profile.computed == {"k": 1}


def test_the_core_takes_definitions_as_deep_as_the_language_allows() -> None:
    told = []
    text = "NOT " * 98 + "trait('c') = 1"
    for compiled in (True, False):
        driver = TopologyDriver(
            {
                "space": "core",
                "sources": [{"name": "web", "topic": "web"}],
                "audiences": [{"key": "k", "definition": text}],
            },
            compiled=compiled,
        )
        driver.put({"type": "identify", "messageId": "m", "userId": "u", "traits": {"c": 1}})
        told.append((driver.take("audience_changes"), driver.profiles()))
    assert told[0] == told[1]
    assert [row["change"] for row in told[0][0]] == ["entered"]


def many_keys(count: int) -> Walk:
    walk = Walk(topology_of(**COUNT))
    keys = {f"key-{number}": number for number in range(count)}
    walk.take(event(properties=keys, context={"n": keys}))
    # One that nothing is folded of, and that is only kept.
    walk.take(event(name="B", properties=keys))
    return walk


def many_ids(count: int) -> Walk:
    walk = Walk(
        topology_of(
            destinations=[{"name": "crm", "topic": "crm"}],
            traits=[{"key": "k", "definition": "event('A').count()", "destinations": ["crm"]}],
            audiences=[{"key": "a", "definition": "trait('k') >= 1", "destinations": ["crm"]}],
        )
    )
    ids = tuple(NewExternalId("email", f"e{number}", NOW) for number in range(count))
    walk.take(event(external_ids=ids))
    return walk


@pytest.mark.parametrize(("make", "count"), [(many_keys, 200_000), (many_ids, 50_000)])
def test_what_is_huge_costs_what_it_is_long_and_not_the_square_of_it(make: Callable[[int], Walk], count: int) -> None:
    began = time.process_time()
    make(count)
    assert time.process_time() - began < 10

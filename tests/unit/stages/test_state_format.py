"""A state of an older format is taken over, one of an unknown format refused; so are outputs of other decisions."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import orjson
import pytest
from aiokafka.structs import TopicPartition

from cdp_stream.errors import StateError
from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.model.ports import Store
from cdp_stream.stages import state_format
from cdp_stream.stages.entries import Slice, SourceSlice, records_crc
from cdp_stream.stages.identity import BARRIER_KEY, IdentityBarrier
from cdp_stream.stages.profile_shapes import ProfileBarrier
from cdp_stream.stages.records import LEDGER, OutputRecord
from cdp_stream.store.memory import MemoryStore
from cdp_stream.stream.log import World
from cdp_stream.stream.owner import Owner
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import TopicNames
from cdp_stream.testing import local
from cdp_stream.testing.local import LocalSpace
from cdp_stream.testing.simulation.broker import SimulatedBroker
from cdp_stream.testing.simulation.client import Network, SimulatedLog
from cdp_stream.testing.simulation.invariants import Violations
from cdp_stream.testing.simulation.loop import VirtualLoop
from cdp_stream.testing.simulation.process import Process
from cdp_stream.testing.simulation.state_checks import check_both, check_graph, check_partition

DATA = Path(__file__).parents[2] / "data"
SAMPLES = sorted(DATA.glob("state-format-*.jsonl"))
PARTITIONS = 2


def stored(sample: Path) -> tuple[dict[str, Store], list[dict[str, Any]]]:
    """The stores of a sample, and the profiles that were read from them when it was written."""
    stores: dict[str, Store] = {}
    profiles = []
    for line in sample.read_bytes().splitlines():
        row = orjson.loads(line)
        if "profile" in row:
            profiles.append(row["profile"])
        else:
            pair = {b64decode(row["key"]): b64decode(row["value"])}
            stores.setdefault(row["store"], MemoryStore()).commit(pair)
    return stores, profiles


def opened(stores: dict[str, Store], monkeypatch: pytest.MonkeyPatch, sink: list[OutputRecord]) -> LocalSpace:
    listed = [stores[f"profiles-{number}"] for number in range(PARTITIONS)]
    monkeypatch.setattr(local, "open_stores", lambda *_, **__: (stores["identity-0"], listed))
    return LocalSpace(PARTITIONS, sink.append)


def test_there_is_a_sample_of_every_format_that_is_read() -> None:
    formats = range(state_format.STATE_FORMAT_OLDEST, state_format.STATE_FORMAT + 1)
    assert [f"state-format-{number}.jsonl" for number in formats] == [sample.name for sample in SAMPLES]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_stored_state_is_read_and_goes_on(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores, expected = stored(sample)
    sink: list[OutputRecord] = []
    space = opened(stores, monkeypatch, sink)
    assert expected == list(space.all_profiles())
    known = next(one for one in expected if any(i["type"] == "user_id" for i in one["external_ids"]))
    user_id = next(i["id"] for i in known["external_ids"] if i["type"] == "user_id")
    event = {"type": "track", "event": "Order Completed", "userId": user_id, "properties": {"revenue": 900, "items": 3}}
    place = SourceRef("file", "file", 0, space.identity.source_position("file", 0).offset)
    record = RawRecord(place, space.now + 1, None, orjson.dumps(event), True)
    part = SourceSlice("file", "file", 0, place.offset, place.offset + 1, 1, records_crc([record]))
    space.take(space.next_offset, space.now + 1, Slice(space.now + 1, (part,)), [record])
    assert {"trait-changes", "audience-changes", "destinations/crm"} <= {output.topic for output in sink}
    view = space.find(known["id"])
    assert view is not None
    assert "big_spenders" in view["audiences"]
    violations = Violations()
    check_graph(stores["identity-0"], violations)
    for number in range(PARTITIONS):
        check_partition(stores[f"profiles-{number}"], number, PARTITIONS, violations)
    assert check_both(stores["identity-0"], [stores[f"profiles-{number}"] for number in range(PARTITIONS)], violations)
    assert [] == violations.found
    barrier = msgspec.msgpack.decode(stores["identity-0"].get(BARRIER_KEY) or b"", type=IdentityBarrier)
    assert (state_format.STATE_FORMAT, state_format.DECISION_VERSION) == (barrier.state_format, barrier.decided_by)


@pytest.mark.parametrize("kind", [IdentityBarrier, ProfileBarrier])
def test_a_newer_format_is_refused_whatever_the_rest_looks_like(kind: type[Any]) -> None:
    raw = msgspec.msgpack.encode({"state_format": 99, "outputs": "something else by then"})
    with pytest.raises(StateError, match=r"format 99, written by a later version .* Start the later version again"):
        state_format.decode_barrier(raw, kind)


def test_a_format_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_format, "STATE_FORMAT_OLDEST", 1)
    with pytest.raises(
        StateError, match=r"format 0; this version of cdp-stream reads formats 1 to 3\. Start a version"
    ):
        state_format.decode_barrier(msgspec.msgpack.encode({"next_offset": 3}), IdentityBarrier)


def test_a_barrier_that_is_none_is_named() -> None:
    for raw in (b"\xc1", b"", msgspec.msgpack.encode({"next_offset": "three"})):
        with pytest.raises(StateError, match="cannot be read"):
            state_format.decode_barrier(raw, IdentityBarrier)


def take_over(decided_by: int, sent: Sequence[str]) -> None:
    """Claim a stage partition whose stored barrier says `decided_by`, with these outputs in the log beyond it."""
    names = TopicNames("space", "", 1, (), ())
    loop = VirtualLoop()
    broker = SimulatedBroker(Random(1), lambda: 1)
    for where in names.outputs("identity", 0):
        broker.create(where.topic, 1)
    ledger, changelog = TopicPartition(names.of_role(LEDGER), 0), TopicPartition(names.changelog("identity"), 0)
    barrier = IdentityBarrier(next_offset=5, state_format=state_format.STATE_FORMAT, decided_by=decided_by)
    broker.append(changelog, [(BARRIER_KEY, msgspec.msgpack.encode(barrier), None)])
    broker.append(ledger, [(b"k", b"{}", src) for src in sent])
    log = SimulatedLog(broker, Network(Random(2), 0, 0), Process("p", None, None, 0))

    async def ours(_: int) -> bool:
        return True

    async def scenario() -> None:
        world = World(log, lambda _: MemoryStore(), lambda: 1, ours)
        owner = Owner(Settings("simulated:1", data_dir="/nowhere"), names, "identity", 0, world)
        store = await owner.claim_and_restore()
        found = state_format.decode_barrier(store.get(BARRIER_KEY), IdentityBarrier)
        await owner.catch_up(found, lambda src: int(src.split("/")[2]) < found.next_offset)

    try:
        loop.run_until_complete(scenario())
    finally:
        loop.close()


def test_outputs_in_flight_of_other_decisions_are_refused_with_the_way_on() -> None:
    with pytest.raises(
        StateError, match=r"1 outputs were sent and not stored .* decision version 7; .*Start the former"
    ):
        take_over(7, ["identity/0/4/0/0", "identity/0/5/0/0"])


def test_other_decisions_that_are_stored_whole_are_gone_on_from() -> None:
    take_over(7, ["identity/0/4/0/0"])
    take_over(state_format.DECISION_VERSION, ["identity/0/5/0/0"])

"""The compiled walk equals the one in Python byte for byte, or leaves the event to it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any

import msgspec
import pytest
from counting_store import CountingStore
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lying import lying

from cdp_stream.config.topology import Topology
from cdp_stream.errors import LogContradiction
from cdp_stream.model.change import ProfileChanges
from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.model.time import format_instant
from cdp_stream.pipeline import CompiledTopology, compile_topology
from cdp_stream.stages.entries import Slice, SourceSlice, records_crc
from cdp_stream.stages.identity import IdentityStage, IdentityStep
from cdp_stream.stages.known import COMPILED, Core, core_of
from cdp_stream.stages.native import NATIVE
from cdp_stream.stages.orders import first_topology
from cdp_stream.stages.profile_shapes import encode_changes
from cdp_stream.store.memory import MemoryStore
from cdp_stream.testing.people import People

NOW = 1_780_000_000_000
PLAIN: dict[str, Any] = {}
STRICT: dict[str, Any] = {
    "identifiers": [
        {"type": "user_id", "limit": 2},
        {"type": "loyalty_id", "limit": 3, "keys": ["loyalty_id"]},
        {"type": "anonymous_id", "limit": 3, "blocked_values": [{"pattern": "^a-3"}]},
        {"type": "email", "enabled": False},
    ],
    "blocked_values": [{"exact": "u-2"}, {"pattern": "^nobody"}],
    "email_from_properties": False,
}


def topology_of(identity: dict[str, Any], **more: Any) -> CompiledTopology:
    plain = {"space": "s", "sources": [{"name": "web", "topic": "t"}], "partitions": 4, "identity": identity, **more}
    return compile_topology(Topology.model_validate(plain))


TIGHT: dict[str, Any] = {
    "identifiers": [
        {"type": "user_id", "limit": 1},
        {"type": "anonymous_id", "limit": 2, "period": "daily"},
        {"type": "loyalty_id", "limit": 2, "period": "monthly", "keys": ["loyalty_id"]},
        {"type": "email", "limit": 2},
    ],
    "merges_max": 1,
    "mappings_max": 4,
}
MINIMAL: dict[str, Any] = {**TIGHT, "demotion": "minimal", "merges_max": 5, "mappings_max": 12, "dedupe_horizon": "2s"}
TOPOLOGIES = [
    topology_of(PLAIN),
    topology_of(STRICT),
    topology_of(TIGHT),
    topology_of(MINIMAL, retain={"context": ["page", "traits", "ip", "device", "groupId"]}),
]


class Walk:
    """An identity stage over a store in memory, fed by hand."""

    def __init__(self, topology: CompiledTopology, core: Core | None, topic: str) -> None:
        self.topic, self.core = topic, core
        self.store = MemoryStore()
        self.offset = self.position = 0
        self._uncommitted: list[IdentityStep] = []
        self.restart()
        self._store(self.stage.decide(0, NOW, first_topology(topology, NOW), []))

    def restart(self) -> None:
        """Nothing is left but what was committed."""
        assert not self._uncommitted
        self.stage = IdentityStage(self.store, 4, self.core)

    def take(
        self, values: list[bytes | None], timestamps: list[int], *, identity: bool = True, commit: bool = True
    ) -> tuple[Any, ...]:
        records: Sequence[RawRecord] = [
            RawRecord(SourceRef(self.topic, "id", 0, self.position + number), timestamp, None, value, identity)
            for number, (value, timestamp) in enumerate(zip(values, timestamps, strict=True))
        ]
        if self.core is not None and self.offset % 2:
            records = lying(records, random.Random(self.position))
        end = self.position + len(records)
        part = SourceSlice(self.topic, "id", 0, self.position, end, len(records), records_crc(records))
        self.position = end
        with pytest.raises(LogContradiction):
            # Nothing of a step that is given up is left behind.
            self.stage.decide(self.offset, NOW, Slice(NOW, (msgspec.structs.replace(part, crc=part.crc ^ 1),)), records)
        step = self.stage.decide(self.offset, NOW, Slice(NOW, (part,)), records)
        changes = {
            partition: encode_changes(
                ProfileChanges(step=step.offset, previous=-1, topology_version=step.topology_version, changes=of)
            )
            for partition, of in sorted(step.changes.items())
        }
        self._store(step, commit=commit)
        return changes, step.outputs, dict(step.tally), sorted(step.writes.items()), step.barrier

    def _store(self, step: IdentityStep, *, commit: bool = True) -> None:
        """As the worker does: the next step may be decided before this one is committed."""
        self.offset = step.offset + 1
        self._uncommitted.append(step)
        while self._uncommitted and (commit or len(self._uncommitted) > 2):
            first = self._uncommitted.pop(0)
            self.store.commit({**first.writes, b"barrier": self.stage.encode_barrier(first)})
            self.stage.graph.committed()


TINY = None if NATIVE is None else core_of(NATIVE, (128 * 300, 2_000, 0))
"""Remembers a few hundred ids and a handful of profiles."""
NOTHING = None if NATIVE is None else core_of(NATIVE, (0, 0, 0))


class LeavesAll:
    """A walk that leaves every record to Python, which then works on the compiled graph alone."""

    def __init__(self, *_: Any) -> None:
        self.now = self.index = self.next = 0

    def begin(self, _step: int, _version: str, records: Any, times: tuple[int, int], _given: Any) -> None:
        self.records, (self.now, self.until), self.next = records, times, 0

    def advance(self, index: int) -> int:
        self.index, number = index, self.next
        self.next += 1
        if number < len(self.records):
            self.now = max(self.now, min(self.records[number].timestamp, self.until))
        return number

    def take_tally(self) -> list[Any]:
        return []


LEFT = None if COMPILED is None else COMPILED._replace(walk=LeavesAll)


def assert_same(
    topology: CompiledTopology,
    slices: list[list[bytes | None]],
    seed: int = 0,
    topic: str = "t",
    cores: tuple[Core | None, ...] = (COMPILED, NOTHING),
) -> int:
    """Both walks over the same slices; how many events were left to Python."""
    slow = Walk(topology, None, topic)
    quick = [Walk(topology, core, topic) for core in cores]
    left = 0
    chance = random.Random(seed)
    for values in slices:
        timestamps = [NOW + chance.randint(-5_000, 5_000) for _ in values]
        identity, commit = chance.random() < 0.9, chance.random() < 0.5
        expected = slow.take(values, timestamps, identity=identity, commit=commit)
        for walk in quick:
            left_to_python = counted(walk.stage)
            assert walk.take(values, timestamps, identity=identity, commit=commit) == expected
            left += left_to_python()
            if commit and chance.random() < 0.2:
                walk.restart()
            if chance.random() < 0.3:
                walk.stage.graph.read_back()
        if commit and chance.random() < 0.2:
            slow.restart()
    return left


def counted(stage: IdentityStage) -> Callable[[], int]:
    """How many records the compiled walk leaves to Python in the next slice."""
    walk, found = stage.walk, [0]

    class Counting:
        now = property(lambda _: walk.now)
        index = property(lambda _: walk.index)

        def begin(self, *arguments: Any) -> None:
            self.count = len(arguments[2])
            walk.begin(*arguments)

        def advance(self, index: int) -> int:
            number = walk.advance(index)
            found[0] += number < self.count
            return number

        def take_tally(self) -> Any:
            stage.walk = walk
            return walk.take_tally()

    if walk is not None:
        stage.walk = Counting()
    return lambda: found[0]


def owned(number: int) -> tuple[bytes, bytes]:
    return b"ouuser_id\0u-%06d" % number, b"use_%027d" % number


needs_compiled = pytest.mark.skipif(COMPILED is None, reason="the compiled core was not built: no Rust")


def test_the_core_is_built_where_a_build_must_have_it() -> None:
    assert COMPILED is not None or not os.environ.get("CI")


numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-300, 300),
    st.floats(),
    st.sampled_from([0.1, -0.0, 1e15, 1e16, 1e-4, 0.001, 12.5, 1.10, 123456789012345.6, 5e-324]),
)
texts = st.one_of(st.text(max_size=8), st.sampled_from(["a", "é", "\x7f", "\u2028", "a/b", '"', "\\", "0-0", "Ω" * 40]))
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
ids = st.sampled_from(
    ["u-1", "u-2", "u-3", "a-1", "a-2", "a-31", "nobody-1", "", "0-0", "anonymous", None, 7, 7.0, True]
)
instants = st.one_of(
    st.sampled_from(
        [
            "2026-05-28T10:00:00.000Z",
            "2026-05-28T10:00:01Z",
            "2026-02-28T23:59:59.999Z",
            "2024-02-29T00:00:00.000Z",
            "2023-02-29T00:00:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "2000-03-01T00:00:00.000Z",
            "2100-12-31T10:00:00.000Z",
            "2026-05-28T10:00:00+02:00",
            "2026-05-28T24:00:00.000Z",
            "2026-05-28 10:00:00",
            "2026-05-28T10:00:00.12Z",
            "2026-05-28T10:00:00,123Z",
            "",
            None,
            5,
        ]
    ),
    st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z"),
)
objects = st.dictionaries(
    st.sampled_from(["email", "loyalty_id", "loyaltyId", "x", "page_name", "é"]), ids | values, max_size=4
)
devices = st.fixed_dictionaries(
    {"type": st.sampled_from(["ios", "android", "tv", None, 1])},
    optional={
        "id": ids,
        "token": ids,
        "advertisingId": ids,
        "adTrackingEnabled": st.sampled_from([True, False, None, "true"]),
        "model": values,
    },
)
contexts = st.dictionaries(
    st.sampled_from(["traits", "integrations", "Braze", "groupId", "externalIds", "page", "ip"]),
    values | objects,
    max_size=1,
).flatmap(lambda context: st.sampled_from([context, {}]) | devices.map(lambda device: {**context, "device": device}))
events = st.fixed_dictionaries(
    {"type": st.sampled_from(["track", "page", "screen", "identify", "track", "group", "alias", "x", None])},
    optional={
        "messageId": st.sampled_from(["m-1", "m-2", "m-3", "m-é", "m" * 100, "m" * 101, "", None, 5]),
        "userId": ids,
        "anonymousId": ids,
        "event": st.sampled_from(["Order Completed", "é", "", None, 1]),
        "name": st.sampled_from(["Home", "Ö", "", None, 1]),
        "properties": objects | values,
        "traits": objects | values,
        "context": contexts | values,
        "integrations": st.sampled_from([{}, {"Personas": False}, {"All": True}, None, 1]),
        "timestamp": instants,
        "originalTimestamp": instants,
        "sentAt": instants,
        "receivedAt": instants,
        "groupId": ids,
        "previousId": ids,
        "channel": values,
    },
)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """An event as JSON, sometimes with white space, escapes, a key twice, or broken bytes."""
    event = draw(events)
    raw = json.dumps(
        event,
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", ":\n")])),
    ).encode("utf-8", "surrogatepass")
    kind = draw(st.integers(0, 19))
    if kind == 0:
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=3)) + raw[at + draw(st.integers(0, 3)) :]
    elif kind == 1:
        raw = raw[:-1] + b',"userId":"u-1","properties":{"x":1,"x":2.50}}'
    elif kind == 2:
        raw = raw[: draw(st.integers(0, len(raw)))]
    return raw


STARTS = [
    b'{"type":"identify","messageId":"s-1","userId":"u-1","anonymousId":"a-1","traits":{"email":"u-1","loyalty_id":"u-3"}}',
    b'{"type":"identify","messageId":"s-2","userId":"u-2","anonymousId":"a-2"}',
    b'{"type":"track","event":"E","messageId":"s-3","anonymousId":"a-31","properties":{"email":"a-1"}}',
    b'{"type":"identify","messageId":"s-4","userId":"u-3"}',
    b'{"type":"screen","messageId":"s-5","userId":"u-1","context":{"device":{"type":"ios","id":"a-1","token":"a-2"}}}',
    b'{"type":"screen","messageId":"s-6","userId":"u-1","context":{"device":{"type":"android","advertisingId":"a-1",'
    b'"adTrackingEnabled":true}}}',
]
KNOWN = b'{"type":"track","event":"E","messageId":"k","userId":"u-1","properties":%s,"timestamp":"2026-05-28T10:00:00.000Z"}'


@needs_compiled
@settings(max_examples=400)
@given(st.sampled_from(TOPOLOGIES), st.lists(records(), min_size=1, max_size=8), st.integers(0, 99))
@example(TOPOLOGIES[0], [KNOWN % b'{"x":1.10,"y":0.0001,"z":-0,"w":[1, 2],"v":1e2}'], 0)
@example(TOPOLOGIES[0], [KNOWN % b"{ }"], 0)
@example(TOPOLOGIES[0], [KNOWN % b'{"x":12345678901234567890}'], 0)
@example(TOPOLOGIES[0], [KNOWN % b'{"x":"\xff"}'], 0)
@example(TOPOLOGIES[0], [KNOWN % b'{"x":"\\ud800"}'], 0)
@example(TOPOLOGIES[0], [KNOWN % (b'{"x":' * 62 + b"1" + b"}" * 62)], 0)
def test_any_records_give_the_same_step(topology: CompiledTopology, stream: list[bytes], seed: int) -> None:
    assert_same(topology, [list(STARTS), [*stream, None], list(stream)], seed)


@needs_compiled
@settings(max_examples=300)
@given(objects | values.filter(lambda value: isinstance(value, dict)), st.booleans(), st.booleans())
def test_properties_are_told_as_the_encoder_writes_them(properties: Any, ascii_only: bool, spaced: bool) -> None:
    text = json.dumps(properties, ensure_ascii=ascii_only, separators=(", ", ": ") if spaced else (",", ":"))
    raw = KNOWN % text.encode("utf-8", "surrogatepass")
    page = raw.replace(b'"track","event":"E"', b'"page","name":"Home"')
    assert_same(TOPOLOGIES[0], [list(STARTS), [raw, page.replace(b'"k"', b'"l"')]])


def numbered(letter: str, most: int) -> st.SearchStrategy[str | None]:
    return st.none() | st.integers(0, most).map(lambda number: f"{letter}-{number}-é")


new_events = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["track", "page", "screen", "identify", "identify", "group"]),
        "messageId": st.integers(0, 60).map(lambda number: f"m-{number}"),
        "event": st.just("Order Completed"),
        "userId": numbered("u", 4),
        "anonymousId": numbered("a", 40),
        "groupId": st.integers(0, 3).map(lambda number: f"g-{number}"),
    },
    optional={
        "properties": st.fixed_dictionaries({"email": numbered("e", 9)}, optional={"loyaltyId": numbered("l", 9)}),
        "traits": st.fixed_dictionaries({"loyalty_id": numbered("l", 9)}, optional={"loyaltyId": numbered("l", 9)}),
        "context": st.fixed_dictionaries(
            {},
            optional={
                "device": st.fixed_dictionaries({"type": st.just("ios"), "id": numbered("d", 9)}),
                "traits": st.fixed_dictionaries({"email": numbered("e", 9), "loyalty_id": st.integers(0, 20)}),
                "page": st.dictionaries(texts, values, max_size=2),
            },
        ),
        "timestamp": st.integers(0, NOW).map(format_instant)
        | st.sampled_from(["2026-05-28T10:00:00Z", "2026-05-27T09:00:00.5+02:00"]),
    },
)


def without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_none(held) for key, held in value.items() if held is not None}
    return value


@needs_compiled
@settings(max_examples=300)
@given(
    st.sampled_from(TOPOLOGIES), st.lists(new_events, min_size=2, max_size=40), st.integers(1, 20), st.integers(0, 99)
)
def test_new_identifiers_give_the_same_graph_rows_and_changes(
    topology: CompiledTopology, stream: list[Any], step: int, seed: int
) -> None:
    raw: list[bytes | None] = [json.dumps(without_none(event), ensure_ascii=False).encode() for event in stream]
    assert_same(topology, [raw[start : start + step] for start in range(0, len(raw), step)], seed)


@needs_compiled
@settings(max_examples=60)
@given(st.sampled_from(TOPOLOGIES), st.integers(0, 2**32), st.integers(5, 60))
def test_mergers_demotions_and_accounts_give_the_same_graph_rows_and_changes(
    topology: CompiledTopology, seed: int, step: int
) -> None:
    raw: list[bytes | None] = list(islice(storm(random.Random(seed)), 400))
    slices = [raw[start : start + step] for start in range(0, len(raw), step)]
    assert_same(topology, slices, seed, cores=(COMPILED, TINY, LEFT))


def storm(chance: random.Random) -> Iterator[bytes]:
    """Few people on few devices: nearly every event changes something."""
    for number in count():
        event: dict[str, Any] = {"type": "identify", "messageId": f"m-{number - chance.randrange(2)}"}
        if chance.random() < 0.7:
            event["anonymousId"] = f"a-{chance.randrange(60)}"
        if chance.random() < 0.5:
            event["userId"] = f"u-{chance.randrange(30)}"
        if chance.random() < 0.2:
            event["traits"] = {"email": f"e-{chance.randrange(40)}", "loyaltyId": chance.randrange(20)}
        if chance.random() < 0.08:
            event |= {"type": "group", "groupId": f"g-{chance.randrange(4)}", "traits": {"plan": "pro"}}
        event["timestamp"] = format_instant(NOW - chance.randrange(60) * 86_400_000)
        yield json.dumps(event).encode()


@needs_compiled
def test_a_topic_is_named_in_the_ledger_as_the_encoder_writes_it() -> None:
    raw = b'{"type":"page","messageId":"q","anonymousId":"a-7"}'
    assert assert_same(TOPOLOGIES[0], [[raw]], topic='a"\\\n\u00e9/\x7f.jsonl') == 0


@needs_compiled
def test_a_clickstream_gives_the_same_steps_and_is_hardly_left_to_python() -> None:
    lines = list(People(7, 60).lines(4_000))
    slices: list[list[bytes | None]] = [list(lines[start : start + 250]) for start in range(0, 4_000, 250)]
    assert assert_same(TOPOLOGIES[0], slices, cores=(COMPILED,)) < 60
    assert_same(TOPOLOGIES[0], slices, cores=(TINY, NOTHING, LEFT))


PIECES = [
    b'"',
    b"\\",
    b"\\u00e9",
    b"\\ud83d\\ude00",
    b"{",
    b"}",
    b"[",
    b",",
    b":",
    b"1e5",
    b"-0",
    b"0.10",
    b"null",
    b"\xff",
    b" ",
]
FIELDS = [b'"userId":null,', b'"traits":{"email":7},', b'"groupId":"g",', b'"context":{"page":{"a":1.50},"ip":"1"},']


def damaged(line: bytes, chance: random.Random) -> bytes:
    """A record with a few bytes gone, put in, or changed."""
    raw = bytearray(line)
    for _ in range(chance.randrange(3)):
        at = chance.randrange(len(raw) + 1)
        match chance.randrange(4):
            case 0:
                del raw[at : at + chance.randrange(1, 4)]
            case 1:
                raw[at:at] = chance.choice(PIECES)
            case 2:
                raw[at : at + 1] = bytes([chance.randrange(256)])
            case _:
                after = raw.find(b",", at) + 1
                raw[after:after] = chance.choice(FIELDS)
    return bytes(raw)


@needs_compiled
@pytest.mark.parametrize("number", range(len(TOPOLOGIES)))
def test_a_damaged_clickstream_gives_the_same_steps(number: int) -> None:
    chance = random.Random(number)
    lines = [damaged(line, chance) for line in People(number, 40).lines(2_000)]
    assert_same(TOPOLOGIES[number], [list(lines[start : start + 200]) for start in range(0, 2_000, 200)])


@needs_compiled
def test_owners_that_were_read_back_between_steps_are_not_asked_for() -> None:
    assert NATIVE is not None
    store = CountingStore()
    store.commit(dict(map(owned, range(10_000))))
    graph = NATIVE.IdentityGraph(store, 10_000, 0, (1 << 20, 0, 0))
    graph.put_owner("users", "user_id", "u-000001", owned(2)[1].decode())
    pieces = 1
    while graph.read_back():
        pieces += 1
    assert pieces > 2, "a worker is not to stand still for all of it"
    before = store.asked
    assert graph.owner("users", "user_id", "u-000001") == owned(2)[1].decode(), "what has come since is newer"
    assert graph.owner("users", "user_id", "u-009999") == owned(9_999)[1].decode()
    assert store.asked == before

"""The compiled core decides as the rooms in Python do: byte for byte, whatever is declared, comes, and is asked for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import cdp_stream.testing.driver as driver_module
from cdp_stream.config.topology import Audience, Trait
from cdp_stream.errors import Problem, TopologyError
from cdp_stream.language.computations import body_of
from cdp_stream.language.parse import parse_definition
from cdp_stream.model.ids import ProfileId
from cdp_stream.pipeline import Retention
from cdp_stream.stages.history import cut
from cdp_stream.stages.identity import BARRIER_KEY
from cdp_stream.stages.native import NATIVE
from cdp_stream.stages.profile_shapes import ProfileStep
from cdp_stream.stages.profile_work import CoreRun, PartitionWork
from cdp_stream.stages.profiles import ProfileStage
from cdp_stream.stages.records import SHIPMENTS, OutputRecord
from cdp_stream.store.memory import MemoryStore
from cdp_stream.testing import TopologyDriver
from cdp_stream.testing.local import LocalSpace

needs_core = pytest.mark.skipif(NATIVE is None, reason="the core was not built: no Rust")
START = datetime(2026, 1, 1, tzinfo=UTC)
EXAMPLES = max(80, settings().max_examples)
"""More with HYPOTHESIS_PROFILE=long."""
_HISTORY = b"h"
encode = msgspec.msgpack.Encoder().encode


def test_the_core_is_built_where_a_build_must_have_it() -> None:
    assert NATIVE is not None or not os.environ.get("CI")


# Two stages for each partition, which are held to each other.


COUNTS = Counter[str]()
"""How many changes the core did, how many events the rooms beside it, what the core fired, and which histories it had cut."""


class Twins(LocalSpace):
    """Every partition's stage twice, with the core and without. What is put in is put into both, what comes out is compared.

    Messages and shipments are under way for as long as chance will have it; each partition's keep their order.
    """

    draw: Random
    haste: float
    restarts: float
    looks: float

    def __init__(self, partitions: int, *arguments: Any, **options: Any) -> None:
        super().__init__(partitions, *arguments, **options)
        self.plain = [ProfileStage(MemoryStore(), n, partitions, compiled=False) for n in range(partitions)]
        self.kept: dict[int, list[tuple[int, bytes]]] = {}
        self.held: list[OutputRecord] = []

    def hand_over(self, partition: int, offset: int, raw: bytes, then: list[OutputRecord]) -> None:
        self.kept.setdefault(partition, []).append((offset, raw))
        if self.draw.random() < self.haste:
            self._take_kept(partition, then)

    def _take_kept(self, partition: int, then: list[OutputRecord]) -> None:
        messages = self.kept.pop(partition, [])
        self._both(partition, lambda stage: stage.decide(messages), then)

    def deliver(self, shipments: list[OutputRecord]) -> None:
        self.held.extend(shipments)
        while self.held and self.draw.random() < self.haste:
            self._deliver_any()

    def rest(self) -> None:
        """Nothing is under way any more."""
        for partition in range(self.partitions):
            self._take_kept(partition, self.held)
        while self.held:
            self._deliver_any()

    def _deliver_any(self) -> None:
        firsts: dict[tuple[str, int], int] = {}
        for number, shipment in enumerate(self.held):
            firsts.setdefault((shipment.src.split("/")[1], shipment.partition), number)
        shipment = self.held.pop(self.draw.choice(list(firsts.values())))
        offset = self.plain[shipment.partition].barrier.shipments_next
        both: list[OutputRecord] = []
        self._both(shipment.partition, lambda stage: stage.decide_shipments([(offset, shipment.value)]), both)
        self.held.extend(both)

    def _both(self, partition: int, decide: Callable[[ProfileStage], ProfileStep | None], then: list[Any]) -> None:
        steps = []
        for stages in (self.profiles, self.plain):
            outputs, tally = list[OutputRecord](), Counter[tuple[str, ...]]()
            while (step := decide(stages[partition])) is not None:
                stage = stages[partition]
                tally.update(step.tally)
                outputs += step.outputs
                stage.store.commit({**step.writes, BARRIER_KEY: stage.encoded_barrier()})
                stage.states.committed()
                if self.draw.random() < self.restarts:
                    stages[partition] = ProfileStage(
                        stage.store, partition, self.partitions, compiled=stages is self.profiles
                    )
            # At which moment a history is cut depends on who had the profile, and so does how much is cut then.
            tally.pop(("limit", "history"), None)
            steps.append((outputs, tally))
        assert steps[0] == steps[1]
        self.tally.update(steps[0][1])
        for record in steps[0][0]:
            (then.append if record.topic == SHIPMENTS else self._sink)(record)
        if self.draw.random() < self.looks:
            self._look(partition)
        assert self._stored(self.profiles[partition]) == self._stored(self.plain[partition])

    def _stored(self, stage: ProfileStage) -> dict[bytes, bytes]:
        return {key: value for key, value in stage.store.scan(b"") if not key.startswith(_HISTORY)}

    def _look(self, partition: int) -> None:
        """Somebody reads profiles: they change hands."""
        known = [profile_id for profile_id, _ in profile_views(self.plain[partition])]
        for profile_id in self.draw.sample(known, self.draw.randint(0, len(known))):
            one, other = (stages[partition].states.get(profile_id) for stages in (self.profiles, self.plain))
            assert encode(one) == encode(other)
            if self.draw.random() < 0.5:
                self.profiles[partition].states.histories.of(profile_id)

    def histories(self) -> list[Any]:
        """Every profile's history as it is after a cut, with the core and without."""
        found: list[Any] = []
        for stages in (self.profiles, self.plain):
            found.append({})
            for stage in stages:
                version = stage.barrier.topology_version
                retention = stage.work.topology(version).retention if version else Retention(0, 0)
                for profile_id, _ in profile_views(stage):
                    found[-1][profile_id] = cut(stage.states.histories.of(profile_id), retention, stage.barrier.now)[0]
        return found


def profile_views(stage: ProfileStage) -> Iterator[tuple[ProfileId, Any]]:
    for profile_id in list(stage.states.ids_after("")):
        yield profile_id, stage.states.get(profile_id)


# Definitions: the whole language, as texts.

EVENTS = ["A", "B", "Page Viewed", "Screen Viewed"]
PATHS = [
    "x",
    "n.x",
    "items.$",
    "items.$.x",
    "items.$.n.x",
    "tags.$.$",
    "name",
    "page_name",
    "when",
    "n.when",
    r"a\.b",
    "$",
]
CUSTOM = ["c", "c.x", "c.$", "c.$.x", "plan", "plan.n.x", "renewal", "renewal.$", "wide"]
TEXTS = [
    "007",
    "7",
    "7.0",
    "1e3",
    "1E+3",
    "-0",
    "-0.0",
    "+7",
    "0.30000000000000004",
    "1e300",
    "1e400",
    "5e-324",
    "1e-400",
    "9223372036854775808",
    "18446744073709551616",
    "1" * 40,
    "-" + "9" * 40,
    "1" * 64,
    "1" * 65,
    "1." + "3" * 60,
    " 7",
    "7 ",
    "\u0667",
    "1_0",
    "nan",
    "inf",
    "0x1",
    "1.",
    ".5",
    "",
    "x",
    "xy",
    "X",
    "\u00e9",
    "\U0001f600",
    "\uffff",
    "a\x00b",
    "\x7f\x1f",
    '"',
    "\\",
    "true",
    "null",
    "[]",
    '["x"]',
    '{"x":1}',
    "x" * 300,
]
DATES = [
    "2026-01-01T00:00:00Z",
    "2026-01-01T01:00:00.5Z",
    "2026-01-01T02:00:00.123456789+01:00",
    "2026-01-01T00:00-0130",
    "2025-12-31T24:00:00Z",
    "2026-01-01T00:00:60Z",
    "2026-01-01T23:59:59+23:59",
    "2026-01-01T00:00:00+24:00",
    "2026-01-01T00:00:00+00:60",
    "2026-02-30T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999Z",
    "9999-12-31T23:59:59.999-23:59",
    "0000-01-01T00:00:00Z",
    "2026-01-01",
    "2026-01-01T00:00:00",
    "2024-02-29T12:00:00Z",
    "2026-01-01T03:00:00z",
    "2026-01-01T04:00:00.1234567890Z",
    "2026-01-01T00:00:00 Z",
    "2026-01-01T05:00Z",
    "2026-01-01T00:00:00-00:00",
    "2026-01-01T00:00:00+99:99",
    "-026-01-01T00:00:00Z",
    "2026-13-01T00:00:00Z",
]
NUMBERS: list[Any] = [
    0,
    1,
    2,
    7,
    -1,
    1000,
    2**53,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -(2**63),
    0.1,
    0.2,
    0.1 + 0.2,
    -0.0,
    1.0,
    7.0,
    1e15,
    1e16,
    1e17,
    1e21,
    1e22,
    123456789012345.6,
    1.5e300,
    1e300,
    -1e300,
    1.7976931348623157e308,
    5e-324,
    2.2250738585072014e-308,
    float(2**63),
    float(2**64),
    -float(2**63),
    1e-7,
    0.0001,
    2.5,
    10,
]
SPANS = ["1 seconds", "30 minutes", "1 hours", "2 hours", "3 hours", "1 days", "36500 days"]
OPERATORS = ["=", "!=", "<", "<=", ">", ">="]
WORDS = ["equals", "differs", "less_than", "at_most", "greater_than", "at_least"]
TEXT_TESTS = ["contains", "omits", "starts_with", "ends_with", "one_of", "none_of"]
SPAN_TESTS = ["within_last", "within_next", "before_last", "after_next"]
KEYS = [f"k{number}" for number in range(7)]
SOURCES = ["web", "kiosk"]


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


spans = st.sampled_from(SPANS)
constants = (
    st.sampled_from([0, 1, 2, 7, 1000]).map(str)
    | st.sampled_from(["'x'", "'7'", "'007'", "true", "false", "1"])
    | st.sampled_from([quoted(text) for text in TEXTS])
    | st.sampled_from([*map(repr, NUMBERS), "1" * 40, "1e3", "-" + "1" * 40, "1" * 70, "1e400"])
)
paths = st.sampled_from(PATHS)


def reads(earlier: tuple[str, ...]) -> st.SearchStrategy[str]:
    own = st.sampled_from([*earlier, *(f"{key}.$" for key in earlier), *(f"{key}.x" for key in earlier)] or ["c"])
    return (own | own | st.sampled_from(CUSTOM)).map(lambda path: f"trait({quoted(path)})")


@st.composite
def comparisons(draw: st.DrawFn, lefts: st.SearchStrategy[str], rights: st.SearchStrategy[str], *, dates: bool) -> str:
    left = draw(lefts)
    match draw(st.integers(0, 7)):
        case 0 | 1:
            return f"{left} {draw(st.sampled_from(OPERATORS))} {draw(constants | rights)}"
        case 2:
            return f"{left}.{draw(st.sampled_from(WORDS))}({draw(constants | rights)})"
        case 3 | 4:
            options = draw(st.lists(constants | rights, min_size=1, max_size=3))
            return f"{left}.{draw(st.sampled_from(TEXT_TESTS))}({', '.join(options)})"
        case 5:
            return f"{left}.{draw(st.sampled_from(['exists', 'absent']))}()"
        case 6:
            if dates and draw(st.booleans()):
                return f"{left}.{draw(st.sampled_from(SPAN_TESTS))}({draw(spans)})"
            return (
                f"{left}.{draw(st.sampled_from(['before_date', 'after_date']))}('{draw(st.sampled_from(DATES[:4]))}')"
            )
        case _:
            return left if left.startswith(("trait", "property", "context")) else f"{left} >= 1"


def joined(single: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        single,
        single,
        single.map(lambda one: f"NOT ({one})"),
        st.tuples(single, single).map(" AND ".join),
        st.tuples(single, single).map(" OR ".join),
        st.tuples(single, single, single).map(lambda of: f"{of[0]} AND NOT ({of[1]} OR {of[2]})"),
    )


@cache
def wheres(earlier: tuple[str, ...], level: int) -> st.SearchStrategy[str]:
    """Conditions of an event: at level 1 of those at the top of a definition, beyond of those of funnels."""
    properties = paths.map(lambda path: f"property({quoted(path)})")
    contexts = st.sampled_from(["page.url", "page", "ip", "list.$", "list.$.x"]).map(
        lambda path: f"context({quoted(path)})"
    )
    parents = st.sampled_from(["x", "items.$", "when", "name"]).map(lambda path: f"property(parent: {quoted(path)})")
    lefts, rights = properties | properties | contexts, reads(earlier)
    if level > 1:
        rights = rights | parents | parents
    single = comparisons(lefts, rights, dates=True) | comparisons(lefts, st.just("1"), dates=False)
    if level < 3:
        nested = reductions(earlier, level + 1)
        single = (
            single
            | comparisons(nested, rights, dates=False)
            | st.tuples(nested, st.sampled_from([">= 1", "= 0", "= 1"])).map(" ".join)
        )
    return joined(single)


@cache
def reductions(earlier: tuple[str, ...], level: int) -> st.SearchStrategy[str]:
    return _reductions(earlier, level)


@st.composite
def _reductions(draw: st.DrawFn, earlier: tuple[str, ...], level: int) -> str:
    text = f"event('{draw(st.sampled_from(EVENTS[:2] if level > 1 else EVENTS))}')"
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        text += f".where({draw(wheres(earlier, level))})"
    if draw(st.integers(0, 9)) == 0:
        text += f".sources(exclude: ['{draw(st.sampled_from(SOURCES))}'])"
    if level > 1 and draw(st.integers(0, 2)):
        text += f".within(parent: {draw(spans)})"
    match draw(st.integers(0, 4)):
        case 0:
            text += f".within({draw(spans)})"
        case 1:
            near, far = draw(st.sampled_from([(0, 2), (1, 3), (2, 3), (3, 5), (2, 6)]))
            text += f".between({SPANS[near]}, {SPANS[far]})"
        case 2 if level == 1:
            text += f".expires_after({draw(spans)})"
    path = draw(paths)
    given = draw(st.sampled_from([quoted(path), f"property({quoted(path)})"]))
    match draw(st.integers(0, 9)):
        case 0 | 1 | 2:
            return f"{text}.count()"
        case 3:
            return f"{text}.{draw(st.sampled_from(['sum', 'avg', 'first', 'last']))}({given})"
        case 4:
            kind = draw(st.sampled_from(["", "", " as string", " as number"]))
            return f"{text}.{draw(st.sampled_from(['min', 'max']))}(property({quoted(path)}){kind})"
        case 5:
            kind = draw(st.sampled_from(["", " as string", " as number", " as array"]))
            return f"{text}.mode(property({quoted(path)}){kind}{draw(st.sampled_from(['', ', 1', ', 2']))})"
        case 6:
            return f"{text}.unique({given})"
        case 7:
            return f"{text}.unique({given}).count()"
        case _:
            return f"{text}.{draw(st.sampled_from(['sum', 'avg', 'min', 'max', 'last', 'first']))}({given})"


@cache
def trait_texts(earlier: tuple[str, ...]) -> st.SearchStrategy[str]:
    return (reductions(earlier, 1) | reductions(earlier, 1) | reductions(earlier, 1) | reads(earlier)).filter(
        lambda text: is_taken(text, audience=False)
    )


@cache
def audience_texts(earlier: tuple[str, ...]) -> st.SearchStrategy[str]:
    single = comparisons(reads(earlier), reads(earlier), dates=True) | comparisons(
        reductions(earlier, 1), reads(earlier), dates=True
    )
    return joined(single).filter(lambda text: is_taken(text, audience=True))


@lru_cache(maxsize=100_000)
def is_taken(text: str, *, audience: bool) -> bool:
    if isinstance(parse_definition(text, ""), Problem):
        return False
    declared = {"key": "k", "definition": text}
    try:
        body_of(Audience.model_validate(declared) if audience else Trait.model_validate(declared))
    except AssertionError:
        return False
    return True


# Destinations and topologies.

NAMES = ["crm", "All", "ads", "mail"]
destination_forms = st.fixed_dictionaries(
    {},
    optional={
        "send": st.sampled_from([["identify"], ["track"], ["track", "identify"]]),
        "enter_event": st.just('In \u00e9"'),
        "exit_event": st.just("Out"),
        "compute_event": st.just("Now"),
        "send_mobile_ids": st.booleans(),
        "combine": st.just("per_identifier"),
        "enrich": st.lists(st.sampled_from(["c", "plan", *KEYS]), unique=True, max_size=3),
        "id_sync": st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["user_id", "email", "anonymous_id", "loyalty_id", "ios.idfa"])},
                optional={
                    "strategy": st.sampled_from(["first", "last", "all"]),
                    "field": st.sampled_from(["mobile", "email", "phone"]),
                },
            ),
            unique_by=lambda item: item["type"],
            max_size=3,
        ),
    },
)


@st.composite
def topologies(draw: st.DrawFn, *, lists: bool = False) -> dict[str, Any]:
    names = NAMES[: draw(st.integers(0, 3))]
    destinations: list[dict[str, Any]] = [
        {"name": name, "topic": f"to-{name}", **draw(destination_forms)} for name in names
    ]
    for destination in destinations:
        fields = set[str]()
        for item in destination.get("id_sync", ()):
            if item.get("field", item["type"]) in fields:
                item.pop("field", None)
            fields.add(item.get("field", item["type"]))
        if any(item["type"] == "ios.idfa" for item in destination.get("id_sync", ())):
            destination["send_mobile_ids"] = True
    if lists:
        destinations.append({"name": "lists", "topic": "to-lists", "kind": "list", "sync_every": "30m"})
        names = [*names, "lists"]
    sections: dict[str, list[dict[str, Any]]] = {"traits": [], "audiences": []}
    earlier: tuple[str, ...] = ()
    for key in KEYS[: draw(st.integers(1, 4))]:
        is_audience = draw(st.booleans())
        chosen = st.lists(
            st.sampled_from([name for name in names if is_audience or name != "lists"] or [""]), unique=True, max_size=3
        )
        one = {
            "key": key,
            "definition": draw((audience_texts if is_audience else trait_texts)(earlier)),
            "include_anonymous": draw(st.booleans()),
            "destinations": [name for name in draw(chosen) if name],
        }
        if is_audience:
            one["historical"] = draw(st.sampled_from([True, True, False, "1h"]))
        sections["audiences" if is_audience else "traits"].append(one)
        earlier = (*earlier, key)
    retain = draw(
        st.sampled_from([{}, {"events": 0}, {"events": 3, "duration": "2h"}, {"events": 20, "context": ["page"]}])
    )
    limit = draw(st.sampled_from([100, 2]))
    return {
        "space": "laws",
        "sources": [{"name": name, "topic": name} for name in SOURCES],
        "identity": {
            "identifiers": [
                {"type": "user_id", "limit": 1},
                {"type": "email", "limit": limit},
                {"type": "anonymous_id", "limit": 100},
                {"type": "loyalty_id", "limit": limit, "keys": ["loyalty_id"]},
            ]
        },
        "destinations": destinations,
        "retain": retain,
        **sections,
    }


# What comes.

numbers = st.sampled_from(NUMBERS) | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
small = st.sampled_from([0, 1, 2, 7, "x", "7", True, None])
texts = st.sampled_from(TEXTS) | st.sampled_from(DATES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
leaves = small | small | st.none() | st.booleans() | numbers | texts
names = st.sampled_from(["x", "n", "when", "a", "\u00e9", "", "$"])
values = (
    leaves
    | leaves
    | st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=5
    )
)
arrays = st.lists(values | st.fixed_dictionaries({"x": leaves}), max_size=4)
property_objects = st.fixed_dictionaries(
    {},
    optional={
        "x": leaves,
        "n": st.fixed_dictionaries({}, optional={"x": leaves, "when": st.sampled_from(DATES)}) | values,
        "items": arrays,
        "tags": st.lists(arrays, max_size=2),
        "name": leaves,
        "page_name": leaves,
        "when": st.sampled_from(DATES) | st.integers(-5, 5),
        "a.b": leaves,
        "$": values,
        "\u00e9": values,
    },
)
trait_objects = st.dictionaries(
    st.sampled_from(["c", "plan", "renewal", "wide", "\u00e9", "k1", "k9"]),
    values | st.sampled_from(DATES),
    min_size=1,
    max_size=3,
)
contexts = st.fixed_dictionaries(
    {},
    optional={
        "page": st.fixed_dictionaries({"url": leaves}) | values,
        "ip": leaves,
        "list": arrays,
        "device": st.fixed_dictionaries(
            {
                "type": st.just("ios"),
                "id": st.sampled_from(["d1", "d2"]),
                "advertisingId": st.sampled_from(["f1", "f2"]),
                "adTrackingEnabled": st.just(True),
            }
        ),
    },
)
who = st.sampled_from(
    [
        {"userId": "u1"}, {"userId": "u1"}, {"userId": "u2"}, {"anonymousId": "a1"}, {"anonymousId": "a1"}, {"anonymousId": "a2"},
        {"userId": "u1", "anonymousId": "a1"}, {"userId": "u2", "anonymousId": "a2"}, {"userId": "u1", "anonymousId": "a3"},
        {"anonymousId": "a3"}, {"anonymousId": "a4"}, {"anonymousId": "a5"},
    ]
)  # fmt: skip
tied = st.sampled_from([{}, {}, {}, {"email": "e1"}, {"email": "e2"}, {"loyalty_id": "l1"}, {"loyalty_id": "l2"}])
events = st.tuples(
    st.sampled_from(["A", "A", "A", "B", "B", "page", "screen", "identify", "identify", "group"]),
    who, tied, property_objects, trait_objects, contexts, st.sampled_from(SOURCES),
    st.sampled_from([0, 0, 0, 0, 1, 60, 61, 180, 300]),
    st.integers(0, 200),
)  # fmt: skip
minutes = st.sampled_from([0, 0, 0, 1, 29, 30, 59, 60, 61, 120, 180, 1440])
acts = st.tuples(
    st.sampled_from(["event"] * 14 + ["wait", "wait", "look", "reconfigure", "resync"]),
    events,
    minutes,
    st.integers(0, 3),
)


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_of(number: int, drawn: Any, now: datetime) -> dict[str, Any]:
    kind, ids, tie, properties, traits, context, _, late, name = drawn
    event: dict[str, Any] = {
        "messageId": f"m{name}" if name < 100 else f"m{1000 - number}",
        "timestamp": iso(now - timedelta(minutes=late)),
        **ids,
    }
    properties = dict(properties)
    if isinstance(properties.get("when"), int):
        properties["when"] = iso(now + timedelta(minutes=30 * properties["when"]))
    if context:
        event["context"] = context
    match kind:
        case "A" | "B":
            return {**event, "type": "track", "event": kind, "properties": {**properties, **tie}}
        case "page" | "screen":
            return {**event, "type": kind, "name": "Home", "properties": properties}
        case "group":
            return {**event, "type": "group", "groupId": "g1", "traits": traits}
        case _:
            return {**event, "type": "identify", "traits": {**traits, **tie}}


def play(driver: TopologyDriver, stream: list[Any], versions: list[dict[str, Any]]) -> None:
    now, version, versions_left = START, versions[0], list(versions[1:])
    for number, (act, drawn, pause, choice) in enumerate(stream):
        now += timedelta(minutes=pause)
        if act == "event":
            driver.put(event_of(number, drawn, now), received_at=now, source=drawn[6])
        elif act == "wait":
            driver.advance_to(now)
        elif act == "look":
            driver.profiles()
        elif act == "reconfigure" and versions_left:
            driver.advance_to(now)
            try:
                driver.reconfigure(versions_left[0])
                version = versions_left.pop(0)
            except TopologyError:
                versions_left.pop(0)
        elif act == "resync":
            told = [(one["key"], name) for one in version["audiences"] for name in one["destinations"]]
            if told:
                driver.advance_to(now)
                driver.resync(*told[choice % len(told)])
    driver.advance_to(now + timedelta(hours=5))
    driver._space.rest()
    driver.advance_to(now + timedelta(days=3))
    driver._space.rest()


limits = st.fixed_dictionaries(
    {
        "profile_work.STEP_UNITS_MAX": st.sampled_from([2_000, 2_000, 1, 2, 5]),
        "profile_work.STEP_BYTES_MAX": st.sampled_from([2**21, 2**21, 1, 700, 3_000]),
        "profile_states.CACHE_PROFILES_MAX": st.sampled_from([100_000, 0, 1, 2]),
        "profile_merges.PIECE_BYTES_MAX": st.sampled_from([512 * 1024, 64]),
    }
)
"""Limits as they are, or so low that they are met all the time."""


@contextmanager
def twins(
    draw: Random, haste: float, restarts: float, looks: float, limit: dict[str, int] | None = None
) -> Iterator[None]:
    """Drivers that are made in here have every partition's stage twice."""
    with pytest.MonkeyPatch.context() as patch:
        kind = type("Drawn", (Twins,), {"draw": draw, "haste": haste, "restarts": restarts, "looks": looks})
        patch.setattr(driver_module, "LocalSpace", kind)
        for name, most in (limit or {}).items():
            patch.setattr(f"cdp_stream.stages.{name}", most)
        patch.setattr(PartitionWork, "run_core", counted_run)
        patch.setattr(PartitionWork, "fire_in_core", counted_fire)
        patch.setattr(ProfileStage, "_update", counted_update)
        yield


streams = st.lists(acts, min_size=6, max_size=40)
chances = st.tuples(
    st.integers(0, 99), st.sampled_from([1.0, 0.5, 0.1]), st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.3])
)
"""A seed, how soon what is under way arrives, and how often a stage is opened anew, and a profile looked at."""
run_core, fire_in_core, update = PartitionWork.run_core, PartitionWork.fire_in_core, ProfileStage._update


def counted_run(self: PartitionWork, offset: int, position: int) -> CoreRun:
    run = run_core(self, offset, position)
    COUNTS["core"] += run.position - position
    COUNTS["cuts"] += run.cut is not None
    return run


def counted_fire(self: PartitionWork, *about: Any) -> bool:
    fired = fire_in_core(self, *about)
    COUNTS["fired"] += fired
    return fired


def counted_update(self: ProfileStage, *about: Any) -> None:
    COUNTS["rooms"] += self.work.core is not None
    update(self, *about)


@needs_core
def test_whatever_is_declared_and_comes_the_core_decides_as_the_rooms_do() -> None:
    COUNTS.clear()
    core_and_rooms_agree()
    assert COUNTS["core"] > COUNTS["rooms"] > 0, COUNTS
    assert COUNTS["fired"] > 0, COUNTS


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    st.lists(topologies(), min_size=1, max_size=3),
    streams,
    st.sampled_from([1, 1, 3]),
    st.sampled_from([1, 3, 100]),
    chances,
    limits,
)
def core_and_rooms_agree(
    versions: list[Any], stream: list[Any], partitions: int, step_size: int, chance: Any, limit: dict[str, int]
) -> None:
    seed, haste, restarts, looks = chance
    with twins(Random(seed), haste, restarts, looks, limit):
        driver = TopologyDriver(versions[0], partitions=partitions, step_size=step_size)
        play(driver, stream, versions)
        with_core, without = driver._space.histories()
    assert with_core == without


# Values, densely: many definitions over one property and one trait, and one profile whose events hold every kind of value.


@st.composite
def dense_definitions(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    own = st.sampled_from(["property('x')", "property('x')", "property('items.$')"])
    single = comparisons(own, st.just("trait('c')"), dates=True)
    sections: dict[str, list[dict[str, Any]]] = {"traits": [], "audiences": []}
    for number in range(draw(st.integers(4, 12))):
        condition, path = draw(single), draw(st.sampled_from(["'x'", "'x'", "'items.$'"]))
        window = draw(
            st.sampled_from(["", "", ".within(2 hours)", ".between(1 hours, 3 hours)", ".expires_after(1 hours)"])
        )
        reduction = draw(
            st.sampled_from(
                [f"{name}({path})" for name in ("sum", "avg", "min", "max", "first", "last", "unique", "mode")]
                + [
                    f"{name}(property({path}) as {kind})"
                    for name in ("min", "max", "mode")
                    for kind in ("string", "number")
                ]
                + [f"mode(property({path}) as array, 1)", f"mode({path}, 1)", f"unique({path}).count()"]
            )
        )
        kind = draw(st.integers(0, 3))
        text = {
            0: f"event('A').where({condition}){window}.count()",
            1: f"event('A'){window}.{reduction}",
            2: f"event('A').where({condition}){window}.{reduction}",
            3: draw(
                comparisons(
                    st.sampled_from(["trait('c')", "trait('c.$')", "trait('k0')"]), st.just("trait('plan')"), dates=True
                )
            ),
        }[kind]
        assume(is_taken(text, audience=kind == 3))
        section = "audiences" if kind == 3 else "traits"
        sections[section].append(
            {"key": f"k{number + 1}", "definition": text, "include_anonymous": True, "destinations": ["crm"]}
        )
    return sections


dense_streams = st.lists(
    st.tuples(
        st.sampled_from(["A", "A", "A", "identify"]),
        values | st.sampled_from(DATES),
        values,
        minutes,
        st.sampled_from([0, 0, 1, 60, 181]),
    ),
    min_size=3,
    max_size=20,
)


@needs_core
@settings(deadline=None, max_examples=EXAMPLES)
@given(dense_definitions(), dense_streams, st.sampled_from([0.0, 0.3]))
def test_whatever_values_meet_the_core_reads_and_reduces_them_as_the_rooms_do(
    sections: dict[str, Any], stream: list[Any], restarts: float
) -> None:
    topology = {
        "space": "laws", "sources": [{"name": "web", "topic": "web"}], "destinations": [{"name": "crm", "topic": "to-crm"}], **sections,
    }  # fmt: skip
    with twins(Random(0), 1.0, restarts, 0.0):
        driver, now = TopologyDriver(topology, partitions=1, step_size=4), START
        for number, (kind, one, other, pause, late) in enumerate(stream):
            now += timedelta(minutes=pause)
            about = {"x": one, "items": other if isinstance(other, list) else [other, one], "c": one, "plan": other}
            driver.put(
                {
                    "type": "track" if kind == "A" else kind, "event": "A", "userId": "u1", "messageId": f"m{number}",
                    "timestamp": iso(now - timedelta(minutes=late)), "properties": about, "traits": about,
                },
                received_at=now,
            )  # fmt: skip
        driver.advance_to(now + timedelta(days=2))


# What is rare: lists, profiles with many candidates, states at their limits.


@needs_core
@settings(deadline=None, max_examples=EXAMPLES // 4)
@given(st.lists(topologies(lists=True), min_size=1, max_size=2), topologies(), streams, chances, limits)
def test_versions_with_lists_are_left_to_the_rooms_and_others_before_and_after_are_not(
    listing: list[Any], plain: dict[str, Any], stream: list[Any], chance: Any, limit: dict[str, int]
) -> None:
    seed, haste, restarts, looks = chance
    versions = [listing[0], plain, *listing[1:], plain] if seed % 2 else [plain, *listing, plain]
    with twins(Random(seed), haste, restarts, looks, limit):
        driver = TopologyDriver(versions[0], partitions=2, step_size=5)
        play(driver, stream, versions)


CROWDING = {
    "funnel": "event('A').where(event('B').where(property('x') = property(parent: 'x')).within(parent: 2 hours).count() >= 1).count()",
    "later": "event('A').where(property('x') > trait('c')).within(1 days).sum('x')",
    "mean": "event('A').within(1 days).avg('x')",
    "common": "event('B').within(1 days).mode('x', 1)",
    "session": "event('A').where(property('x') >= trait('c')).expires_after(1 hours).max('x')",
    "count": "event('A').within(1 days).count()",
}


@needs_core
@pytest.mark.parametrize("seed", range(3))
def test_a_profile_that_has_more_candidates_than_the_core_looks_through_is_decided_alike(seed: int) -> None:
    draw = Random(seed)
    sections = {
        "traits": [{"key": key, "definition": text, "include_anonymous": True} for key, text in CROWDING.items()],
        "audiences": [{"key": "many", "definition": "trait('funnel') >= 20", "include_anonymous": True}],
        "retain": {"events": 30, "duration": "2h"},
    }
    COUNTS.clear()
    with twins(draw, 1.0, 0.01, 0.01):
        driver, now = (
            TopologyDriver({"space": "laws", "sources": [{"name": "web", "topic": "web"}], **sections}, partitions=1),
            START,
        )
        for number in range(700):
            now += timedelta(seconds=draw.choice([1, 60, 300]))
            event: dict[str, Any] = {"type": "track", "event": draw.choice(["A", "B"]), "messageId": f"m{number}"}
            event |= draw.choice([{"userId": "u1"}, {"userId": "u1"}, {"anonymousId": "a1"}])
            if draw.random() < 0.1:
                event = {
                    "type": "identify",
                    "messageId": f"m{number}",
                    "userId": "u1",
                    "traits": {"c": draw.randint(0, 9)},
                }
            late = timedelta(hours=draw.choice([0, 0, 0, 3]))
            driver.put(
                {**event, "properties": {"x": draw.randint(0, 9)}, "timestamp": iso(now - late)}, received_at=now
            )
            if draw.random() < 0.1:
                driver.advance_to(now)
        driver.advance_to(now + timedelta(days=2))
        with_core, without = driver._space.histories()
    assert with_core == without
    assert COUNTS["cuts"] > 0, COUNTS
    # As the first days' candidates leave, what was crowded is so no more, and the core may have it again.
    assert min(COUNTS["core"], COUNTS["rooms"]) > 50, COUNTS


@needs_core
def test_states_at_their_limits_let_go_of_the_same() -> None:
    texts = {
        "distinct": "event('A').unique('items.$')",
        "common": "event('A').mode('items.$', 1)",
        "sessions": "event('B').expires_after(1 seconds).count()",
        "rows": "event('B').within(100 days).count()",
        "first": "event('B').between(1 seconds, 100 days).first('x')",
    }
    traits = [{"key": key, "definition": text, "include_anonymous": True} for key, text in texts.items()]
    with twins(Random(0), 1.0, 0.0, 0.0):
        driver = TopologyDriver(
            {"space": "laws", "sources": [{"name": "web", "topic": "web"}], "traits": traits}, partitions=1
        )
        draw, now = Random(0), START

        def put(number: int, name: str, late: int = 0, **properties: Any) -> None:
            event = {
                "type": "track",
                "event": name,
                "userId": "u1",
                "messageId": f"m{number}",
                "properties": properties,
            }
            driver.put({**event, "timestamp": iso(now - timedelta(seconds=late))}, received_at=now)

        put(0, "A", items=["z", 1])
        for number in range(80):
            now += timedelta(seconds=2)
            put(100 + number, "B", late=draw.choice([0, 0, 1, 3]), x=number)
        driver.profiles()
        space: Any = driver._space
        filled(space.profiles[0])
        filled(space.plain[0])
        space.profiles[0] = ProfileStage(space.profiles[0].store, 0, 1)
        space.plain[0] = ProfileStage(space.plain[0].store, 0, 1, compiled=False)
        for number in range(40):
            now += timedelta(seconds=1)
            put(1_000 + number, "B", late=draw.choice([0, 0, 7, 9_000]), x=number)
            put(2_000 + number, "A", items=[draw.choice(["é", "a", "0", 7.5]), number, f"{number}"])
        driver.advance_to(now)
        full = {what[1] for what in space.tally if what[0] == "limit"}
    assert full == {"unique", "mode", "session", "rows"}


def filled(stage: ProfileStage) -> None:
    """So many candidates and values that a few more are too many."""
    ((key, raw),) = stage.store.scan(b"p")
    profile = msgspec.msgpack.decode(raw)
    states = profile["states"]
    for name, state in states.items():
        if name.startswith("rows"):
            rows = state[1]
            earlier = [
                [rows[0][0] - 10_000 + number, f"e{number}", *rows[0][2:]] for number in range(9_980 - len(rows))
            ]
            states[name] = [earlier[0][0], earlier + rows]
        elif name.startswith("unique"):
            states[name] = sorted([*state, *(f'"{number}"' for number in range(1_000, 10_980))])
        elif name.startswith("mode"):
            states[name] = state | {f"{number}": 1 for number in range(1_000, 10_980)}
    stage.store.commit({key: encode(profile)})

"""Merges: the state is that of one profile from the start, the outputs are those of the table, whenever shipments come."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_computation_laws import (
    AUDIENCES,
    EXAMPLES,
    HOUR,
    KEYS,
    START,
    People,
    World,
    cats,
    declared_of,
    happenings,
    iso,
    lateness,
    minutes,
    play,
)

import cdp_stream.testing.driver as driver_module
from cdp_stream.stages.records import OutputRecord
from cdp_stream.testing import TopologyDriver
from cdp_stream.testing.local import LocalSpace

chosen = st.lists(st.sampled_from(KEYS), min_size=1, max_size=4)
merging = st.sampled_from(["a1+a2", "u1+a1", "u1+a2", "a2+a3", "u1+a3", "a3+a4", "a4+a5", "u1+a5"])
singles = st.sampled_from(["u1", "a1", "a2", "a3", "a4", "a5"])
streams = st.lists(st.tuples(happenings, merging | singles, minutes, lateness), min_size=2, max_size=18)
totals = st.floats(-1e12, 1e12, allow_nan=False).filter(lambda total: total != 0)
payments = st.lists(st.tuples(singles | merging, totals, cats), min_size=2, max_size=25)


class SlowWays(LocalSpace):
    """Messages and shipments are under way for as long as chance will have it; each partition's keep their order.

    Messages that come together are decided together.
    """

    draw: Random
    haste: float

    def hand_over(self, partition: int, offset: int, raw: bytes, then: list[OutputRecord]) -> None:
        self.__dict__.setdefault("kept", {}).setdefault(partition, []).append((offset, raw))
        if self.draw.random() < 0.3:
            self._together(partition, then)

    def _together(self, partition: int, then: list[OutputRecord]) -> None:
        messages = self.__dict__.setdefault("kept", {}).pop(partition, [])
        self.profile_steps(partition, partial(self.profiles[partition].decide, messages), then)

    def deliver(self, shipments: list[OutputRecord]) -> None:
        held = self.__dict__.setdefault("held", [])
        held.extend(shipments)
        while held and self.draw.random() < self.haste:
            self._any(held)

    def rest(self) -> None:
        held = self.__dict__.setdefault("held", [])
        for partition in range(len(self.profiles)):
            self._together(partition, held)
        while held:
            self._any(held)

    def _any(self, held: list[OutputRecord]) -> None:
        firsts: dict[tuple[str, int], int] = {}
        for number, shipment in enumerate(held):
            firsts.setdefault((shipment.src.split("/")[1], shipment.partition), number)
        self.deliver_one(held.pop(self.draw.choice(list(firsts.values()))), held)


def rows_of(driver: TopologyDriver) -> dict[str, list[Any]]:
    """What was told, by topic and profile; without what depends on when a due time was noticed."""
    rows: dict[str, list[Any]] = {}
    for topic in ("trait_changes", "audience_changes", "destinations/crm"):
        for row in driver.take(topic):
            for name in ("now", "seq"):
                row.pop(name, None)
            owner = row.get("profile_id") or f"{row.get('userId')}/{row.get('anonymousId')}"
            rows.setdefault(f"{topic}/{owner}", []).append(row)
    return rows


def told_destination(topology: dict[str, Any]) -> dict[str, Any]:
    sections = {name: [{**one, "destinations": ["crm"]} for one in topology[name]] for name in ("traits", "audiences")}
    return {**topology, **sections, "destinations": [{"name": "crm", "topic": "crm"}]}


@pytest.mark.parametrize("piece_bytes", [64, 512 * 1024])
@settings(deadline=None, max_examples=EXAMPLES // 2)
@given(
    chosen, streams, st.randoms(use_true_random=False), st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([2, 4, 7]), st.none() | st.tuples(st.integers(0, 17), chosen),
)  # fmt: skip
def test_nothing_depends_on_how_long_messages_and_shipments_are_under_way(
    piece_bytes: int, keys: list[str], stream: Any, draw: Random, haste: float, partitions: int, later: Any
) -> None:
    early = told_destination(declared_of(keys)[0])
    late = None if later is None else told_destination(declared_of([*keys, *later[1]])[0])
    ends = []
    for slow in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cdp_stream.stages.profile_merges.PIECE_BYTES_MAX", piece_bytes)
            if slow:
                kind = type("Slow", (SlowWays,), {"draw": draw, "haste": haste})
                patch.setattr(driver_module, "LocalSpace", kind)
            driver = TopologyDriver(early, partitions=partitions, step_size=1 if slow else 3)
            for number, now in enumerate(play(stream, driver, People())):
                if slow:
                    driver.advance_to(now)
                if late is not None and number == later[0]:
                    driver.advance_to(now)
                    driver.reconfigure(late)
            driver.advance_to(START + 160 * HOUR)  # longer than all pauses together
            if slow:
                driver._space.rest()
            driver.advance_to(START + 200 * HOUR)
            ends.append((rows_of(driver), driver.profiles()))
    assert ends[0] == ends[1]


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.lists(st.sampled_from(sorted(AUDIENCES)), min_size=3, max_size=6), streams, st.sampled_from([1, 3, 8]))
def test_a_merge_tells_what_the_table_says(keys: list[str], stream: Any, partitions: int) -> None:
    topology, declared = declared_of(["active", "exactly_two", *keys])
    # Anonymous profiles are members, too: so that those who are absorbed are often in.
    for section in ("traits", "audiences"):
        topology[section] = [{**one, "include_anonymous": True} for one in topology[section]]
    declared = [replace(one, include_anonymous=True) for one in declared]
    audiences = [one.key for one in declared if one.key in AUDIENCES]
    driver, people = TopologyDriver(topology, partitions=partitions), People()
    walk = iter(play(stream, driver, people))
    now = START
    for (name, _), who, pause, _ in stream:
        now += timedelta(minutes=pause)
        driver.advance_to(now)
        before = {profile["id"]: set(profile["audiences"]) for profile in driver.profiles()}
        group = {name for one in who.split("+") for name in people.group.get(one, ())}
        driver.take("audience_changes"), driver.take("ledger")
        next(walk)
        rows = driver.take("audience_changes")
        merges = [row for row in driver.take("ledger") if row["decision"] == "profiles_merged"]
        if name == "wait" or not merges:
            assert [] == [row for row in rows if row["cause"] in ("merge", "absorbed")]
            continue
        (merge,) = merges
        survivor, absorbed = merge["profile_id"], merge["absorbed"]
        # The merged profile is evaluated once before the event that merged is folded.
        mine = [happened for owner, happened in people.events[:-1] if owner in group]
        world = World(declared, mine, round(now.timestamp() * 1000), identified="u1" in group)
        for key in audiences:
            exits = [
                (row["profile_id"], row["change"], row["into"])
                for row in rows
                if row["audience_key"] == key and row["cause"] == "absorbed"
            ]
            assert sorted((one, "exited", survivor) for one in absorbed if key in before[one]) == sorted(exits)
            told = [row["change"] for row in rows if row["audience_key"] == key and row["cause"] == "merge"]
            was, member = key in before[survivor], bool(world.value(key))
            assert ([] if was == member else ["entered" if member else "exited"]) == told
            assert all(row["profile_id"] == survivor for row in rows if row["cause"] == "merge")


@settings(deadline=None, max_examples=EXAMPLES)
@given(payments, st.sampled_from([1, 4]))
def test_sums_and_means_of_merged_profiles_are_those_of_one(
    stream: list[tuple[str, float, str]], partitions: int
) -> None:
    traits = {
        "sum": "event('Paid').sum('total')", "mean": "event('Paid').avg('total')",
        "recent": "event('Paid').within(90 minutes).sum('total')", "visit": "event('Paid').expires_after(30 minutes).avg('total')",
        "best": "event('Paid').mode('cat', 2)", "cats": "event('Paid').unique('cat')", "first": "event('Paid').first('total')",
    }  # fmt: skip
    topology, _ = declared_of([])
    topology["traits"] = [{"key": key, "definition": text} for key, text in traits.items()]
    apart, whole = TopologyDriver(topology, partitions=partitions), TopologyDriver(topology, partitions=1)
    names = sorted({name for who, _, _ in stream for name in who.split("+")})
    for number, (who, total, cat) in enumerate(stream):
        now = START + number * timedelta(minutes=10)
        put(apart, who, "Paid", number, now, {"total": total, "cat": cat})
        put(whole, "a1", "Paid", number, now, {"total": total, "cat": cat})
    for number, (one, other) in enumerate(pairwise(names)):
        put(apart, f"{one}+{other}", "Joined", 100 + number, now, {})
    for driver in (apart, whole):
        driver.advance_to(now)
    assert whole.profiles()[0]["traits"] == apart.profiles()[0]["traits"]
    assert 1 == len(apart.profiles())


def put(driver: TopologyDriver, who: str, name: str, number: int, now: Any, properties: dict[str, Any]) -> None:
    listed = [
        {"id": one, "type": "user_id" if one[0] == "u" else "anonymous_id", "collection": "users", "encoding": "none"}
        for one in who.split("+")
    ]
    event = {
        "type": "track",
        "event": name,
        "messageId": f"m{number:03d}",
        "timestamp": iso(now),
        "properties": properties,
    }
    driver.put({**event, "context": {"externalIds": listed}}, received_at=now)


def test_a_chain_of_mergers_with_everything_under_way_waits_and_then_tells_the_same() -> None:
    topology, _ = declared_of(["spend", "active", "cart", "session_views", "cats_4h"])
    stream: list[Any] = [
        *[
            (("View", {"cat": cat, "tags": []}), who, 10, 0)
            for who, cat in (("a1", "hats"), ("a2", "bags"), ("a3", "shoes"))
        ],
        *[(("Order", {"total": 0.1, "sku": "hats", "eta": 1}), who, 10, 0) for who in ("a1", "a2", "a3")],
        (("Added", {"sku": "hats"}), "a2+a3", 10, 0),  # one is absorbed …
        (("View", {"cat": "hats", "tags": []}), "a1+a3", 10, 0),  # … by one that is absorbed itself
        (("View", {"cat": "bags", "tags": []}), "a3", 30, 300),  # late, for an absorbed one
        (("wait", {}), "a1", 500, 0),  # windows expire meanwhile
        (("Order", {"total": 0.2, "sku": "bags", "eta": 1}), "u1+a2", 1, 0),
    ]
    ends = []
    for slow in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if slow:
                kind = type("Slow", (SlowWays,), {"draw": Random(1), "haste": 0.0})
                patch.setattr(driver_module, "LocalSpace", kind)
            driver = TopologyDriver(topology, partitions=7, step_size=1)
            for _ in play(stream, driver, People()):
                pass
            if slow:
                assert sum(stage.states.parked_count() for stage in driver._space.profiles) >= 1
                driver._space.rest()
            driver.advance_to(START + 200 * HOUR)
            assert 0 == sum(stage.states.parked_count() for stage in driver._space.profiles)
            ends.append((rows_of(driver), driver.profiles()))
    assert ends[0] == ends[1]
    (profile,) = ends[0][1]
    assert 2 == len(profile["absorbed"])
    assert 0.5 == profile["traits"]["spend"]

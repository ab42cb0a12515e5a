"""Traits and audiences of random streams, with merges, late events and passing time, equal those of the slow model."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from computation_model import Computed, Happened, World

from cdp_stream.testing import TopologyDriver

START = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
EXAMPLES = max(200, settings().max_examples)
"""More with HYPOTHESIS_PROFILE=long."""

TRAITS = {
    "views": "event('View').count()",
    "views_4h": "event('View').within(4 hours).count()",
    "views_old": "event('View').between(2 hours, 5 hours).count()",
    "spend": "event('Order').sum('total')",
    "spend_6h": "event('Order').within(6 hours).sum('total')",
    "mean_6h": "event('Order').within(6 hours).avg('total')",
    "least": "event('Order').min('total')",
    "most_text": "event('Order').max(property('total') as string)",
    "favourite": "event('View').mode('cat', 2)",
    "favourite_5h": "event('View').within(5 hours).mode(property('cat'), 1)",
    "first_cat": "event('View').first('cat')",
    "first_3h": "event('View').within(3 hours).first('cat')",
    "last_3h": "event('View').between(1 hours, 3 hours).last('cat')",
    "cats": "event('View').unique('cat')",
    "cats_4h": "event('View').within(4 hours).unique('cat')",
    "cat_count": "event('View').unique('cat').count()",
    "tags": "event('View').unique('tags.$')",
    "session_views": "event('View').expires_after(2 hours).count()",
    "session_spend": "event('Order').expires_after(3 hours).sum('total')",
    "session_big": "event('Order').where(property('total') >= trait('mean')).expires_after(3 hours).count()",
    "session_first": "event('View').expires_after(2 hours).first('cat')",
    "session_cats": "event('View').expires_after(90 minutes).unique('cat')",
    "session_cat_count": "event('View').expires_after(1 hours).unique('cat').count()",
    "session_tags": "event('View').where(property('cat').none_of(trait('plan'), 'hats')).expires_after(2 hours).mode('tags.$', 1)",
    "session_rest": "event('Order').where(property('sku').none_of(trait('plan'), 'hats')).expires_after(3 hours).sum('total')",
    "session_last": "event('Order').where(property('sku').none_of(trait('plan'))).expires_after(2 hours).last('total')",
    "mean": "event('Order').avg('total')",
    "big": "event('Order').where(property('total') > trait('mean')).count()",
    "soon": "event('Order').where(property('eta').within_next(2 hours)).count()",
    "plan_copy": "trait('plan')",
}
AUDIENCES = {
    "active": "event('View').within(3 hours).count() >= 2",
    "lapsed": "event('View').between(3 hours, 8 hours).count() >= 1 AND event('View').within(3 hours).count() = 0",
    "silent": "event('View').within(2 hours).count() = 0",
    "exactly_two": "event('View').within(6 hours).count() = 2",
    "cart": "event('Added').where(NOT (event('Order').within(parent: 3 hours).count() >= 1)).within(9 hours).count() >= 1",
    "same_item": (
        "event('Added').where(event('Order').where(property('sku') = property(parent: 'sku'))"
        ".within(parent: 4 hours).count() >= 1).count() >= 1"
    ),
    "funnel": (
        "event('View').where(event('Added').where(event('Order').within(parent: 4 hours).count() >= 1)"
        ".within(parent: 4 hours).count() >= 1).within(12 hours).count() >= 1"
    ),
    "above": "event('Order').where(property('total') > trait('mean')).within(7 hours).count() >= 1",
    "renewed": "trait('renewal').within_last(3 hours)",
    "renewing": "trait('renewal').within_next(3 hours) OR trait('renewal').after_next(8 hours)",
    "overdue": "trait('renewal').before_last(2 hours)",
    "gold": "trait('plan').one_of('gold', 'platinum')",
    "not_gold": "trait('plan').none_of('gold') AND trait('plan').omits('free')",
    "engaged": "trait('active') AND NOT trait('cart') AND trait('session_views') >= 1",
    "bargain": "trait('plan').starts_with('g') OR trait('plan').ends_with('m') AND trait('spend_6h') < 10",
    "matching": "event('View').where(property('cat') = trait('favourite')).within(5 hours).count() >= 2",
}
KEYS = [*TRAITS, *AUDIENCES]
ANONYMOUS_TOO = frozenset(key for place, key in enumerate(KEYS) if place % 3)

minutes = st.sampled_from([0, 0, 1, 30, 59, 60, 60, 61, 90, 120, 180, 240, 500])
lateness = st.sampled_from([0, 0, 0, 0, 1, 60, 61, 120, 300])
ids = st.sampled_from(["u1", "a1", "a2", "a3", "a1+a2", "u1+a1", "u1+a2", "a2+a3", "u1+a3"])
cats = st.sampled_from(["shoes", "hats", "bags"])
totals = st.sampled_from([1, 2, 5, 0.1, 0.2, 2.5, 10, None])
views = st.fixed_dictionaries({"cat": st.none() | cats, "tags": st.lists(cats, max_size=2)})
orders = st.fixed_dictionaries({"total": totals, "sku": cats, "eta": st.integers(-3, 6)})
plans = st.sampled_from([{"plan": "gold"}, {"plan": "free"}, {"plan": "platinum"}, {"plan": None}])
happenings = (
    st.tuples(st.just("View"), views)
    | st.tuples(st.just("Added"), st.fixed_dictionaries({"sku": cats}))
    | st.tuples(st.just("Order"), orders)
    | st.tuples(st.none(), plans | st.fixed_dictionaries({"renewal": st.integers(-9, 9)}))
    | st.tuples(st.just("wait"), st.just({}))
)
streams = st.lists(st.tuples(happenings, ids, minutes, lateness), min_size=1, max_size=14)


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def declared_of(keys: list[str]) -> tuple[dict[str, Any], list[Computed]]:
    """A topology with these computations and what they read, and the same for the model."""
    wanted = dict.fromkeys(keys)
    for _ in range(3):
        for key in list(wanted):
            text = TRAITS.get(key) or AUDIENCES[key]
            wanted.update({other: None for other in KEYS if f"trait('{other}')" in text})
    computed = [
        Computed(key, TRAITS.get(key) or AUDIENCES[key], key in AUDIENCES, key in ANONYMOUS_TOO) for key in wanted
    ]
    sections: dict[str, list[dict[str, Any]]] = {"traits": [], "audiences": []}
    for one in computed:
        sections["audiences" if one.is_audience else "traits"].append(
            {"key": one.key, "definition": one.definition, "include_anonymous": one.include_anonymous}
        )
    identifiers = [{"type": kind, "limit": 100} for kind in ("user_id", "anonymous_id", "alt_id")]
    plain = {"space": "laws", "sources": [{"name": "web", "topic": "web"}], "identity": {"identifiers": identifiers}}
    return {**plain, **sections}, computed


class People:
    """Who is who, by union of ids, and what each has done."""

    def __init__(self) -> None:
        self.group: dict[str, set[str]] = {}
        self.events: list[tuple[str, Happened]] = []

    def add(self, names: list[str], happened: Happened) -> None:
        whole = {name for one in names for name in self.group.get(one, {one})}
        for name in whole:
            self.group[name] = whole
        self.events.append((names[0], happened))

    def world(self, name: str, declared: list[Computed], now: int) -> World:
        group = self.group[name]
        mine = [happened for owner, happened in self.events if owner in group]
        return World(declared, mine, now, identified="u1" in group)


def play(stream: list[Any], driver: TopologyDriver, people: People) -> Any:
    """Put the stream in; after each event and each pause, who stands where."""
    now = START
    for number, ((name, given_about), who, pause, late) in enumerate(stream):
        now += timedelta(minutes=pause)
        if name == "wait":
            driver.advance_to(now)
            yield now
            continue
        time = now - timedelta(minutes=late)
        about = dict(given_about)
        for key in ("eta", "renewal"):
            if key in about:
                about[key] = iso(now + about[key] * HOUR)
        names = who.split("+")
        event: dict[str, Any] = {"messageId": f"m{number:03d}", "timestamp": iso(time), "receivedAt": iso(now)}
        for one in names:
            event["userId" if one[0] == "u" else "anonymousId" if "anonymousId" not in event else "alt"] = one
        if "alt" in event:  # two anonymous ids on one event: the second by way of an id that both carry
            second = event.pop("alt")
            event["context"] = {"externalIds": [
                {"id": second, "type": "anonymous_id", "collection": "users", "encoding": "none"}
            ]}  # fmt: skip
        event.update(
            {"type": "identify", "traits": about}
            if name is None
            else {"type": "track", "event": name, "properties": about}
        )
        driver.put(event, received_at=now)
        at = round(time.timestamp() * 1000)
        happened = (
            Happened(at, event["messageId"], traits=about)
            if name is None
            else Happened(at, event["messageId"], name, about)
        )
        people.add(names, happened)
        yield now


def stands(driver: TopologyDriver, name: str) -> dict[str, Any]:
    profile = driver.profile(("user_id:" if name[0] == "u" else "anonymous_id:") + name)
    assert profile is not None
    return {**profile["traits"], **dict.fromkeys(profile["audiences"], True)}


def expected(people: People, name: str, declared: list[Computed], now: datetime) -> dict[str, Any]:
    world = people.world(name, declared, round(now.timestamp() * 1000))
    values = {one.key: world.value(one.key) for one in declared}
    return {key: value for key, value in values.items() if value is not None and value is not False}


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.lists(st.sampled_from(KEYS), min_size=1, max_size=4), streams, st.sampled_from([1, 3]))
def test_at_every_instant_profiles_are_as_the_slow_model_says(keys: list[str], stream: Any, partitions: int) -> None:
    topology, declared = declared_of(keys)
    driver, people = TopologyDriver(topology, partitions=partitions), People()
    for now in play(stream, driver, people):
        for name in people.group:
            actual = {key: value for key, value in stands(driver, name).items() if key in topology_keys(declared)}
            assert expected(people, name, declared, now) == actual


def told_by_profile(driver: TopologyDriver) -> dict[str, list[Any]]:
    """Trait and audience changes of each profile in order, but for when and where in the log they were told."""
    rows: dict[str, list[Any]] = {}
    for topic in ("trait_changes", "audience_changes"):
        for row in driver.take(topic):
            row.pop("now"), row.pop("seq")
            rows.setdefault(f"{topic}/{row['profile_id']}", []).append(row)
    return rows


def topology_keys(declared: list[Computed]) -> set[str]:
    return {one.key for one in declared}


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    st.lists(st.sampled_from(KEYS), min_size=1, max_size=4),
    streams,
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from([1, 2, 5, 100])), min_size=2, max_size=2),
)
def test_outputs_do_not_depend_on_partitions_steps_or_when_time_is_told(
    keys: list[str], stream: Any, ways: Any
) -> None:
    topology, _ = declared_of(keys)
    told = []
    for number, (partitions, step_size) in enumerate(ways):
        driver = TopologyDriver(topology, partitions=partitions, step_size=step_size)
        for now in play(stream, driver, People()):
            if number:
                driver.advance_to(now)
        driver.advance_to(START + 100 * HOUR)
        told.append((told_by_profile(driver), driver.profiles()))
    assert told[0] == told[1]

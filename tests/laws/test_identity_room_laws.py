"""Laws of one event's resolution, on mixed streams: groups and accounts, `externalIds`, blocked values, late events,
sources without identity, tight limits and caps.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from identity_model import DAY_MS, PERIOD_MS
from memory_graph import MemoryGraph

from cdp_stream.config.topology import parse_topology
from cdp_stream.identity.extract import extract
from cdp_stream.identity.resolve import resolve_event
from cdp_stream.identity.rules import IdentityRules, compile_rules
from cdp_stream.model.event import Event
from cdp_stream.model.graph import GraphProfile, IdentityOutcome
from cdp_stream.model.ids import ExternalId, SourceRef

HOUR_MS = 3_600_000
START = 1_735_689_600_000
LISTED = ("user_id", "email", "anonymous_id", "app_id", "group_id")
EDGES = (0, 1, 23, 24, 25, 7 * 24, 30 * 24, 365 * 24)

configs = st.fixed_dictionaries(
    {
        "identifiers": st.permutations(LISTED).flatmap(
            lambda order: st.tuples(
                *(
                    st.fixed_dictionaries(
                        {"type": st.just(t), "limit": st.integers(1, 3), "period": st.sampled_from(tuple(PERIOD_MS))}
                    )
                    for t in order
                )
            ).map(list)
        ),
        "demotion": st.sampled_from(["lowest_priority", "minimal"]),
        "merges_max": st.sampled_from([0, 1, 3, 100]),
        "mappings_max": st.sampled_from([1, 3, 5, 1000]),
    }
)
values = st.sampled_from(["1", "2", "3", "4", "null"])
items = st.fixed_dictionaries(
    {
        "id": values,
        "type": st.sampled_from(["loyalty_id", "member_id", "email", "group_id", "Bad"]),
        "collection": st.sampled_from(["users", "accounts"]),
        "encoding": st.just("none"),
    }
)
calls = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["identify", "track", "group", "group"]),
        "pause": st.sampled_from(EDGES),
        "late": st.sampled_from((0, 0, 0, 2, 26, 200)),
        "identity": st.sampled_from([True, True, True, False]),
        "user_id": st.none() | values,
        "anonymous_id": st.none() | values,
        "group_id": values,
        "values": st.dictionaries(st.sampled_from(["email", "app_id", "appId"]), values, max_size=3),
        "context": st.fixed_dictionaries(
            {},
            optional={
                "traits": st.dictionaries(st.sampled_from(["email", "app_id", "appId"]), values, max_size=3),
                "externalIds": st.lists(items, max_size=3),
                "device": st.fixed_dictionaries(
                    {"type": st.sampled_from(["ios", "android", "web"]), "id": values}, optional={"token": values}
                ),
            },
        ),
    }
)
streams = st.lists(calls, min_size=1, max_size=20)


def rules_of(identity: dict[str, Any]) -> IdentityRules:
    topology = parse_topology(
        {"space": "laws", "sources": [{"name": "web", "topic": "web"}], "identity": identity}, "laws"
    )
    return compile_rules("laws", topology.identity)


def event_of(call: dict[str, Any], number: int, now: int) -> Event:
    kind = call["type"]
    return Event(
        kind,
        f"m{number}",
        now - call["late"] * HOUR_MS,
        SourceRef("web", "id", 0, number),
        user_id=call["user_id"],
        anonymous_id=call["anonymous_id"],
        group_id=call["group_id"] if kind == "group" else None,
        properties=call["values"] if kind == "track" else {},
        traits=call["values"] if kind != "track" else {},
        context=call["context"],
        identity=call["identity"],
    )


def events_of(stream: list[dict[str, Any]]) -> list[Event]:
    now, events = START, []
    for number, call in enumerate(stream):
        now += call["pause"] * HOUR_MS
        events.append(event_of(call, number, now))
    return events


def counted(profile: GraphProfile, type_: str, period: str, time: int) -> int:
    days = PERIOD_MS[period]
    return sum(1 for m in profile.mappings if m.type == type_ and (days is None or m.mapped_at > time - days * DAY_MS))


@given(configs, streams)
def test_what_is_stored_twice_says_the_same(identity: dict[str, Any], stream: list[dict[str, Any]]) -> None:
    graph, rules = MemoryGraph(), rules_of(identity)
    for event in events_of(stream):
        graph.apply(resolve_event(event, graph, rules))
        graph.check()
        assert [] == [p.id for p in graph.profiles.values() if len(p.mappings) > identity["mappings_max"]]
        assert [] == [p.id for p in graph.profiles.values() if p.merges > identity["merges_max"]]


@given(configs, streams)
def test_no_event_takes_a_profile_beyond_a_limit(identity: dict[str, Any], stream: list[dict[str, Any]]) -> None:
    graph, rules = MemoryGraph(), rules_of(identity)
    for event in events_of(stream):
        outcome = resolve_event(event, graph, rules)
        for found in (outcome.user, outcome.account):
            if found is None or not (found.mapped or found.absorbed):
                continue
            parts = [graph.profiles[p] for p in (found.profile.id, *found.absorbed) if p in graph.profiles]
            for one in identity["identifiers"]:
                type_, period = one["type"], one["period"]
                before = max((counted(part, type_, period, event.time) for part in parts), default=0)
                after = counted(found.profile, type_, period, event.time)
                assert after <= max(one["limit"], before), (type_, before)
        graph.apply(outcome)


@given(configs, streams)
def test_a_source_without_identity_changes_nothing(identity: dict[str, Any], stream: list[dict[str, Any]]) -> None:
    graph, rules = MemoryGraph(), rules_of(identity)
    for event in events_of(stream):
        outcome = resolve_event(event, graph, rules)
        if not event.identity:
            nobody = outcome.user is None and outcome.account is None
            found = extract(event, rules, graph.registered_types)
            kinds = ["value_blocked"] * len(found.blocked + found.blocked_accounts) + ["no_identifiers"] * nobody
            assert kinds == [decision.decision for decision in outcome.decisions]
            assert IdentityOutcome(outcome.user, outcome.account, decisions=outcome.decisions) == outcome
            for one in (outcome.user, outcome.account):
                assert one is None or graph.profiles[one.profile.id] == one.profile
        graph.apply(outcome)


def shuffled(value: Any, draw: Any) -> Any:
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        return {key: shuffled(value[key], draw) for key in keys}
    return [shuffled(item, draw) for item in value] if isinstance(value, list) else value


@given(configs, streams, st.data())
def test_the_order_of_keys_never_matters(
    identity: dict[str, Any], stream: list[dict[str, Any]], data: st.DataObject
) -> None:
    graph, rules = MemoryGraph(), rules_of(identity)
    for event, other in zip(events_of(stream), events_of(shuffled(stream, data.draw)), strict=True):
        outcome = resolve_event(event, graph, rules)
        assert outcome == resolve_event(other, graph, rules)
        graph.apply(outcome)


@given(configs, streams)
def test_the_decisions_tell_all_that_happens_to_the_graph(
    identity: dict[str, Any], stream: list[dict[str, Any]]
) -> None:
    graph, rules = MemoryGraph(), rules_of(identity)
    owners: dict[tuple[str, ExternalId], str] = {}
    alive: dict[str, str] = {}
    links = set()
    for event in events_of(stream):
        outcome = resolve_event(event, graph, rules)
        graph.apply(outcome)
        for row in outcome.decisions:
            match row.decision:
                case "profile_created":
                    alive[row.profile_id] = row.collection
                case "identifier_mapped":
                    owners |= {(row.collection, i): row.profile_id for i in row.identifiers}
                case "profiles_merged":
                    owners = {i: row.profile_id if p in row.absorbed else p for i, p in owners.items()}
                    links = {tuple(row.profile_id if p in row.absorbed else p for p in pair) for pair in links}
                    for absorbed in row.absorbed:
                        del alive[absorbed]
                case "account_linked":
                    links.add((row.profile_id, outcome.account.profile.id))
        assert alive == {profile.id: profile.collection for profile in graph.profiles.values()}
        assert owners == graph.owners
        assert links == {link for link in graph.held_links if graph.profiles[link[0]].collection == "users"}


@given(configs, streams)
def test_the_same_identifiers_again_at_the_same_time_change_nothing(
    identity: dict[str, Any], stream: list[dict[str, Any]]
) -> None:
    graph, rules = MemoryGraph(), rules_of(identity)
    for event in events_of(stream):
        first = resolve_event(event, graph, rules)
        graph.apply(first)
        again = resolve_event(event, graph, rules)
        assert ((), (), (), 0) == (again.profiles, again.owners, again.redirects, again.created_count)
        for one, two in ((first.user, again.user), (first.account, again.account)):
            assert (one and one.profile) == (two and two.profile)


@given(configs, streams)
def test_an_identifier_is_looked_up_once(identity: dict[str, Any], stream: list[dict[str, Any]]) -> None:
    """A miss costs a read of the store, and every new identifier is a miss."""
    graph, rules = MemoryGraph(), rules_of(identity)
    for event in events_of(stream):
        before = Counter(graph.lookups)
        outcome = resolve_event(event, graph, rules)
        asked = graph.lookups - before
        both = 2 if event.type == "group" else 1
        assert all(count <= both for count in asked.values()), asked
        graph.apply(outcome)

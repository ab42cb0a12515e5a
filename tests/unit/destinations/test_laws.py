"""Laws over random lives of profiles: alternation, completeness, unique and stable message ids."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import msgspec
import orjson
from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.config.topology import parse_topology
from cdp_stream.destinations.combine import combinations
from cdp_stream.destinations.route import (
    Routes,
    compile_routes,
    merge_open,
    merge_told,
    route_memberships,
    route_traits,
)
from cdp_stream.model.ids import USERS, ProfileId
from cdp_stream.model.profile import Cause, DestinationMessage, KnownId, ProfileState

ROUTES: Routes = compile_routes(
    parse_topology(
        {
            "space": "shop",
            "sources": [{"name": "web", "topic": "shop.events"}],
            "destinations": [
                {"name": "crm", "topic": "crm"},
                {"name": "ads", "topic": "ads", "send": ["track"], "combine": "per_identifier"},
                {"name": "push", "topic": "push", "send": ["track"], "send_mobile_ids": True},
                {
                    "name": "sync",
                    "topic": "sync",
                    "send": ["track"],
                    "id_sync": [{"type": "email", "strategy": "last"}, {"type": "phone", "strategy": "all"}],
                },
            ],
            "audiences": [
                {"key": "vip", "definition": "trait('x') exists", "destinations": ["crm", "push", "sync"]},
                {
                    "key": "new",
                    "definition": "trait('x') exists",
                    "destinations": ["ads", "crm"],
                    "include_anonymous": True,
                },
            ],
            "traits": [
                {"key": "spend", "definition": "event('E').count()", "destinations": ["crm", "ads"]},
                {"key": "last", "definition": "event('E').count()", "destinations": ["push", "sync"]},
            ],
        }
    )
)
TYPES = ("user_id", "email", "anonymous_id", "ios.idfa", "phone")
PEOPLE = 3

set_membership = st.tuples(
    st.just("member"), st.integers(0, PEOPLE - 1), st.sampled_from(["vip", "new"]), st.booleans()
)
set_trait = st.tuples(
    st.just("trait"),
    st.integers(0, PEOPLE - 1),
    st.sampled_from(["spend", "last"]),
    st.sampled_from([None, 0, 1, 1.0, "x", ["x"]]),
)
add_id = st.tuples(st.just("id"), st.integers(0, PEOPLE - 1), st.sampled_from(TYPES), st.just(None))
merge = st.tuples(st.just("merge"), st.integers(0, PEOPLE - 1), st.integers(0, PEOPLE - 1), st.booleans())
lives = st.lists(st.one_of(set_membership, set_trait, add_id, merge), max_size=40)


class World:
    """A few profiles that live through random steps; every message is kept."""

    def __init__(self) -> None:
        self.profiles = {
            number: ProfileState(id=ProfileId(f"use_{number}"), collection=USERS, created=0) for number in range(PEOPLE)
        }
        self.messages: list[DestinationMessage] = []

    def live(self, life: list[tuple[str, int, Any, Any]]) -> World:
        for number, step in enumerate(life):
            self._step(number, *step)
        return self

    def _step(self, number: int, what: str, whom: int, key: Any, value: Any) -> None:
        profile = self.profiles.get(whom)
        if profile is None:
            return
        match what:
            case "member":
                after = msgspec.structs.replace(profile, memberships=profile.memberships | {key: value})
            case "trait":
                after = msgspec.structs.replace(profile, computed=profile.computed | {key: value})
            case "id":
                new = KnownId(key, f"{key}-{number}", number)
                after = msgspec.structs.replace(profile, external_ids=(*profile.external_ids, new))
            case "merge":
                absorbed = self.profiles.get(key)
                if absorbed is None or key == whom:
                    return
                del self.profiles[key]
                after = msgspec.structs.replace(
                    profile,
                    external_ids=profile.external_ids + absorbed.external_ids,
                    memberships=dict.fromkeys(("vip", "new"), value),
                    open=merge_open(profile.open, absorbed.open),
                    told=merge_told(profile.told, absorbed.told),
                )
        cause = Cause(kind="event", time=number, now=number, message_id=f"m{number}", seq="")
        told, trait_messages = route_traits(after, ROUTES, "shop", cause)
        opened, membership_messages = route_memberships(after, ROUTES, "shop", cause)
        self.profiles[whom] = msgspec.structs.replace(after, told=told, open=opened)
        self.messages += trait_messages + membership_messages

    def heard(self) -> dict[tuple[str, ...], list[Any]]:
        """Values in order, by destination, call, key and who it was about."""
        streams: dict[tuple[str, ...], list[Any]] = {}
        for message in self.messages:
            payload = message.payload
            key = payload["context"]["personas"]["computation_key"]
            values = payload["properties"] if payload["type"] == "track" else payload["traits"]
            riding = payload["traits"] if payload["type"] == "identify" else payload["context"].get("traits", {})
            device = payload["context"].get("device", {}).get("advertisingId")
            sender = payload.get("userId") or payload["anonymousId"]
            stream = (
                message.destination,
                payload["type"],
                key,
                sender,
                str(riding.get("email")),
                str(riding.get("phone")),
                str(device),
            )
            streams.setdefault(stream, []).append(values[key])
        return streams


@given(lives)
def test_entered_and_exited_alternate_for_each_audience_destination_and_combination(life: list[Any]):
    for (name, _, key, *_), values in World().live(life).heard().items():
        # Exits to a destination with `id_sync` also go to combinations that were never entered.
        if key in {"vip", "new"} and name != "sync":
            assert values == [place % 2 == 0 for place in range(len(values))]


@given(lives)
def test_at_any_moment_members_are_open_in_all_their_combinations_and_nobody_else_is(life: list[Any]):
    for profile in World().live(life).profiles.values():
        for route in ROUTES.audiences:
            for connection in route.connections:
                opened = set(profile.open.get(connection.destination.name, {}).get(route.key, ()))
                formed = set(combinations(profile, connection.entries))
                if profile.memberships.get(route.key, False):
                    assert formed <= opened
                else:
                    assert opened == set()


@given(lives)
def test_with_id_sync_whoever_was_told_of_an_entry_is_told_of_the_exit(life: list[Any]):
    world = World().live(life)
    lingering = {}
    for (name, _, key, *who), values in world.heard().items():
        if (name, key) == ("sync", "vip"):
            assert not any(one and other for one, other in pairwise(values))
            lingering[tuple(who)] = values[-1]
    members = sum(lingering.values())
    opened = [profile.open.get("sync", {}).get("vip", ()) for profile in world.profiles.values()]
    assert members == len({combination for those in opened for combination in those})


@given(lives)
def test_a_combination_never_hears_the_same_trait_value_twice_in_a_row(life: list[Any]):
    for (_, _, key, *_), values in World().live(life).heard().items():
        if key in {"spend", "last"}:
            encoded = [None, *values]
            assert all(one != other or type(one) is not type(other) for one, other in pairwise(encoded))


@given(lives)
def test_at_any_moment_every_combination_knows_the_present_value(life: list[Any]):
    for profile in World().live(life).profiles.values():
        for route in ROUTES.traits:
            value = profile.computed.get(route.key)
            for connection in route.connections:
                told = dict(profile.told.get(connection.destination.name, {}).get(route.key, ()))
                formed = combinations(profile, connection.entries)
                assert [repr(told.get(combination)) for combination in formed] == [repr(value)] * len(formed)


@given(lives)
def test_message_ids_are_unique_and_the_same_life_is_told_the_same_way(life: list[Any]):
    messages = World().live(life).messages
    counted = Counter(message.payload["messageId"] for message in messages)
    assert [one for one, count in counted.items() if count > 1] == []
    assert [orjson.dumps(message.payload) for message in messages] == [
        orjson.dumps(message.payload) for message in World().live(life).messages
    ]


@given(lives)
def test_every_call_of_a_destination_hears_the_same(life: list[Any]):
    """Whoever reads only the track calls of a destination knows no less than who reads the identify calls."""
    heard = World().live(life).heard()
    identify = {stream[2:]: values for stream, values in heard.items() if stream[:2] == ("crm", "identify")}
    track = {stream[2:]: values for stream, values in heard.items() if stream[:2] == ("crm", "track")}
    assert identify == track

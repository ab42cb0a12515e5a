"""What is told when: entries, exits, new external ids, merges, computed traits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cdp_stream.config.topology import parse_topology
from cdp_stream.destinations.route import (
    Routes,
    compile_routes,
    merge_open,
    merge_told,
    route_memberships,
    route_traits,
)
from cdp_stream.model.ids import USERS, ProfileId
from cdp_stream.model.profile import Cause, CustomTrait, DestinationMessage, KnownId, ProfileState

U1, U2 = KnownId("user_id", "u1", 0), KnownId("user_id", "u2", 0)
E1, E2 = KnownId("email", "e1", 0), KnownId("email", "e2", 0)
A1 = KnownId("anonymous_id", "a1", 0)


def routes_of(**parts: Any) -> Routes:
    plain: dict[str, Any] = {
        "space": "shop",
        "sources": [{"name": "web", "topic": "shop.events"}],
        "destinations": [{"name": "crm", "topic": "crm", "send": ["track"]}],
        "audiences": [{"key": "vip", "definition": "trait('x') exists", "destinations": ["crm"]}],
        "traits": [{"key": "spend", "definition": "event('E').count()", "destinations": ["crm"]}],
    }
    return compile_routes(parse_topology(plain | parts))


ROUTES = routes_of()


def profile(*ids: KnownId, name: str = "use_1", **fields: Any) -> ProfileState:
    return ProfileState(id=ProfileId(name), collection=USERS, created=0, external_ids=ids, **fields)


def because(message_id: str = "m", kind: str = "event") -> Cause:
    return Cause(kind=kind, time=1_000, now=1_000, message_id=message_id, seq="")


def line(message: DestinationMessage) -> str:
    """Show a message as `crm Audience Entered u1+e1`, or `crm spend=5 u1`."""
    payload = message.payload
    what = payload.get("event", "identify")
    values = payload.get("properties", payload.get("traits"))
    if "trait_key" in values:
        key = values["trait_key"]
        what = f"{key}={values[key]}"
    who = [payload.get("userId") or payload.get("anonymousId")]
    email = payload["context"].get("traits", {}).get("email") or payload.get("traits", {}).get("email")
    if email is not None:
        who = [*who, email] if "userId" in payload else [email]
    return f"{message.destination} {what} {'+'.join(who)}"


def after_membership(state: ProfileState, member: bool, routes: Routes = ROUTES) -> tuple[ProfileState, list[str]]:
    now = msgspec.structs.replace(state, memberships={"vip": member})
    opened, messages = route_memberships(now, routes, "shop", because())
    return msgspec.structs.replace(now, open=opened), [line(message) for message in messages]


def after_value(state: ProfileState, value: Any, routes: Routes = ROUTES) -> tuple[ProfileState, list[str]]:
    now = msgspec.structs.replace(state, computed={"spend": value})
    told, messages = route_traits(now, routes, "shop", because())
    return msgspec.structs.replace(now, told=told), [line(message) for message in messages]


def with_ids(state: ProfileState, *more: KnownId) -> ProfileState:
    return msgspec.structs.replace(state, external_ids=state.external_ids + more)


def test_a_member_is_told_entered_once_and_a_leaver_exited_once():
    state, heard = after_membership(profile(U1, E1), member=True)
    assert heard == ["crm Audience Entered u1+e1"]
    assert state.open == {"crm": {"vip": ((("user_id", "u1"), ("email", "e1")),)}}
    state, heard = after_membership(state, member=True)
    assert heard == []
    state, heard = after_membership(state, member=False)
    assert heard == ["crm Audience Exited u1+e1"]
    assert state.open == {}
    assert after_membership(state, member=False) == (state, [])


def test_someone_who_never_entered_is_not_told_to_have_left():
    assert after_membership(profile(U1), member=False)[1] == []


def test_a_new_external_id_of_a_member_tells_the_new_combinations_only():
    state, _ = after_membership(profile(U1, E1), member=True)
    state, heard = after_membership(with_ids(state, E2), member=True)
    assert heard == ["crm Audience Entered u1+e2"]
    assert after_membership(with_ids(state, A1), member=True)[1] == []


def test_an_exit_closes_combinations_that_are_formed_no_more():
    state, _ = after_membership(profile(U1), member=True)
    state, heard = after_membership(with_ids(state, E1), member=True)
    assert heard == ["crm Audience Entered u1+e1"]
    assert after_membership(state, member=False)[1] == ["crm Audience Exited u1", "crm Audience Exited u1+e1"]


def test_a_member_without_any_id_to_send_is_told_when_the_first_one_comes():
    state, heard = after_membership(profile(A1), member=True)
    assert heard == []
    assert state.open == {}
    assert after_membership(with_ids(state, E1), member=True)[1] == ["crm Audience Entered e1"]


def test_anonymous_ids_are_told_where_the_audience_includes_them():
    audience = {
        "key": "vip",
        "definition": "trait('x') exists",
        "destinations": ["crm"],
        "include_anonymous": True,
    }
    heard = after_membership(profile(A1, U1), member=True, routes=routes_of(audiences=[audience]))[1]
    assert heard == ["crm Audience Entered u1", "crm Audience Entered a1"]


def test_messages_go_in_declared_order_identify_before_track_for_each_combination():
    routes = routes_of(
        destinations=[{"name": "crm", "topic": "crm"}, {"name": "ads", "topic": "ads", "send": ["track"]}],
        audiences=[
            {"key": "late", "definition": "trait('x') exists", "destinations": ["ads"]},
            {"key": "vip", "definition": "trait('x') exists", "destinations": ["ads", "crm"]},
        ],
    )
    now = profile(U1, E1, E2, memberships={"vip": True, "late": True})
    _, messages = route_memberships(now, routes, "shop", because())
    assert [line(message) for message in messages] == [
        "ads Audience Entered u1+e1",
        "ads Audience Entered u1+e2",
        "ads Audience Entered u1+e1",
        "ads Audience Entered u1+e2",
        "crm identify u1+e1",
        "crm Audience Entered u1+e1",
        "crm identify u1+e2",
        "crm Audience Entered u1+e2",
    ]
    assert [m.payload["context"]["personas"]["computation_key"] for m in messages] == ["late"] * 2 + ["vip"] * 6


def test_a_destination_that_is_not_connected_any_more_keeps_what_it_was_told():
    state, _ = after_membership(profile(U1), member=True)
    unconnected = routes_of(audiences=[{"key": "vip", "definition": "trait('x') exists"}])
    left, heard = after_membership(state, member=False, routes=unconnected)
    assert (left.open, heard) == (state.open, [])
    assert after_membership(left, member=False)[1] == ["crm Audience Exited u1"]


def test_a_destination_connected_later_hears_of_members():
    unconnected = routes_of(audiences=[{"key": "vip", "definition": "trait('x') exists"}])
    state, heard = after_membership(profile(U1), member=True, routes=unconnected)
    assert heard == []
    assert after_membership(state, member=True)[1] == ["crm Audience Entered u1"]


def test_a_destination_named_twice_hears_once():
    twice = {"key": "vip", "definition": "trait('x') exists", "destinations": ["crm", "crm"]}
    heard = after_membership(profile(U1), member=True, routes=routes_of(audiences=[twice]))[1]
    assert heard == ["crm Audience Entered u1"]


def test_open_combinations_of_other_audiences_stay_as_they_are():
    others = {"crm": {"other": ((("user_id", "u1"),),)}, "ads": {"vip": ((("user_id", "u1"),),)}}
    state, _ = after_membership(profile(U1, open=others), member=True)
    assert state.open == {"crm": others["crm"] | {"vip": ((("user_id", "u1"),),)}, "ads": others["ads"]}
    assert after_membership(state, member=False)[0].open == others


@pytest.mark.parametrize(
    ("absorbed", "survivor", "merged", "heard"),
    [
        # A is absorbed, B survives, M is both; B holds u1, A holds e1: only M forms u1+e1
        (False, False, False, []),
        (False, False, True, ["crm Audience Entered u1+e1"]),
        (False, True, True, ["crm Audience Entered u1+e1"]),
        (False, True, False, ["crm Audience Exited u1"]),
        (True, False, True, ["crm Audience Entered u1+e1"]),
        (True, False, False, ["crm Audience Exited e1"]),
        (True, True, True, ["crm Audience Entered u1+e1"]),
        (True, True, False, ["crm Audience Exited u1", "crm Audience Exited e1"]),
    ],
)
def test_what_a_merge_tells(absorbed: bool, survivor: bool, merged: bool, heard: list[str]):
    a, _ = after_membership(profile(E1, name="use_a"), member=absorbed)
    b, _ = after_membership(profile(U1), member=survivor)
    union = msgspec.structs.replace(
        b, external_ids=b.external_ids + a.external_ids, open=merge_open(b.open, a.open), memberships={"vip": merged}
    )
    opened, messages = route_memberships(union, ROUTES, "shop", because(kind="merge"))
    assert [line(message) for message in messages] == heard
    assert bool(opened) is merged


def test_a_merge_that_forms_nothing_new_tells_a_member_nothing():
    a, _ = after_membership(profile(U2, name="use_a"), member=True)
    b, _ = after_membership(profile(U1), member=True)
    union = msgspec.structs.replace(with_ids(b, U2), open=merge_open(b.open, a.open))
    after, heard = after_membership(union, member=True)
    assert heard == []
    assert after_membership(after, member=False)[1] == ["crm Audience Exited u1", "crm Audience Exited u2"]


def test_open_combinations_of_merged_profiles_are_joined_survivor_first():
    mine = {"crm": {"vip": ((("user_id", "u1"),),)}, "ads": {"vip": ((("user_id", "u1"),),)}}
    theirs = {"crm": {"vip": ((("user_id", "u2"),), (("user_id", "u1"),)), "new": ((("email", "e"),),)}}
    assert merge_open(mine, theirs) == {
        "crm": {"vip": ((("user_id", "u1"),), (("user_id", "u2"),)), "new": ((("email", "e"),),)},
        "ads": {"vip": ((("user_id", "u1"),),)},
    }
    assert merge_open(mine, {}) == mine
    assert merge_open({}, mine) == mine


def test_a_trait_is_told_when_it_changes_and_only_then():
    state, heard = after_value(profile(U1), 5)
    assert heard == ["crm spend=5 u1"]
    assert state.told == {"crm": {"spend": (((("user_id", "u1"),), 5),)}}
    state, heard = after_value(state, 5)
    assert heard == []
    state, heard = after_value(state, 7)
    assert heard == ["crm spend=7 u1"]


@pytest.mark.parametrize(("first", "second"), [(1, 1.0), (0, False), (1, "1"), ("a", "A"), (1, None), ([1], [1, 2])])
def test_values_that_read_differently_are_different(first: Any, second: Any):
    state, _ = after_value(profile(U1), first)
    assert after_value(state, second)[1] == [f"crm spend={second} u1"]


def test_a_trait_that_lost_its_value_is_told_as_null_once_and_only_to_those_who_knew_it():
    assert after_value(profile(U1), None)[1] == []
    state, _ = after_value(profile(U1), 5)
    state, heard = after_value(with_ids(state, U2), None)
    assert heard == ["crm spend=None u1"]
    state, heard = after_value(state, None)
    assert heard == []
    assert after_value(state, 6)[1] == ["crm spend=6 u1", "crm spend=6 u2"]


def test_a_new_combination_hears_the_present_value():
    state, _ = after_value(profile(U1, E1), 5)
    assert after_value(with_ids(state, E2), 5)[1] == ["crm spend=5 u1+e2"]


def test_traits_reach_anonymous_ids_unless_switched_off():
    assert after_value(profile(A1, U1), 5)[1] == ["crm spend=5 u1", "crm spend=5 a1"]
    trait = {
        "key": "spend",
        "definition": "event('E').count()",
        "destinations": ["crm"],
        "include_anonymous": False,
    }
    assert after_value(profile(A1, U1), 5, routes=routes_of(traits=[trait]))[1] == ["crm spend=5 u1"]


def test_after_a_merge_each_combination_hears_a_value_that_differs_from_its_last():
    a, _ = after_value(profile(U2, name="use_a"), 3)
    b, _ = after_value(profile(U1), 8)
    union = msgspec.structs.replace(with_ids(b, U2), told=merge_told(b.told, a.told))
    assert after_value(union, 8)[1] == ["crm spend=8 u2"]
    assert after_value(union, 11)[1] == ["crm spend=11 u1", "crm spend=11 u2"]


def test_what_merged_profiles_were_told_is_joined_and_the_survivor_s_holds():
    one, two = (("user_id", "u1"),), (("user_id", "u2"),)
    mine = {"crm": {"spend": ((one, 1),)}}
    theirs = {"crm": {"spend": ((two, 2), (one, 9)), "new": ((two, 3),)}, "ads": {"spend": ((two, 4),)}}
    assert merge_told(mine, theirs) == {
        "crm": {"spend": ((one, 1), (two, 2)), "new": ((two, 3),)},
        "ads": {"spend": ((two, 4),)},
    }
    assert merge_told(mine, {}) == mine
    assert merge_told({}, mine) == mine


def test_nothing_given_is_changed_in_place():
    before, _ = after_membership(profile(U1), member=True)
    before, _ = after_value(before, 5)
    copy = msgspec.json.encode(before)
    after_membership(with_ids(before, E1), member=True)
    after_membership(before, member=False)
    after_value(before, 6)
    merge_open(before.open, {"crm": {"vip": ((("user_id", "u2"),),)}})
    merge_told(before.told, {"crm": {"spend": (((("user_id", "u2"),), 1),)}})
    assert msgspec.json.encode(before) == copy


SYNCED = routes_of(
    destinations=[{"name": "crm", "topic": "crm", "send": ["track"], "id_sync": {"email": "last"}}],
)


def test_id_sync_exits_every_combination_and_those_that_were_entered():
    e1, e2 = KnownId("email", "e1", 1), KnownId("email", "e2", 2)
    state, heard = after_membership(profile(U1, e1), member=True, routes=SYNCED)
    assert heard == ["crm Audience Entered e1"]
    state, heard = after_membership(with_ids(state, e2), member=True, routes=SYNCED)
    assert heard == ["crm Audience Entered e2"]
    state, heard = after_membership(state, member=False, routes=SYNCED)
    assert heard == [f"crm Audience Exited {who}" for who in ("e1", "e2", "u1+e1", "u1+e2")]
    assert state.open == {}
    assert after_membership(state, member=False, routes=SYNCED)[1] == []
    assert after_membership(state, member=True, routes=SYNCED)[1] == ["crm Audience Entered e2"]


def test_id_sync_tells_a_trait_to_the_chosen_and_again_when_the_choice_changes():
    state, heard = after_value(profile(U1, KnownId("email", "e1", 1)), 5, routes=SYNCED)
    assert heard == ["crm spend=5 e1"]
    state, heard = after_value(with_ids(state, KnownId("email", "e2", 2)), 5, routes=SYNCED)
    assert heard == ["crm spend=5 e2"]
    assert after_value(state, 6, routes=SYNCED)[1] == ["crm spend=6 e2"]


def test_enrichment_reads_each_trait_of_its_class_and_leaves_out_what_has_no_value():
    enriched = routes_of(
        destinations=[
            {
                "name": "crm",
                "topic": "crm",
                "send": ["identify", "track"],
                "enrich": ["plan", "spend", "vip", "gone", "never", "Camel Case"],
            }
        ],
    )
    custom = {
        "plan": CustomTrait("pro", 1, "m"),
        "gone": CustomTrait(None, 1, "m"),
        "spend": CustomTrait(99, 1, "m"),
        "vip": CustomTrait("custom", 1, "m"),
        "Camel Case": CustomTrait(["a"], 1, "m"),
    }
    state = profile(U1, custom=custom, computed={"spend": 5}, memberships={"vip": True})
    _, messages = route_memberships(state, enriched, "shop", because())
    riding = {"plan": "pro", "spend": 5, "Camel Case": ["a"]}
    assert messages[0].payload["traits"] == {"vip": True, **riding}
    assert messages[1].payload["properties"] == {"audience_key": "vip", "vip": True, **riding}
    _, messages = route_traits(state, enriched, "shop", because())
    assert messages[1].payload["properties"] == {"trait_key": "spend", "vip": True, **riding}


def test_a_change_of_what_only_enriches_tells_nothing():
    enriched = routes_of(destinations=[{"name": "crm", "topic": "crm", "enrich": ["plan"]}])
    state, _ = after_membership(profile(U1), member=True, routes=enriched)
    changed = msgspec.structs.replace(state, custom={"plan": CustomTrait("pro", 1, "m")})
    assert after_membership(changed, member=True, routes=enriched)[1] == []


def test_the_state_survives_storage():
    state, _ = after_membership(profile(U1, E1), member=True)
    state, _ = after_value(state, ["a", "b"])
    stored = msgspec.json.decode(msgspec.json.encode(state), type=ProfileState)
    assert after_membership(stored, member=True)[1] == []
    assert after_value(stored, ["a", "b"])[1] == []
    assert after_value(stored, ["a", "c"])[1] == ["crm spend=['a', 'c'] u1+e1"]

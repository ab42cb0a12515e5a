"""What changes in a list at a sync, and when that is."""

from __future__ import annotations

from typing import Any

import msgspec

from cdp_stream.config.topology import parse_topology
from cdp_stream.destinations.lists import next_sync, plan_syncs, sync_lists
from cdp_stream.destinations.route import Routes, compile_routes, merge_open
from cdp_stream.model.ids import USERS, ProfileId
from cdp_stream.model.profile import Combination, CustomTrait, KnownId, ProfileState
from cdp_stream.model.time import HOUR_MS

U1, U2 = KnownId("user_id", "u1", 0), KnownId("user_id", "u2", 0)
E1, E2 = KnownId("email", "e1", 0), KnownId("email", "e2", 1)
PAIR: Combination = (("user_id", "u1"), ("email", "e1"))


def routes_of(**settings: Any) -> Routes:
    return compile_routes(
        parse_topology(
            {
                "space": "shop",
                "sources": [{"name": "web", "topic": "shop.events"}],
                "destinations": [{"name": "ads", "kind": "list", "topic": "ads", "sync_every": "1h", **settings}],
                "audiences": [
                    {"key": "vip", "name": "VIPs", "definition": "trait('x') exists", "destinations": ["ads"]}
                ],
            }
        )
    )


ROUTES = routes_of()


def profile(*ids: KnownId, member: bool = True, on: tuple[Combination, ...] = (), **fields: Any) -> ProfileState:
    opened = {"ads": {"vip": on}} if on else {}
    return ProfileState(
        id=ProfileId("use_1"),
        collection=USERS,
        created=0,
        external_ids=ids,
        memberships={"vip": member},
        open=opened,
        **fields,
    )


def synced(state: ProfileState, instant: int = HOUR_MS, routes: Routes = ROUTES) -> tuple[Any, list[Any], list[Any]]:
    """What is on the list afterwards, and who is added and removed."""
    opened, changes = sync_lists(state, routes, instant)
    added = [member for change in changes for member in change.added]
    removed = [member for change in changes for member in change.removed]
    return opened.get("ads", {}).get("vip", ()), added, removed


def test_a_sync_lies_at_the_next_multiple_and_never_now():
    assert [next_sync(now, HOUR_MS) for now in (0, 1, HOUR_MS - 1, HOUR_MS)] == [
        HOUR_MS,
        HOUR_MS,
        HOUR_MS,
        2 * HOUR_MS,
    ]


def test_a_new_member_is_added_at_the_next_sync_and_planned_until_then():
    state = profile(U1, E1)
    assert plan_syncs(state, ROUTES, 5) == {"ads": HOUR_MS}
    assert synced(state) == ((PAIR,), [{"userId": "u1", "traits": {"email": "e1"}}], [])


def test_between_syncs_nothing_is_told():
    assert synced(profile(U1, E1), HOUR_MS - 1) == ((), [], [])


def test_who_is_on_the_list_and_a_member_is_no_news():
    state = profile(U1, E1, on=(PAIR,))
    assert plan_syncs(state, ROUTES, 5) == {}
    assert synced(state) == ((PAIR,), [], [])


def test_who_came_and_went_between_two_syncs_is_no_news():
    assert plan_syncs(profile(U1, E1, member=False), ROUTES, 5) == {}


def test_who_is_no_member_any_more_is_removed_in_every_combination_that_was_added():
    alone: Combination = (("user_id", "u1"),)
    state = profile(U1, E1, member=False, on=(alone, PAIR))
    assert plan_syncs(state, ROUTES, 5) == {"ads": HOUR_MS}
    assert synced(state) == ((), [], [{"userId": "u1"}, {"userId": "u1", "traits": {"email": "e1"}}])


def test_a_new_identifier_adds_the_new_combination_only():
    state = profile(U1, E1, E2, on=(PAIR,))
    assert synced(state)[1:] == ([{"userId": "u1", "traits": {"email": "e2"}}], [])


def test_after_a_merge_the_union_is_on_the_list():
    other: Combination = (("user_id", "u2"),)
    merged = profile(U1, E1, U2, member=False)
    opened = merge_open({"ads": {"vip": (PAIR,)}}, {"ads": {"vip": (other,)}})
    assert synced(msgspec.structs.replace(merged, open=opened))[2] == [
        {"userId": "u1", "traits": {"email": "e1"}},
        {"userId": "u2"},
    ]


def test_with_id_sync_a_list_holds_what_is_chosen_and_gives_back_just_that():
    routes = routes_of(id_sync=[{"type": "email", "strategy": "last", "field": "mail"}])
    held, added, _ = synced(profile(U1, E1, E2), routes=routes)
    assert [member["traits"] for member in added] == [{"mail": "e2"}]
    removed = synced(profile(U1, E1, E2, member=False, on=held), routes=routes)[2]
    assert removed == [{"anonymousId": added[0]["anonymousId"], "traits": {"mail": "e2"}}]


def test_traits_ride_along_with_additions_and_advertising_ids_with_both():
    routes = routes_of(enrich=["plan"], send_mobile_ids=True)
    phone = KnownId("ios.idfa", "i1", 0)
    state = profile(U1, phone, custom={"plan": CustomTrait("pro", 0, "m")})
    device = {"type": "ios", "advertisingId": "i1"}
    held, added, _ = synced(state, routes=routes)
    assert added == [{"userId": "u1", "traits": {"plan": "pro"}, "device": device}]
    gone = msgspec.structs.replace(state, memberships={"vip": False}, open={"ads": {"vip": held}})
    assert synced(gone, routes=routes)[2] == [{"userId": "u1", "device": device}]


def test_an_audience_that_is_sent_to_events_alone_has_no_sync():
    routes = compile_routes(
        parse_topology(
            {
                "space": "shop",
                "sources": [{"name": "web", "topic": "shop.events"}],
                "destinations": [{"name": "ads", "kind": "list", "topic": "ads"}, {"name": "crm", "topic": "crm"}],
                "audiences": [{"key": "vip", "definition": "trait('x') exists", "destinations": ["crm"]}],
            }
        )
    )
    assert plan_syncs(profile(U1), routes, 5) == {}
    assert routes.cadences == {"ads": HOUR_MS}

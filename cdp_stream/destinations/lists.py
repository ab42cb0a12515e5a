"""Step 5e: audiences as lists. At its sync a list is brought from the members that it holds to those there are.

A destination of the kind `list` hears nothing between its syncs ("using-engage-data": the whole list first, then only
additions and removals). Syncs lie at the multiples of `sync_every`, and are due times of the profiles with news: what is
true of a profile at that instant is compared with what the list holds of it.
"""

from __future__ import annotations

import msgspec

from cdp_stream.destinations.enrich import enrichment_of
from cdp_stream.destinations.route import Connection, Formed, Open, Routes, combinations_of, with_changes
from cdp_stream.destinations.shape import shape_member
from cdp_stream.model.profile import Combination, ListChange, ProfileState
from cdp_stream.model.time import Duration, Instant


def next_sync(now: Instant, every: Duration) -> Instant:
    """The first sync after `now`."""
    return (now // every + 1) * every


def list_cadences(routes: Routes) -> dict[tuple[str, str], Duration]:
    """Destination and audience key of every list, and how often it is synced."""
    return {
        (connection.destination.name, route.key): routes.cadences[connection.destination.name]
        for route in routes.lists
        for connection in route.connections
    }


def plan_syncs(profile: ProfileState, routes: Routes, now: Instant) -> dict[str, Instant]:
    """The syncs at which destinations are to hear of the profile: none where every list holds what it should.

    A member who comes and goes between two syncs is no news.
    """
    formed: Formed = {}
    return {
        name: next_sync(now, routes.cadences[name])
        for name in dict.fromkeys(
            connection.destination.name
            for route in routes.lists
            for connection in route.connections
            if any(_difference(profile, route.key, connection, formed))
        )
    }


def forget_list(profile: ProfileState, routes: Routes, what: tuple[str, str], now: Instant) -> ProfileState:
    """The profile as if a list held nothing of it, so that its next sync, a whole one, holds every present member.

    `what`: audience key and destination; any but a list destination leaves the profile as it is.
    """
    key, name = what
    if name not in routes.cadences:
        return profile
    opened = with_changes(profile.open, {name: {key: ()}})
    forgotten = msgspec.structs.replace(profile, open=opened)
    return msgspec.structs.replace(forgotten, syncs=plan_syncs(forgotten, routes, now))


def sync_lists(profile: ProfileState, routes: Routes, instant: Instant) -> tuple[Open, list[ListChange]]:
    """Bring the lists that are synced at this instant up to the profile. Out: the new `open`, and what changes in them.

    A member: every combination that is not on the list is added; what is on it stays, also one that the profile no
    longer forms. Not a member: whatever is on the list is removed; with `id_sync`, too, since a list holds exactly what
    was added to it, nobody lingers.
    """
    changed: Open = {}
    changes: list[ListChange] = []
    formed: Formed = {}
    for route in routes.lists:
        for connection in route.connections:
            destination = connection.destination
            if instant % routes.cadences[destination.name]:
                continue
            added, removed = _difference(profile, route.key, connection, formed)
            if not added and not removed:
                continue
            held = profile.open.get(destination.name, {}).get(route.key, ())
            changed.setdefault(destination.name, {})[route.key] = () if removed else held + added
            enrichment = enrichment_of(profile, connection.enrichment)
            changes.append(
                ListChange(
                    destination=destination.name,
                    audience_key=route.key,
                    audience_name=route.name,
                    profile_id=profile.id,
                    sync=instant,
                    added=tuple(shape_member(destination, combination, enrichment) for combination in added),
                    removed=tuple(shape_member(destination, combination, {}) for combination in removed),
                )
            )
    return with_changes(profile.open, changed), changes


def _difference(
    profile: ProfileState, key: str, connection: Connection, formed: Formed
) -> tuple[tuple[Combination, ...], tuple[Combination, ...]]:
    """Who is to be added to a list, and who is to be removed."""
    held = profile.open.get(connection.destination.name, {}).get(key, ())
    if not profile.memberships.get(key, False):
        return (), held
    whom = combinations_of(profile, connection.entries, formed)
    return tuple(combination for combination in whom if combination not in held), ()

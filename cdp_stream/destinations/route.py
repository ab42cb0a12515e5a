"""Step 5c: what destinations were told and what is true now are compared; every difference is told."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, TypeVar

from msgspec import Struct

from cdp_stream.config.destination import Destination
from cdp_stream.config.topology import Audience, Topology, Trait
from cdp_stream.destinations.combine import Selection, combinations, entry_selection, exit_selection
from cdp_stream.destinations.enrich import Enrichment, compile_enrichment, enrichment_of
from cdp_stream.destinations.shape import ComputationClass, News, shape_messages
from cdp_stream.model.profile import Cause, Combination, DestinationMessage, ProfileState
from cdp_stream.model.time import Duration

Open = dict[str, dict[str, tuple[Combination, ...]]]
Told = dict[str, dict[str, tuple[tuple[Combination, Any], ...]]]
Formed = dict[Selection, tuple[Combination, ...]]

_Heard = TypeVar("_Heard")


class Connection(Struct, frozen=True):
    """A destination as an audience or computed trait reaches it."""

    destination: Destination
    entries: Selection
    """Who is told of an entry or of a value."""
    exits: Selection | None
    """Who is told of an exit beside those who were told of the entry; None for nobody."""
    enrichment: Enrichment


class Route(Struct, frozen=True):
    """An audience or computed trait and the destinations of one kind that hear of it."""

    key: str
    name: str
    connections: tuple[Connection, ...]


class Routes(Struct, frozen=True):
    """All routes of a topology, in the order they were declared in."""

    audiences: tuple[Route, ...]
    traits: tuple[Route, ...]
    lists: tuple[Route, ...]
    """Of audiences to list destinations."""
    cadences: dict[str, Duration]
    """List destination, used or not, to how often it is synced."""


def compile_routes(topology: Topology) -> Routes:
    """Which destinations each audience and each computed trait goes to, each destination once.

    An unknown destination name raises KeyError: the topology was to be checked before.
    """
    by_name = {destination.name: destination for destination in topology.destinations}
    enrichments = {destination.name: compile_enrichment(destination, topology) for destination in topology.destinations}

    def routes(kind: str, computations: Iterable[Audience] | Iterable[Trait]) -> tuple[Route, ...]:
        found = []
        for computation in computations:
            connections = tuple(
                _connection(by_name[name], enrichments[name], include_anonymous=computation.include_anonymous)
                for name in dict.fromkeys(computation.destinations)
                if by_name[name].kind == kind
            )
            if connections:
                found.append(Route(computation.key, computation.name, connections))
        return tuple(found)

    return Routes(
        audiences=routes("event", topology.audiences),
        traits=routes("event", topology.traits),
        lists=routes("list", topology.audiences),
        cadences={
            destination.name: destination.sync_every
            for destination in topology.destinations
            if destination.sync_every is not None
        },
    )


def _connection(destination: Destination, enrichment: Enrichment, *, include_anonymous: bool) -> Connection:
    return Connection(
        destination=destination,
        entries=entry_selection(destination, include_anonymous=include_anonymous),
        exits=exit_selection(destination, include_anonymous=include_anonymous) if destination.id_sync else None,
        enrichment=enrichment,
    )


def route_memberships(
    after: ProfileState, routes: Routes, space: str, cause: Cause, only: Collection[str] | None = None
) -> tuple[Open, list[DestinationMessage]]:
    """Tell destinations of memberships. Out: the new `open` of the profile, and the messages in order.

    A member: an entry for each combination that is not open yet. Not a member: an exit for each open combination, also
    one that the profile no longer forms, and with `id_sync` for every combination that the profile forms. One rule
    serves entry, exit, a new external id and a merge, for which `after.open` is the union of both (`merge_open`). It
    compares with what was told, so that a destination connected later hears of members, too.

    `only`: keys of the audiences that can have something to tell; None: all.
    """
    changed: Open = {}
    messages: list[DestinationMessage] = []
    formed: Formed = {}
    for route in routes.audiences:
        if only is not None and route.key not in only:
            continue
        member = after.memberships.get(route.key, False)
        for connection in route.connections:
            name = connection.destination.name
            already = after.open.get(name, {}).get(route.key, ())
            heard: tuple[Combination, ...] = already
            if member:
                whom = combinations_of(after, connection.entries, formed)
                heard = tuple(combination for combination in whom if combination not in already)
            if not heard:
                continue
            changed.setdefault(name, {})[route.key] = already + heard if member else ()
            if not member and connection.exits is not None:
                heard = tuple(dict.fromkeys(heard + combinations_of(after, connection.exits, formed)))
            news = _news(after, connection, ("audience", route.key, member), space, cause)
            for combination in heard:
                messages.extend(shape_messages(news, combination))
    return with_changes(after.open, changed), messages


def resend_members(
    profile: ProfileState, routes: Routes, what: tuple[str, str], space: str, cause: Cause
) -> tuple[Open, list[DestinationMessage]]:
    """Tell a destination of a present member again. Out: the new `open` of the profile, and the messages in order.

    `what`: audience key and destination. Every combination that the profile forms is told entered, whether it was or
    not; whoever was told entered in another one stays open. An exit is nothing that is told again.
    """
    key, name = what
    changed: Open = {}
    messages: list[DestinationMessage] = []
    for route in routes.audiences:
        for connection in route.connections if route.key == key and profile.memberships.get(key, False) else ():
            if connection.destination.name == name:
                whom = combinations_of(profile, connection.entries, {})
                already = profile.open.get(name, {}).get(key, ())
                changed[name] = {key: tuple(dict.fromkeys(already + whom))}
                news = _news(profile, connection, ("audience", key, True), space, cause)
                for combination in whom:
                    messages.extend(shape_messages(news, combination))
    return with_changes(profile.open, changed), messages


def route_traits(
    after: ProfileState, routes: Routes, space: str, cause: Cause, only: Collection[str] | None = None
) -> tuple[Told, list[DestinationMessage]]:
    """Tell destinations of computed traits. Out: the new `told` of the profile, and the messages in order.

    Each combination that the profile forms hears a value that differs from the last one it was told; a new combination
    hears the present one. A trait without a value is told as null, once, to combinations that were told a value.

    `only`: keys of the traits that can have something to tell; None: all.
    """
    changed: Told = {}
    messages: list[DestinationMessage] = []
    formed: Formed = {}
    for route in routes.traits:
        if only is not None and route.key not in only:
            continue
        value = after.computed.get(route.key)
        for connection in route.connections:
            name = connection.destination.name
            last = dict(after.told.get(name, {}).get(route.key, ()))
            heard = [
                combination
                for combination in combinations_of(after, connection.entries, formed)
                if _differ(last.get(combination), value)
            ]
            if not heard:
                continue
            last.update(dict.fromkeys(heard, value))
            changed.setdefault(name, {})[route.key] = tuple(last.items())
            news = _news(after, connection, ("trait", route.key, value), space, cause)
            for combination in heard:
                messages.extend(shape_messages(news, combination))
    return with_changes(after.told, changed), messages


def _news(
    profile: ProfileState, connection: Connection, what: tuple[ComputationClass, str, Any], space: str, cause: Cause
) -> News:
    computation_class, key, value = what
    return News(
        space=space,
        destination=connection.destination,
        profile_id=profile.id,
        computation_class=computation_class,
        key=key,
        value=value,
        cause=cause,
        enrichment=enrichment_of(profile, connection.enrichment),
    )


def merge_open(survivor: Open, absorbed: Open) -> Open:
    """Join the combinations open on either of two profiles, the survivor's first."""
    merged: Open = {}
    for state in (survivor, absorbed):
        for destination, audiences in state.items():
            union = merged.setdefault(destination, {})
            for key, opened in audiences.items():
                union[key] = tuple(dict.fromkeys(union.get(key, ()) + opened))
    return merged


def merge_told(survivor: Told, absorbed: Told) -> Told:
    """Join the last values told to the combinations of two profiles, the survivor's first.

    An external id has one owner, so the two share no combination; should they, what the survivor told holds.
    """
    merged: Told = {}
    for state in (survivor, absorbed):
        for destination, traits in state.items():
            union = merged.setdefault(destination, {})
            for key, pairs in traits.items():
                last = dict(union.get(key, ()))
                union[key] = tuple((last | {whom: value for whom, value in pairs if whom not in last}).items())
    return merged


def combinations_of(profile: ProfileState, selection: Selection, formed: Formed) -> tuple[Combination, ...]:
    """Whom a selection takes. Most destinations ask for the same; a profile's are formed once a change, in `formed`."""
    if selection not in formed:
        formed[selection] = combinations(profile, selection)
    return formed[selection]


def _differ(told: Any, value: Any) -> bool:
    # 1, 1.0 and true are equal to Python, and different to whoever reads the message.
    return bool(told != value) or type(told) is not type(value)


def with_changes(
    state: dict[str, dict[str, tuple[_Heard, ...]]], changed: dict[str, dict[str, tuple[_Heard, ...]]]
) -> dict[str, dict[str, tuple[_Heard, ...]]]:
    """Put the changed entries in place, and leave out empty ones."""
    if not changed:
        return state
    updated = dict(state)
    for destination, entries in changed.items():
        updated[destination] = {key: heard for key, heard in (state.get(destination, {}) | entries).items() if heard}
    return {destination: entries for destination, entries in updated.items() if entries}

"""The walk of an event, from arrival to departure. READ THIS FIRST.

A source record walks through five rooms that do not know one another; only this file knows their order:

    intake.decode      bytes                      -> Event or DeadLetter
    identity.resolve   event, graph               -> whose event it is, and what that changes in the graph
    traits.fold        profile, event             -> profile with its traits folded
    audiences.evaluate profile                    -> profile with computed traits and memberships
    destinations.route profile before and after   -> messages to the destinations

The walk is cut once, after identity: `resolve_event` runs in the space's single identity writer, `update_profile` in
the partition that owns the profile, with a `ProfileEvent` travelling between them (`stages/profile_changes.py`).
A merge has two doors of its own: `leave_profile` where the absorbed profile lived, `absorb_profiles` where the survivor
lives. Time has one, `fire_due`: a window's edge is passed, and a list is synced, at an instant of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from cdp_stream.audiences.evaluate import evaluate
from cdp_stream.config.topology import Topology, topology_version
from cdp_stream.destinations.lists import forget_list, plan_syncs, sync_lists
from cdp_stream.destinations.route import (
    Routes,
    compile_routes,
    merge_open,
    merge_told,
    resend_members,
    route_memberships,
    route_traits,
)
from cdp_stream.errors import TopologyError
from cdp_stream.identity.extract import unusable_id
from cdp_stream.identity.resolve import resolve_event as resolve_identity
from cdp_stream.identity.rules import IdentityRules, compile_rules
from cdp_stream.language.computations import (
    Computation,
    Computations,
    affected,
    backfilled,
    compile_computations,
    due_at,
    spelled,
)
from cdp_stream.language.values import same
from cdp_stream.model.change import ProfileEvent
from cdp_stream.model.event import DeadLetter, Event
from cdp_stream.model.graph import GraphState, IdentityOutcome
from cdp_stream.model.ids import USERS, ProfileId
from cdp_stream.model.profile import (
    AudienceChange,
    Cause,
    CustomTrait,
    KnownId,
    Output,
    PastEvent,
    ProfileState,
    ProfileUpdate,
    TraitChange,
)
from cdp_stream.model.time import Duration, Instant
from cdp_stream.traits.fold import fold_custom, fold_states, merge_custom, merge_states, prune_states, refold
from cdp_stream.traits.kinds import kind_of


class CompiledTopology(Struct, frozen=True):
    """A topology version, ready to decide with. Its definitions are canonical texts."""

    topology: Topology
    version: str
    space: str
    dedupe_horizon: Duration
    identity: IdentityRules
    computations: Computations
    routes: Routes
    retention: Retention
    context_keys: tuple[str, ...]
    """Outermost keys of an event's context that definitions read or the history keeps."""
    since: dict[str, Instant]


class Retention(Struct, frozen=True):
    """Which of a profile's events are kept: how many, and for how long after they came."""

    events: int
    duration: Duration


def compile_topology(
    topology: Topology, file: str = "topology", since: Mapping[str, Instant] | None = None
) -> CompiledTopology:
    """Compile rules, definitions and routes. Raises TopologyError with every problem in the definitions.

    `since`: from which event time on the events of an audience count, by its key (`historical`), as the log has it.
    """
    computations, problems = compile_computations(topology, since)
    if problems:
        raise TopologyError(file, problems)
    topology = spelled(topology)
    return CompiledTopology(
        topology=topology,
        version=topology_version(topology),
        space=topology.space,
        dedupe_horizon=topology.identity.dedupe_horizon,
        identity=compile_rules(topology.space, topology.identity),
        computations=computations,
        routes=compile_routes(topology),
        retention=Retention(topology.retain.events, topology.retain.duration),
        context_keys=tuple(sorted({*computations.context_keys, *topology.retain.context})),
        since=dict(since or {}),
    )


def refuse(event: Event, topology: CompiledTopology) -> DeadLetter | None:
    """Why an event that was decoded cannot be used under this topology, if so."""
    return unusable_id(event, topology.identity)


def resolve_event(event: Event, state: GraphState, topology: CompiledTopology) -> IdentityOutcome:
    """First half: whose event it is. Reads the graph, returns what is to change in it and why."""
    return resolve_identity(event, state, topology.identity)


def update_profile(
    before: ProfileState | None, event: ProfileEvent, topology: CompiledTopology, cause: Cause
) -> ProfileUpdate:
    """Second half: fold the event into its profile, evaluate what it can have changed, and say what is to be told.

    What is due at or before the event's `now` must have been fired before.
    """
    is_new = before is None
    if before is None:
        created = event.time if event.created is None else event.created
        before = ProfileState(id=event.profile_id, collection=event.collection, created=created)
    custom, changed = fold_custom(before, event)
    outputs: list[Output] = [_custom_change(before, key, value, previous, cause) for key, previous, value in changed]
    computations = topology.computations
    states, full = before.states, list[str]()
    if before.collection == USERS:
        states = fold_states(states, event, computations, full)
    if not changed and not event.external_ids and states is before.states:
        # Nothing that a definition or a destination could see has changed.
        if custom is not before.custom:
            before = msgspec.structs.replace(before, custom=custom)
        return ProfileUpdate(before)
    known = before.external_ids
    if event.external_ids:
        known += tuple(KnownId(i.type, i.id, i.first_seen) for i in event.external_ids)
    folded = msgspec.structs.replace(before, custom=custom, states=states, external_ids=known)
    only = None
    if not is_new:
        name = event.name if states is not before.states else None
        only = affected(computations, name, [key for key, _, _ in changed], [i.type for i in event.external_ids])
    return _settle(before, folded, topology, cause, outputs, _Occasion(cause.now, only, tuple(full)))


def fire_due(profile: ProfileState, instant: Instant, topology: CompiledTopology, cause: Cause) -> ProfileUpdate:
    """Evaluate what is due at this instant, sync the lists whose turn it is, and say what is to be told."""
    only = due_at(topology.computations, [key for key, due in profile.dues.items() if due <= instant])
    aggregations = [aggregation for computation in only for aggregation in computation.aggregations]
    states = prune_states(profile.states, aggregations, instant)
    # Dues of computations that are declared no more go, too.
    dues = {key: due for key, due in profile.dues.items() if due > instant}
    aged = msgspec.structs.replace(profile, states=states, dues=dues)
    update = _settle(profile, aged, topology, cause, [], _Occasion(instant, only))
    return _sync(update, topology.routes, instant) if topology.routes.lists or profile.syncs else update


def _sync(update: ProfileUpdate, routes: Routes, instant: Instant) -> ProfileUpdate:
    """Lists whose sync is due take in what is true of the profile at this instant."""
    opened, changes = sync_lists(update.profile, routes, instant)
    synced = msgspec.structs.replace(update.profile, open=opened)
    synced = msgspec.structs.replace(synced, syncs=plan_syncs(synced, routes, instant))
    return msgspec.structs.replace(update, profile=synced, outputs=(*update.outputs, *changes))


def past_matters(before: CompiledTopology, after: CompiledTopology) -> bool:
    """Does a version that follows another one compute anything that was not computed before?"""
    return bool(backfilled(before.computations, after.computations).aggregations_by_event)


def reconsider(
    profile: ProfileState,
    before: CompiledTopology,
    topology: CompiledTopology,
    cause: Cause,
    past: Iterable[PastEvent] = (),
) -> ProfileUpdate:
    """Evaluate everything under a topology version that has come into force after `before`, and say what is to be told.

    What was not computed so far is computed from the profile's `past`. Traits and audiences that are declared no more
    leave their last value as a custom trait ("computed-traits", "custom-traits"): nobody exits, and nothing is told but
    that trait.
    """
    if profile.collection != USERS:
        return ProfileUpdate(profile)
    computations = topology.computations
    kept = before.computations.aggregation_keys & computations.aggregation_keys
    states = {key: state for key, state in profile.states.items() if key in kept}
    states = refold(states, past, backfilled(before.computations, computations), cause.now)
    left, outputs = _without_undeclared(msgspec.structs.replace(profile, states=states), computations, cause)
    return _settle(left, left, topology, cause, outputs, _Occasion(cause.now))


def _without_undeclared(
    profile: ProfileState, computations: Computations, cause: Cause
) -> tuple[ProfileState, list[Output]]:
    """The profile with the last values of what is declared no more as custom traits, and what is told of that."""
    values = {**profile.computed, **profile.memberships}
    gone = sorted(values.keys() - {*computations.trait_keys, *computations.audience_keys})
    if not gone:
        return profile, []
    custom = dict(profile.custom)
    outputs: list[Output] = []
    for key in gone:
        trait, present = CustomTrait(values[key], cause.now, ""), custom.get(key)
        if trait.value is None or (present is not None and (present.time, present.message_id) > (cause.now, "")):
            continue
        custom[key] = trait
        was = None if present is None else present.value
        if not same(trait.value, was):
            outputs.append(_custom_change(profile, key, trait.value, was, cause))
    left = msgspec.structs.replace(
        profile,
        custom=custom,
        computed={key: value for key, value in profile.computed.items() if key not in gone},
        memberships={key: member for key, member in profile.memberships.items() if key not in gone},
        open=_without(profile.open, gone),
        told=_without(profile.told, gone),
    )
    return left, outputs


def _without(heard: dict[str, dict[str, Any]], gone: Collection[str]) -> dict[str, dict[str, Any]]:
    left = {name: {key: value for key, value in keys.items() if key not in gone} for name, keys in heard.items()}
    return {name: keys for name, keys in left.items() if keys}


def resync(profile: ProfileState, what: tuple[str, str], topology: CompiledTopology, cause: Cause) -> ProfileUpdate:
    """Tell a destination again, where the profile is a member. `what`: audience key and destination."""
    profile = forget_list(profile, topology.routes, what, cause.now)
    opened, messages = resend_members(profile, topology.routes, what, topology.space, cause)
    return ProfileUpdate(msgspec.structs.replace(profile, open=opened), tuple(messages))


def leave_profile(profile: ProfileState, into: ProfileId, cause: Cause) -> ProfileUpdate:
    """What is told when a profile is absorbed: it exits every audience that it was in."""
    exits = tuple(
        _audience_change(profile, key, entered=False, cause=cause, into=into)
        for key, member in sorted(profile.memberships.items())
        if member
    )
    return ProfileUpdate(profile, exits)


def absorb_profiles(
    survivor: ProfileState, absorbed: Sequence[ProfileState], topology: CompiledTopology, cause: Cause
) -> ProfileUpdate:
    """Take in the states of absorbed profiles, in order of creation, and evaluate once.

    The result equals that of a run in which every event had been keyed to the survivor from the start.
    """
    merged = survivor
    for other in absorbed:
        merged = msgspec.structs.replace(
            merged,
            created=min(merged.created, other.created),
            external_ids=merged.external_ids + other.external_ids,
            custom=merge_custom(merged.custom, other.custom),
            states=merge_states(merged.states, other.states),
            open=merge_open(merged.open, other.open),
            told=merge_told(merged.told, other.told),
        )
    outputs: list[Output] = []
    for key in sorted(merged.custom):
        trait, previous = merged.custom[key], survivor.custom.get(key)
        was = None if previous is None else previous.value
        if not same(trait.value, was):
            outputs.append(_custom_change(survivor, key, trait.value, was, cause))
    return _settle(survivor, merged, topology, cause, outputs, _Occasion(cause.now))


class _Occasion(Struct, frozen=True):
    """When a profile is evaluated, what of it (None: everything), and which kinds of states are at their limit."""

    now: Instant
    only: tuple[Computation, ...] | None = None
    full: tuple[str, ...] = ()


def _settle(
    before: ProfileState,
    folded: ProfileState,
    topology: CompiledTopology,
    cause: Cause,
    outputs: list[Output],
    occasion: _Occasion,
) -> ProfileUpdate:
    """Evaluate the folded profile once, and tell every difference to `before`."""
    if folded.collection != USERS:
        return ProfileUpdate(folded, tuple(outputs))
    computations, only = topology.computations, occasion.only
    if only is not None and not only and folded.external_ids == before.external_ids:
        return ProfileUpdate(folded, tuple(outputs), occasion.full)
    evaluation = evaluate(folded, computations, kind_of, occasion.now, only)
    after = msgspec.structs.replace(
        folded, computed=evaluation.computed, memberships=evaluation.memberships, dues=evaluation.dues
    )
    changed = set[str]()
    touched = None if only is None else {computation.key for computation in only}
    for key in computations.trait_keys:
        if touched is not None and key not in touched:
            continue
        value, previous = after.computed.get(key), before.computed.get(key)
        if not same(value, previous):
            changed.add(key)
            outputs.append(
                TraitChange(
                    profile_id=after.id,
                    collection=after.collection,
                    trait_key=key,
                    trait_class="computed",
                    value=value,
                    previous=previous,
                    cause=cause,
                )
            )
    for key in computations.audience_keys:
        member = after.memberships.get(key, False)
        if member != before.memberships.get(key, False):
            changed.add(key)
            outputs.append(_audience_change(after, key, entered=member, cause=cause))
    # Destinations know a settled profile as it was. Beside what has changed, they hear of new ids, and of new routes.
    news = changed if only is not None and after.external_ids == before.external_ids else None
    if news is not None and not news:
        return ProfileUpdate(after, tuple(outputs), occasion.full)
    last_told, trait_messages = route_traits(after, topology.routes, topology.space, cause, news)
    opened, membership_messages = route_memberships(after, topology.routes, topology.space, cause, news)
    outputs.extend(trait_messages)
    outputs.extend(membership_messages)
    settled = msgspec.structs.replace(after, told=last_told, open=opened)
    if topology.routes.lists or settled.syncs:
        settled = msgspec.structs.replace(settled, syncs=plan_syncs(settled, topology.routes, occasion.now))
    return ProfileUpdate(settled, tuple(outputs), occasion.full)


def _custom_change(profile: ProfileState, key: str, value: Any, previous: Any, cause: Cause) -> TraitChange:
    return TraitChange(
        profile_id=profile.id,
        collection=profile.collection,
        trait_key=key,
        trait_class="custom",
        value=value,
        previous=previous,
        cause=cause,
    )


def _audience_change(
    profile: ProfileState, key: str, *, entered: bool, cause: Cause, into: ProfileId | None = None
) -> AudienceChange:
    ids: dict[str, list[str]] = {}
    for known in profile.external_ids:
        ids.setdefault(known.type, []).append(known.id)
    return AudienceChange(
        profile_id=profile.id,
        collection=profile.collection,
        audience_key=key,
        entered=entered,
        cause=cause,
        external_ids=ids,
        into=into,
    )

"""Room 3: an event is folded into its profile's custom traits and into the states of computed ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cdp_stream.language.aggregations import Aggregation
from cdp_stream.language.computations import Computations
from cdp_stream.language.values import Many, canonical, same
from cdp_stream.model.change import ProfileEvent
from cdp_stream.model.ids import USERS, ProfileId
from cdp_stream.model.profile import CustomTrait, PastEvent, ProfileState
from cdp_stream.model.time import Instant
from cdp_stream.traits.kinds import BOUNDED, kind_of
from cdp_stream.traits.kinds.rows import Candidates

CustomTraits = dict[str, CustomTrait]
States = dict[str, Any]


def fold_custom(profile: ProfileState, event: ProfileEvent) -> tuple[CustomTraits, list[tuple[str, Any, Any]]]:
    """Custom traits after the event, and what changed: key, previous value, value, by key.

    The later event wins, by event time, then message id, in whatever order they arrive. A null removes the trait and
    keeps its time; an equal value only moves the clock on. The dict is the profile's own when nothing moved.
    """
    if not event.traits:
        return profile.custom, []
    custom = dict(profile.custom)
    changed: list[tuple[str, Any, Any]] = []
    moved = False
    for key in sorted(event.traits):
        value, before = event.traits[key], custom.get(key)
        if before is not None and (event.time, event.message_id) <= (before.time, before.message_id):
            continue
        moved = True
        custom[key] = CustomTrait(value, event.time, event.message_id)
        previous = None if before is None else before.value
        if not same(previous, value):
            changed.append((key, previous, value))
    return (custom, changed) if moved else (profile.custom, changed)


def fold_states(
    states: States, event: ProfileEvent, computations: Computations, full: list[str] | None = None
) -> States:
    """Aggregation states after the event; the same dict when it touches none.

    `full` collects the kinds of states that are at their limit, where older or later values have been let go.
    """
    aggregations = None if event.name is None else computations.aggregations_by_event.get(event.name)
    if aggregations is None:
        return states
    after: States | None = None
    for aggregation in aggregations:
        if aggregation.since is not None and event.time < aggregation.since:
            continue
        if aggregation.matches is not None and not aggregation.matches(event):
            continue
        added = _added(states.get(aggregation.key), event, aggregation, full)
        if added is not None and added is not states.get(aggregation.key):
            after = dict(states) if after is None else after
            after[aggregation.key] = added
    return states if after is None else after


def refold(states: States, past: Iterable[PastEvent], computations: Computations, now: Instant) -> States:
    """States after all these events of the past, in whatever order, as they are at `now`."""
    for event in past:
        if event.name in computations.aggregations_by_event:
            states = fold_states(states, _replayed(event, now), computations)
    return states


def _replayed(event: PastEvent, now: Instant) -> ProfileEvent:
    return ProfileEvent(
        index=0,
        record=0,
        now=now,
        profile_id=ProfileId(""),
        collection=USERS,
        type="track",
        message_id=event.message_id,
        time=event.time,
        name=event.name,
        properties=event.properties,
        context=event.context,
    )


def _added(state: Any, event: ProfileEvent, aggregation: Aggregation, full: list[str] | None) -> Any:
    """The aggregation's state after the event, None while there is none."""
    kind = kind_of(aggregation.kind)
    value = None if aggregation.value is None else aggregation.value(event)
    message_id = event.message_id if aggregation.keeps_ids else ""
    before = kind.zero() if state is None else state
    added = before
    for one in value if type(value) is Many else (value,):
        added = kind.add(added, one, event.time, message_id)
    if added is before:
        return state
    if isinstance(kind, Candidates) and aggregation.horizon is not None:
        added = kind.prune(added, event.now - aggregation.horizon)
    if full is not None and isinstance(kind, BOUNDED) and kind.size(added) >= kind.size_max:
        full.append(aggregation.kind.partition(".")[0])
    return added


def prune_states(states: States, aggregations: Iterable[Aggregation], now: Instant) -> States:
    """Without the candidates that have become too old to matter; the same dict when there are none."""
    after: States | None = None
    for aggregation in aggregations:
        state, kind = states.get(aggregation.key), kind_of(aggregation.kind)
        if state is None or aggregation.horizon is None or not isinstance(kind, Candidates):
            continue
        pruned = kind.prune(state, now - aggregation.horizon)
        if pruned is not state:
            after = dict(states) if after is None else after
            after[aggregation.key] = pruned
    return states if after is None else after


def merge_custom(custom: CustomTraits, other: CustomTraits) -> CustomTraits:
    """Custom traits of two profiles as one: per key the later one, by its clock."""
    merged = dict(custom)
    for key, trait in other.items():
        present = merged.get(key)
        if present is None or _clock(trait) > _clock(present):
            merged[key] = trait
    return merged


def merge_states(states: States, other: States) -> States:
    """Aggregation states of two profiles as one. A key tells its kind, so no topology is needed."""
    merged = dict(states)
    for key, state in other.items():
        merged[key] = kind_of(key.partition(":")[0]).merge(merged[key], state) if key in merged else state
    return merged


def _clock(trait: CustomTrait) -> tuple[int, str, bytes]:
    # One message may have reached both profiles under different forms; the value's text decides that tie.
    return trait.time, trait.message_id, canonical(trait.value)

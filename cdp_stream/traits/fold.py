"""Room 3: an event is folded into its profile's custom traits and into the states of computed ones."""

from __future__ import annotations

from typing import Any

from cdp_stream.language.computations import Computations, reducer_of
from cdp_stream.language.nodes import Reducer
from cdp_stream.language.values import canonical, lookup, same
from cdp_stream.model.change import ProfileEvent
from cdp_stream.model.profile import CustomTrait, ProfileState
from cdp_stream.traits.kinds import KINDS

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


def fold_states(states: States, event: ProfileEvent, computations: Computations) -> States:
    """Aggregation states after the event; the same dict when it touches none."""
    aggregations = None if event.name is None else computations.aggregations_by_event.get(event.name)
    if aggregations is None:
        return states
    after: States | None = None
    for aggregation in aggregations:
        if aggregation.matches is not None and not aggregation.matches(event.properties):
            continue
        kind, key = KINDS[aggregation.reducer], aggregation.key
        value = None if aggregation.path is None else lookup(event.properties, aggregation.path)
        state = states[key] if key in states else kind.zero()
        added = kind.add(state, value, event.time, event.message_id)
        if added is not state:
            after = dict(states) if after is None else after
            after[key] = added
    return states if after is None else after


def read_state(reducer: Reducer, state: Any) -> Any:
    """The value of a stored aggregation state, or None for none."""
    return KINDS[reducer].read(state)


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
        merged[key] = KINDS[reducer_of(key)].merge(merged[key], state) if key in merged else state
    return merged


def _clock(trait: CustomTrait) -> tuple[int, str, bytes]:
    # One message may have reached both profiles under different forms; the value's text decides that tie.
    return trait.time, trait.message_id, canonical(trait.value)

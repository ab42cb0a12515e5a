"""Room 4: who is in which audience. Values of all traits and memberships, in one order of dependency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from cdp_stream.language.computations import IDENTIFIED_TYPES, Computation, Computations, Scope, StateReader
from cdp_stream.model.profile import ProfileState


class Evaluation(Struct, frozen=True):
    """What a profile computes to."""

    computed: dict[str, Any]
    """Trait key to value, for traits that have one or ever had one (then None)."""
    memberships: dict[str, bool]
    """Audience key to membership, for audiences that the profile is in or ever was."""


def evaluate(
    profile: ProfileState,
    computations: Computations,
    read_state: StateReader,
    only: Sequence[Computation] | None = None,
) -> Evaluation:
    """Evaluate every computation, or `only` these (of `affected`), for a profile that was evaluated before.

    `read_state` turns a stored aggregation state into its value. Membership is the condition and, unless anonymous
    profiles are included, an id that identifies; the same holds for a trait's value. Keys that the topology no longer
    declares keep their last value.
    """
    scope = Scope(
        custom=profile.custom,
        states=profile.states,
        computed=dict(profile.computed),
        memberships=dict(profile.memberships),
        read_state=read_state,
    )
    identified = any(known.type in IDENTIFIED_TYPES for known in profile.external_ids)
    for computation in computations.order if only is None else only:
        eligible = identified or computation.include_anonymous
        key = computation.key
        if computation.is_audience:
            member = eligible and computation.value(scope)
            if member or key in scope.memberships:
                scope.memberships[key] = member
        else:
            value = computation.value(scope) if eligible else None
            if value is not None or key in scope.computed:
                scope.computed[key] = value
    return Evaluation(scope.computed, scope.memberships)

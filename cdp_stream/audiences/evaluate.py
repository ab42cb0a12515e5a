"""Room 4: who is in which audience. Values of all traits and memberships, in one order of dependency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from cdp_stream.language.computations import IDENTIFIED_TYPES, Computation, Computations
from cdp_stream.language.scope import NEVER, KindOf, Scope
from cdp_stream.model.profile import ProfileState
from cdp_stream.model.time import Instant


class Evaluation(Struct, frozen=True):
    """What a profile computes to."""

    computed: dict[str, Any]
    """Trait key to value, for traits that have one or ever had one (then None)."""
    memberships: dict[str, bool]
    """Audience key to membership, for audiences that the profile is in or ever was."""
    dues: dict[str, Instant]
    """Key to the earliest instant at which time alone may change the result; no key: never."""


def evaluate(
    profile: ProfileState,
    computations: Computations,
    kind_of: KindOf,
    now: Instant,
    only: Sequence[Computation] | None = None,
) -> Evaluation:
    """Evaluate every computation, or `only` these (of `affected` or `due_at`), for a profile that was evaluated before.

    Membership is the condition and, unless anonymous profiles are included, an id that identifies; the same holds for
    a trait's value. Keys that the topology no longer declares keep their last value.
    """
    scope = Scope(
        custom=profile.custom,
        states=profile.states,
        computed=dict(profile.computed),
        memberships=dict(profile.memberships),
        kind_of=kind_of,
        now=now,
        profile_id=profile.id,
    )
    dues = {} if only is None else dict(profile.dues)
    identified = any(known.type in IDENTIFIED_TYPES for known in profile.external_ids)
    for computation in computations.order if only is None else only:
        eligible = identified or computation.include_anonymous
        key = computation.key
        scope.due = NEVER
        if computation.is_audience:
            member = eligible and computation.value(scope)
            if member or key in scope.memberships:
                scope.memberships[key] = member
        else:
            value = computation.value(scope) if eligible else None
            if value is not None or key in scope.computed:
                scope.computed[key] = value
        if scope.due < NEVER:
            dues[key] = scope.due
        else:
            dues.pop(key, None)
    return Evaluation(scope.computed, scope.memberships, dues)

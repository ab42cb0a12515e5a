"""A profile as the profile stage keeps it: traits, trait states, memberships, what destinations were told."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from cdp_stream.model.ids import Collection, ProfileId
from cdp_stream.model.time import Instant


class PastEvent(Struct, frozen=True, array_like=True):
    """One event of a profile's history. Of events that are not retained, only the message id is there."""

    message_id: str
    now: Instant = 0
    """Stream time when it came."""
    time: Instant = 0
    name: str | None = None
    properties: Any = None
    context: Any = None


class KnownId(Struct, frozen=True, array_like=True):
    """An external id of the profile, since when (event time)."""

    type: str
    id: str
    first_seen: Instant


class CustomTrait(Struct, frozen=True, array_like=True):
    """A custom trait and its clock: event time, then message id (contract section 3). None: removed."""

    value: Any
    time: Instant
    message_id: str


Combination = tuple[tuple[str, str], ...]
"""One identifier combination of outgoing events (A20): ((type, id), ...), e.g. (("user_id","u1"), ("email","a@b.c"))."""


class ProfileState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All the profile stage knows of one profile. A new value replaces it; it is never changed in place,
    and neither are the dicts inside it.
    """

    id: ProfileId
    collection: Collection
    created: Instant
    external_ids: tuple[KnownId, ...] = ()
    """In order of arrival (absorbed profiles' ids after the survivor's)."""
    custom: dict[str, CustomTrait] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)
    """Trait state by aggregation key; each kind's own mergeable form, made of plain JSON values."""
    computed: dict[str, Any] = field(default_factory=dict)
    """Last value of each computed trait that has one (or had one: then None)."""
    memberships: dict[str, bool] = field(default_factory=dict)
    """Audience key to membership, for audiences ever evaluated true."""
    dues: dict[str, Instant] = field(default_factory=dict)
    """Key of a computation to the earliest instant at which time alone may change it."""
    open: dict[str, dict[str, tuple[Combination, ...]]] = field(default_factory=dict)
    """Destination to audience key to combinations told entered and not yet exited; of a list: those that are on it."""
    told: dict[str, dict[str, tuple[tuple[Combination, Any], ...]]] = field(default_factory=dict)
    """Destination to computed trait key to combinations and the last value each was told."""
    syncs: dict[str, Instant] = field(default_factory=dict)
    """List destination to the sync at which it hears that the profile is to be on other lists than `open` says."""

    @property
    def due(self) -> Instant | None:
        """The earliest instant at which time alone may change or tell anything, or None for never."""
        if self.syncs:
            return min([*self.dues.values(), *self.syncs.values()])
        return min(self.dues.values()) if self.dues else None


class Cause(Struct, frozen=True):
    """Why outputs are made: kind, when (event time or due instant), by which message, at which `now`."""

    kind: str
    """`event`, `time`, `merge`, `absorbed` or `topology` (contract section 2, audience changes)."""
    time: Instant
    now: Instant
    message_id: str
    """Empty when no message is the cause: a due time."""
    seq: str


class TraitChange(Struct, frozen=True, kw_only=True):
    """One changed trait (contract section 2)."""

    profile_id: ProfileId
    collection: Collection
    trait_key: str
    trait_class: str
    """`custom` or `computed`."""
    value: Any
    previous: Any
    cause: Cause


class AudienceChange(Struct, frozen=True, kw_only=True):
    """One entry or exit (contract section 2)."""

    profile_id: ProfileId
    collection: Collection
    audience_key: str
    entered: bool
    cause: Cause
    external_ids: dict[str, list[str]]
    into: ProfileId | None = None


class DestinationMessage(Struct, frozen=True, kw_only=True):
    """A message to one destination: the payload of semantics section 5, ready to be encoded."""

    destination: str
    profile_id: ProfileId
    payload: dict[str, Any]


class ListChange(Struct, frozen=True, kw_only=True):
    """What a sync changes in one list because of one profile: members as they go out, ready to be encoded."""

    destination: str
    audience_key: str
    audience_name: str
    profile_id: ProfileId
    sync: Instant
    added: tuple[dict[str, Any], ...]
    removed: tuple[dict[str, Any], ...]


Output = TraitChange | AudienceChange | DestinationMessage | ListChange


class ProfileUpdate(Struct, frozen=True):
    """A profile after a change, and what is to be told, in order."""

    profile: ProfileState
    outputs: tuple[Output, ...] = ()
    full: tuple[str, ...] = ()
    """Kinds of states that are at their limit (`docs/traits.md`), once for each."""

"""Profile changes: what the identity stage tells the profile stage, one union, tagged by `change`."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from cdp_stream.model.ids import Collection, ProfileId
from cdp_stream.model.time import Instant

SOURCE_KEY: Final = "\0source"
"""Under this key the context of a change names the event's source, where definitions ask for it; no sender's key comes
through with it.
"""


class NewExternalId(Struct, frozen=True, array_like=True):
    """An external id that became the profile's with this change, and since when."""

    type: str
    id: str
    first_seen: Instant


class Change(Struct, frozen=True, kw_only=True, tag_field="change", omit_defaults=True):
    """What all changes carry. `index` counts the changes of one identity log entry, `record` its records."""

    index: int
    record: int
    now: Instant


class ProfileEvent(Change, frozen=True, kw_only=True, tag="event", omit_defaults=True):
    """An event of this profile; for a group call there is one for the user and one for the account."""

    profile_id: ProfileId
    collection: Collection
    type: str
    message_id: str
    time: Instant
    name: str | None = None
    properties: Any = None
    """A dict, or None for none."""
    context: Any = None
    """The parts of the context that definitions read: a dict, or None for none."""
    traits: Any = None
    """Custom traits to fold: a dict, or None for none."""
    created: Instant | None = None
    """Set when this event created the profile."""
    external_ids: tuple[NewExternalId, ...] = ()


class Absorbed(Change, frozen=True, kw_only=True, tag="absorbed", omit_defaults=True):
    """`profile_id` has become part of `into`: its state is to be shipped there."""

    profile_id: ProfileId
    into: ProfileId
    message_id: str
    time: Instant


class Absorbs(Change, frozen=True, kw_only=True, tag="absorbs", omit_defaults=True):
    """`profile_id` takes in these profiles, in order of their creation, as one group."""

    profile_id: ProfileId
    absorbed: tuple[ProfileId, ...]
    message_id: str
    time: Instant


class TopologyApplied(Change, frozen=True, kw_only=True, tag="topology", omit_defaults=True):
    """A topology version comes into force for every later record."""

    version: str
    topology: Any
    """The canonical form, as plain JSON values."""
    since: dict[str, Instant] = {}
    """Keys of audiences without all of history, and from which event time on theirs begins."""


class Resync(Change, frozen=True, kw_only=True, tag="resync", omit_defaults=True):
    """A destination is to hear of every present member of an audience again."""

    audience_key: str
    destination: str
    message_id: str
    """Of the order."""


class Clock(Change, frozen=True, kw_only=True, tag="clock", omit_defaults=True):
    """Nothing but time has passed: `now` has moved."""


ProfileChange = ProfileEvent | Absorbed | Absorbs | TopologyApplied | Resync | Clock


class ProfileChanges(Struct, frozen=True, kw_only=True):
    """The message of one step to one partition of the profile stage (contract section 2)."""

    step: int
    """Offset of the identity log entry."""
    previous: int
    """Offset of the last message to this partition, -1 for the first."""
    topology_version: str
    changes: list[ProfileChange]

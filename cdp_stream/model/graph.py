"""The identity graph's values: what one profile owns, and what one event decided."""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct

from cdp_stream.model.ids import Collection, ExternalId, ProfileId
from cdp_stream.model.time import Instant


class Mapping(Struct, frozen=True, array_like=True):
    """One external id on a profile, since when (event time), and by which message."""

    type: str
    value: str
    mapped_at: Instant
    message_id: str


class GraphProfile(Struct, frozen=True, array_like=True):
    """A profile as the identity graph knows it."""

    id: ProfileId
    collection: Collection
    number: int
    """Place in order of creation within the space; the survivor of a merge is the lowest."""
    created: Instant
    mappings: tuple[Mapping, ...]
    merges: int = 0
    absorbed: tuple[ProfileId, ...] = ()
    """Every profile it has absorbed, also indirectly, in the order they came in."""
    old_links: tuple[ProfileId, ...] = ()
    """Links of a state before format 3, as they were then. All others have keys of their own: an account has any number
    of users, and must not be written anew for each."""


Link = tuple[ProfileId, ProfileId]
"""A user and an account that know each other; which of the two comes first does not matter."""


class GraphState(Protocol):
    """What resolution may ask of the graph. Reads only."""

    def owner(self, collection: Collection, external_id: ExternalId) -> ProfileId | None:
        """Who holds this external id now; never an absorbed profile."""

    def profile(self, profile_id: ProfileId) -> GraphProfile:
        """The profile of that id. Raises KeyError if there is none."""

    def is_linked(self, one: ProfileId, other: ProfileId) -> bool:
        """Do this user and this account know each other?"""

    def links(self, profile_id: ProfileId, at_most: int | None = None) -> tuple[ProfileId, ...]:
        """Who of the other collection this one knows, in the order in which they came to: a user's accounts, an account's
        users. `at_most`: some of them, when only their number matters.
        """

    @property
    def registered_types(self) -> tuple[str, ...]:
        """Identifier types registered by `externalIds`, in alphabetical order."""

    @property
    def profiles_count(self) -> int:
        """How many profiles were ever created; the next one's `number`."""


DecisionKind = Literal[
    "profile_created",
    "identifier_mapped",
    "profiles_merged",
    "identifier_demoted",
    "value_blocked",
    "cap_reached",
    "type_registered",
    "account_linked",
    "no_identifiers",
    "topology_applied",
    "loss_accepted",
    "source_reset",
    "resync_requested",
]


class Decision(Struct, frozen=True):
    """One row of the identity ledger, without its place in the log (contract section 2)."""

    decision: DecisionKind
    profile_id: ProfileId | None = None
    collection: Collection | None = None
    identifiers: tuple[ExternalId, ...] = ()
    absorbed: tuple[ProfileId, ...] = ()
    demoted: tuple[ExternalId, ...] = ()
    violation: str | None = None


class Resolution(Struct, frozen=True):
    """Whose event it is, in one collection."""

    profile: GraphProfile
    """The resolved profile as it is after the event."""
    created: bool = False
    absorbed: tuple[ProfileId, ...] = ()
    """Profiles merged into it by this event, in order of their creation."""
    mapped: tuple[Mapping, ...] = ()
    """Mappings new to the survivor because of this event itself; those of absorbed profiles not among them."""
    demoted: tuple[ExternalId, ...] = ()


class IdentityOutcome(Struct, frozen=True):
    """All that one event changes in the graph, and why. Nothing is written by the room itself."""

    user: Resolution | None = None
    account: Resolution | None = None
    profiles: tuple[GraphProfile, ...] = ()
    """Profiles to store, in their new form; each id once."""
    owners: tuple[tuple[Collection, ExternalId, ProfileId], ...] = ()
    """External ids and their new owner."""
    redirects: tuple[tuple[ProfileId, ProfileId], ...] = ()
    """Absorbed profile and who it is now; also for profiles absorbed by it earlier."""
    unlinked: tuple[Link, ...] = ()
    """Links of absorbed profiles. They go before those of `linked` come."""
    linked: tuple[Link, ...] = ()
    registered: tuple[str, ...] = ()
    """Identifier types seen for the first time."""
    created_count: int = 0
    decisions: tuple[Decision, ...] = ()

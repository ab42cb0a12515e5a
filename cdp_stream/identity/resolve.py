"""Step 2: whose event is it? Flat matching under limits, priorities and caps; a decision with its reasons, no writes.

All profiles that hold any of the event's identifiers are matched. None: create. One: add. Several: merge. Where the
result would break a limit, identifiers are left out before (`demote`), and where it would break a cap, the event keeps
to one of the matched profiles (public page "identity-resolution-onboarding").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from cdp_stream.identity.demote import Owners, demote
from cdp_stream.identity.extract import Extraction, extract
from cdp_stream.identity.rules import IdentityRules
from cdp_stream.model.event import Event
from cdp_stream.model.graph import (
    Decision,
    DecisionKind,
    GraphProfile,
    GraphState,
    IdentityOutcome,
    Link,
    Mapping,
    Resolution,
)
from cdp_stream.model.ids import ACCOUNTS, USERS, Collection, ExternalId, ProfileId, profile_id_for

NO_IDENTIFIERS: Final = "No matching identifiers on event"
BLOCKED: Final = "ID value blocked"
MERGE_CAP: Final = "Profile merge limit exceeded"
MAPPING_CAP: Final = "Identifier mapping limit exceeded"
LINK_CAP: Final = "Account link limit exceeded"
LINKS_MOVED_MAX: Final = 5_000
"""How many accounts, or users, a profile may have that is to be absorbed: they all move in one step."""


def resolve_event(event: Event, state: GraphState, rules: IdentityRules) -> IdentityOutcome:
    """Resolve the event's user and, for a group call, its account, and link them.

    `event.time` is clamped already. More than nine of ten events name one known user with known identifiers: they end
    here at once, and change nothing.
    """
    registered = state.registered_types
    found = extract(event, rules, registered)
    owner_of = state.owner
    users: Owners = {external_id: owner_of(USERS, external_id) for external_id in found.users}
    if event.type != "group" and users and not found.blocked and not found.registered:
        owner, *others = users.values()
        if owner is not None and (not others or all(other == owner for other in others)):
            return IdentityOutcome(Resolution(state.profile(owner)))
    accounts: Owners = {external_id: state.owner(ACCOUNTS, external_id) for external_id in found.accounts}
    if found.registered:
        registered = tuple(sorted((*registered, *found.registered)))
    ranks = rules.ranks(registered)
    if not event.identity:
        return _attach(users, accounts, found, state, ranks)
    walk = _Walk(event, state, rules, ranks)
    user = walk.resolve(USERS, users, found.blocked)
    account = walk.resolve(ACCOUNTS, accounts, found.blocked_accounts)
    return walk.outcome(user, account, found)


def _attach(
    users: Owners, accounts: Owners, found: Extraction, state: GraphState, ranks: dict[str, int]
) -> IdentityOutcome:
    """An event of a source without identity: it goes where its known ids point, and changes nothing.

    What was blocked on it, and that it belongs to nobody, is told as of any other event.
    """

    def most_trusted(owners: Owners) -> Resolution | None:
        for external_id in _ranked(owners, ranks):
            if (owner := owners[external_id]) is not None:
                return Resolution(state.profile(owner))
        return None

    user, account = most_trusted(users), most_trusted(accounts)
    decisions = [_value_blocked(value, user) for value in found.blocked]
    decisions += [_value_blocked(value, account) for value in found.blocked_accounts]
    if user is None and account is None:
        decisions.append(Decision("no_identifiers", violation=NO_IDENTIFIERS))
    return IdentityOutcome(user=user, account=account, decisions=tuple(decisions))


def _value_blocked(value: ExternalId, resolution: Resolution | None) -> Decision:
    if resolution is None:
        return Decision("value_blocked", identifiers=(value,), violation=BLOCKED)
    profile = resolution.profile
    return Decision(
        "value_blocked",
        profile_id=profile.id,
        collection=profile.collection,
        identifiers=(value,),
        violation=BLOCKED,
    )


def _ranked(ids: Sequence[ExternalId] | Owners, ranks: dict[str, int]) -> list[ExternalId]:
    """Most trusted first; inside one type in order of extraction."""
    return sorted(ids, key=lambda external_id: ranks[external_id.type])


class _Walk:
    """One event's resolution in progress: profiles as they will be, and the decisions so far."""

    def __init__(self, event: Event, state: GraphState, rules: IdentityRules, ranks: dict[str, int]) -> None:
        self.event = event
        self.state = state
        self.rules = rules
        self.ranks = ranks
        self.profiles: dict[ProfileId, GraphProfile] = {}
        self.owners: list[tuple[Collection, ExternalId, ProfileId]] = []
        self.redirects: list[tuple[ProfileId, ProfileId]] = []
        self.absorbed: dict[ProfileId, ProfileId] = {}
        """Absorbed by this event, and by whom."""
        self.links_lost: list[Link] = []
        """An absorbed profile and who it was linked with."""
        self.decisions: list[Decision] = []
        self.created = 0

    def profile(self, profile_id: ProfileId) -> GraphProfile:
        """A profile as it is within this event."""
        return self.profiles.get(profile_id) or self.state.profile(profile_id)

    def resolve(self, collection: Collection, owners: Owners, blocked: tuple[ExternalId, ...]) -> Resolution | None:
        """Resolve in one collection; None when no identifier is left."""
        if not owners:
            self._blocked(blocked, None)
            return None
        profiles = {owner: self.profile(owner) for owner in owners.values() if owner is not None}
        kept, demoted = demote(tuple(owners), owners, profiles, self.event.time, self.rules, self.ranks)
        held = {owners[external_id] for external_id in kept}
        matched = sorted((profiles[owner] for owner in held if owner is not None), key=lambda profile: profile.number)
        if not matched:
            resolution = self._create(collection, kept)
        elif len(matched) == 1:
            resolution = self._add(matched[0], [i for i in kept if owners[i] is None])
        else:
            resolution = self._merge(matched, kept, owners)
        profile = resolution.profile
        self._blocked(blocked, profile)
        for out in demoted:
            self._decide("identifier_demoted", profile, demoted=(out.external_id,), violation=out.violation)
        return replace(resolution, demoted=tuple(out.external_id for out in demoted))

    def _decide(
        self,
        kind: DecisionKind,
        profile: GraphProfile | None,
        *,
        identifiers: tuple[ExternalId, ...] = (),
        absorbed: tuple[ProfileId, ...] = (),
        demoted: tuple[ExternalId, ...] = (),
        violation: str | None = None,
    ) -> None:
        self.decisions.append(
            Decision(
                kind,
                profile_id=None if profile is None else profile.id,
                collection=None if profile is None else profile.collection,
                identifiers=identifiers,
                absorbed=absorbed,
                demoted=demoted,
                violation=violation,
            )
        )

    def _blocked(self, blocked: tuple[ExternalId, ...], profile: GraphProfile | None) -> None:
        for external_id in blocked:
            self._decide("value_blocked", profile, identifiers=(external_id,), violation=BLOCKED)

    def _create(self, collection: Collection, ids: Sequence[ExternalId]) -> Resolution:
        event = self.event
        profile_id = profile_id_for(self.rules.space, collection, event.message_id, event.source)
        profile = GraphProfile(profile_id, collection, self.state.profiles_count + self.created, event.time, ())
        self.created += 1
        self._decide("profile_created", profile)
        return replace(self._add(profile, ids), created=True)

    def _add(self, profile: GraphProfile, new: Sequence[ExternalId]) -> Resolution:
        """Map identifiers that nobody owns, best rank first, until the mapping cap."""
        event = self.event
        room = max(0, self.rules.mappings_max - len(profile.mappings))
        ranked = _ranked(new, self.ranks)
        mapped = tuple(Mapping(i.type, i.value, event.time, event.message_id) for i in ranked[:room])
        if mapped:
            profile = replace(profile, mappings=profile.mappings + mapped)
            self.profiles[profile.id] = profile
        for external_id in ranked[:room]:
            self.owners.append((profile.collection, external_id, profile.id))
            self._decide("identifier_mapped", profile, identifiers=(external_id,))
        if len(ranked) > room:
            self._decide("cap_reached", profile, identifiers=tuple(ranked[room:]), violation=MAPPING_CAP)
        return Resolution(profile, mapped=mapped)

    def _merge(self, matched: Sequence[GraphProfile], ids: Sequence[ExternalId], owners: Owners) -> Resolution:
        """Fold the later profiles into the first, unless that would break a cap."""
        new = [external_id for external_id in ids if owners[external_id] is None]
        known = tuple(external_id for external_id in ids if owners[external_id] is not None)
        survivor, *others = matched
        merges = sum(profile.merges for profile in matched) + len(others)
        # One more than may move is enough to know that they are too many.
        links = {other.id: self.state.links(other.id, LINKS_MOVED_MAX + 1) for other in others}
        violation = None
        if merges > self.rules.merges_max:
            violation = MERGE_CAP
        elif sum(len(profile.mappings) for profile in matched) + len(new) > self.rules.mappings_max:
            violation = MAPPING_CAP
        elif any(len(linked) > LINKS_MOVED_MAX for linked in links.values()):
            violation = LINK_CAP
        if violation is not None:
            # No merge, not even a partial one: the event goes to the owner of its most trusted id.
            owner = owners[_ranked(known, self.ranks)[0]]
            home = next(profile for profile in matched if profile.id == owner)
            self._decide("cap_reached", home, identifiers=known, violation=violation)
            return self._add(home, new)
        for other in others:
            survivor = self._absorb(survivor, other)
            self.links_lost.extend((other.id, link) for link in links[other.id])
        survivor = replace(survivor, merges=merges)
        self.profiles[survivor.id] = survivor
        absorbed = tuple(profile.id for profile in others)
        self._decide("profiles_merged", survivor, identifiers=known, absorbed=absorbed)
        return replace(self._add(survivor, new), absorbed=absorbed)

    def _absorb(self, survivor: GraphProfile, other: GraphProfile) -> GraphProfile:
        """The survivor with all that the other has; what points at the other points at the survivor from now on."""
        collection = survivor.collection
        self.owners.extend((collection, ExternalId(m.type, m.value), survivor.id) for m in other.mappings)
        gone = (other.id, *other.absorbed)
        self.redirects.extend((absorbed, survivor.id) for absorbed in gone)
        self.absorbed[other.id] = survivor.id
        self.profiles.pop(other.id, None)
        return replace(
            survivor,
            mappings=survivor.mappings + other.mappings,
            absorbed=survivor.absorbed + gone,
        )

    def outcome(self, user: Resolution | None, account: Resolution | None, found: Extraction) -> IdentityOutcome:
        """Link user and account, and put everything together."""
        linked = self._moved_links()
        if user is not None and account is not None:
            linked += self._link(user.profile, account.profile, linked)
        if user is None and account is None:
            self._decide("no_identifiers", None, violation=NO_IDENTIFIERS)
        types = tuple(Decision("type_registered", identifiers=(ExternalId(type_, ""),)) for type_ in found.registered)
        return IdentityOutcome(
            user=user,
            account=account,
            profiles=tuple(self.profiles.values()),
            owners=tuple(self.owners),
            redirects=tuple(self.redirects),
            unlinked=tuple(self.links_lost),
            linked=tuple(linked),
            registered=found.registered,
            created_count=self.created,
            decisions=(*types, *self.decisions),
        )

    def _moved_links(self) -> list[Link]:
        """Links of absorbed profiles as they are once this event's merges are done, unless there is such a one already."""
        moved: dict[frozenset[ProfileId], Link] = {}
        for one, other in self.links_lost:
            link = self.absorbed.get(one, one), self.absorbed.get(other, other)
            if not self.state.is_linked(*link):
                moved.setdefault(frozenset(link), link)
        return list(moved.values())

    def _link(self, person: GraphProfile, company: GraphProfile, moved: Sequence[Link]) -> list[Link]:
        """User and account come to know each other, unless they do already or by a link that moved."""
        link = person.id, company.id
        if self.state.is_linked(*link) or link in moved or link[::-1] in moved:
            return []
        group = tuple(ExternalId(m.type, m.value) for m in company.mappings if m.type == "group_id")
        self._decide("account_linked", person, identifiers=group)
        return [link]

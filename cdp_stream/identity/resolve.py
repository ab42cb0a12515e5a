"""Step 2: whose event is it? Flat matching under limits, priorities and caps; a decision with its reasons, no writes.

All profiles that hold any of the event's identifiers are matched. None: create. One: add. Several: merge. Where the
result would break a limit, the lowest-ranked identifier is left out and the search begins again (public page
"identity-resolution-onboarding").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cdp_stream.identity.extract import Extraction, extract
from cdp_stream.identity.rules import IdentityRules
from cdp_stream.model.event import Event
from cdp_stream.model.graph import Decision, GraphProfile, GraphState, IdentityOutcome, Mapping, Resolution
from cdp_stream.model.ids import ACCOUNTS, USERS, Collection, ExternalId, ProfileId, profile_id_for
from cdp_stream.model.time import Instant

NO_IDENTIFIERS: Final = "No matching identifiers on event"
BLOCKED: Final = "ID value blocked"
LIMIT_EXCEEDED: Final = "Identifier value limit exceeded"
TIME_LIMIT_EXCEEDED: Final = "Identifier value time limit exceeded"
MERGE_CAP: Final = "Profile merge limit exceeded"
MAPPING_CAP: Final = "Identifier mapping limit exceeded"


def resolve_event(event: Event, state: GraphState, rules: IdentityRules) -> IdentityOutcome:
    """Resolve the event's user and, for a group call, its account, and link them. `event.time` is clamped already."""
    extraction = extract(event, rules, state.registered_types)
    if not extraction.accounts and not extraction.blocked and not extraction.registered:
        known = _known(extraction.users, state)
        if known is not None:
            return IdentityOutcome(user=Resolution(known))
    if not event.identity:
        return _attach(extraction, state, rules)
    walk = _Walk(event, state, rules, extraction)
    walk.registered(extraction.registered)
    user = walk.resolve(USERS, extraction.users, extraction.blocked)
    account = walk.resolve(ACCOUNTS, extraction.accounts, extraction.blocked_accounts)
    return walk.outcome(user, account)


def _known(ids: Sequence[ExternalId], state: GraphState) -> GraphProfile | None:
    """The profile, if every identifier is known and together: the event changes nothing in the graph."""
    owner: ProfileId | None = None
    for external_id in ids:
        found = state.owner(USERS, external_id)
        if found is None or (owner is not None and found != owner):
            return None
        owner = found
    return None if owner is None else state.profile(owner)


def _attach(extraction: Extraction, state: GraphState, rules: IdentityRules) -> IdentityOutcome:
    """An event of a source without identity: it goes where its known ids point, and changes nothing."""
    ranks = rules.ranks(state.registered_types)
    found: dict[Collection, Resolution | None] = {}
    for collection, ids in ((USERS, extraction.users), (ACCOUNTS, extraction.accounts)):
        owners = [state.owner(collection, i) for i in sorted(ids, key=lambda i: ranks.get(i.type, len(ranks) + 1))]
        first = next((owner for owner in owners if owner is not None), None)
        found[collection] = None if first is None else Resolution(state.profile(first))
    decisions: tuple[Decision, ...] = ()
    if found[USERS] is None and found[ACCOUNTS] is None:
        decisions = (Decision("no_identifiers", violation=NO_IDENTIFIERS),)
    return IdentityOutcome(user=found[USERS], account=found[ACCOUNTS], decisions=decisions)


class _Walk:
    """One event's resolution in progress: profiles as they will be, and the decisions so far."""

    def __init__(self, event: Event, state: GraphState, rules: IdentityRules, extraction: Extraction) -> None:
        self.event = event
        self.state = state
        self.rules = rules
        types = tuple(sorted({*state.registered_types, *extraction.registered}))
        self.ranks = rules.ranks(types)
        self.profiles: dict[ProfileId, GraphProfile] = {}
        self.owners: list[tuple[Collection, ExternalId, ProfileId]] = []
        self.redirects: list[tuple[ProfileId, ProfileId]] = []
        self.decisions: list[Decision] = []
        self.new_types: tuple[str, ...] = ()
        self.created = 0

    def registered(self, types: tuple[str, ...]) -> None:
        """Types seen for the first time in `externalIds`."""
        self.new_types = types
        self.decisions.extend(Decision("type_registered", identifiers=(ExternalId(type_, ""),)) for type_ in types)

    def profile(self, profile_id: ProfileId) -> GraphProfile:
        """A profile as it is within this event."""
        return self.profiles.get(profile_id) or self.state.profile(profile_id)

    def resolve(
        self, collection: Collection, ids: tuple[ExternalId, ...], blocked: tuple[ExternalId, ...]
    ) -> Resolution | None:
        """Resolve in one collection; None when no identifier is left."""
        if not ids:
            self._blocked(collection, blocked, None)
            return None
        kept, demoted = self._demote(collection, list(ids))
        matched = self._matched(collection, kept)
        if not matched:
            resolution = self._create(collection, kept)
        elif len(matched) == 1:
            resolution = self._add(matched[0], kept)
        else:
            resolution = self._merge(matched, kept)
        profile_id = resolution.profile.id
        self._blocked(collection, blocked, profile_id)
        for external_id, violation in demoted:
            self.decisions.append(
                Decision("identifier_demoted", profile_id, collection, demoted=(external_id,), violation=violation)
            )
        return msgspec.structs.replace(resolution, demoted=tuple(external_id for external_id, _ in demoted))

    def _blocked(self, collection: Collection, blocked: tuple[ExternalId, ...], profile_id: ProfileId | None) -> None:
        for external_id in blocked:
            shown = None if profile_id is None else collection
            self.decisions.append(
                Decision("value_blocked", profile_id, shown, identifiers=(external_id,), violation=BLOCKED)
            )

    def _matched(self, collection: Collection, ids: Sequence[ExternalId]) -> list[GraphProfile]:
        """Distinct owners, in order of creation."""
        owners = {owner for i in ids if (owner := self.state.owner(collection, i)) is not None}
        return sorted((self.profile(owner) for owner in owners), key=lambda profile: profile.number)

    def _demote(
        self, collection: Collection, kept: list[ExternalId]
    ) -> tuple[list[ExternalId], list[tuple[ExternalId, str]]]:
        """Leave identifiers out, one by one, until no limit would break or one is left."""
        demoted: list[tuple[ExternalId, str]] = []
        for _ in range(len(kept) - 1):
            matched = self._matched(collection, kept)
            broken = self._broken(matched, kept)
            if not broken:
                break
            lowest = self._lowest(collection, kept, broken)
            if lowest is None:
                break
            timed = any(self.rules.limit(type_).period is not None for type_ in broken)
            kept.remove(lowest)
            demoted.append((lowest, TIME_LIMIT_EXCEEDED if timed else LIMIT_EXCEEDED))
        return kept, demoted

    def _broken(self, matched: Sequence[GraphProfile], ids: Sequence[ExternalId]) -> set[str]:
        """Types whose count on the resulting profile would exceed the limit and grow beyond every matched one's."""
        candidate: dict[ExternalId, Instant] = {}
        for profile in matched:
            for mapping in profile.mappings:
                candidate[ExternalId(mapping.type, mapping.value)] = mapping.mapped_at
        for external_id in ids:
            candidate.setdefault(external_id, self.event.time)
        if len(matched) == 1 and len(candidate) == len(matched[0].mappings):
            return set()
        counts: dict[str, int] = {}
        for external_id, mapped_at in candidate.items():
            if self._counts(external_id.type, mapped_at):
                counts[external_id.type] = counts.get(external_id.type, 0) + 1
        return {
            type_
            for type_, count in counts.items()
            if count > self.rules.limit(type_).count
            and count > max((self._held(profile, type_) for profile in matched), default=0)
        }

    def _held(self, profile: GraphProfile, type_: str) -> int:
        return sum(1 for m in profile.mappings if m.type == type_ and self._counts(type_, m.mapped_at))

    def _counts(self, type_: str, mapped_at: Instant) -> bool:
        period = self.rules.limit(type_).period
        return period is None or mapped_at > self.event.time - period

    def _lowest(self, collection: Collection, kept: Sequence[ExternalId], broken: set[str]) -> ExternalId | None:
        """The identifier to leave out: largest rank, inside one type the last extracted."""
        among = list(kept)
        if self.rules.minimal:
            best = min(range(len(kept)), key=lambda n: (self.ranks[kept[n].type], n))
            home = self.state.owner(collection, kept[best])
            among = [
                external_id
                for number, external_id in enumerate(kept)
                if number != best and self._may_conflict(collection, external_id, home, broken)
            ]
        if not among:
            return None
        lowest = max(range(len(among)), key=lambda number: (self.ranks[among[number].type], number))
        return among[lowest]

    def _may_conflict(
        self, collection: Collection, external_id: ExternalId, home: ProfileId | None, broken: set[str]
    ) -> bool:
        """Can it cause the conflict: a new value of a broken type, or mapped to another profile than the best id's?"""
        owner = self.state.owner(collection, external_id)
        return external_id.type in broken if owner is None else owner != home

    def _create(self, collection: Collection, ids: Sequence[ExternalId]) -> Resolution:
        event = self.event
        profile_id = profile_id_for(self.rules.space, collection, event.message_id, event.source)
        profile = GraphProfile(profile_id, collection, self.state.profiles_count + self.created, event.time, ())
        self.created += 1
        self.decisions.append(Decision("profile_created", profile_id, collection))
        added = self._add(profile, ids)
        self.profiles[profile_id] = added.profile
        return msgspec.structs.replace(added, created=True)

    def _add(self, profile: GraphProfile, ids: Sequence[ExternalId]) -> Resolution:
        """Map the identifiers that nobody owns, best rank first, until the mapping cap."""
        event = self.event
        new = [i for i in ids if self.state.owner(profile.collection, i) is None]
        new.sort(key=lambda external_id: self.ranks[external_id.type])
        room = max(0, self.rules.mappings_max - len(profile.mappings))
        mapped = tuple(Mapping(i.type, i.value, event.time, event.message_id) for i in new[:room])
        if mapped:
            profile = msgspec.structs.replace(profile, mappings=profile.mappings + mapped)
            self.profiles[profile.id] = profile
        for mapping in mapped:
            external_id = ExternalId(mapping.type, mapping.value)
            self.owners.append((profile.collection, external_id, profile.id))
            self.decisions.append(
                Decision("identifier_mapped", profile.id, profile.collection, identifiers=(external_id,))
            )
        if len(new) > room:
            refused = tuple(new[room:])
            self.decisions.append(
                Decision("cap_reached", profile.id, profile.collection, identifiers=refused, violation=MAPPING_CAP)
            )
        return Resolution(profile, mapped=mapped)

    def _merge(self, matched: list[GraphProfile], ids: Sequence[ExternalId]) -> Resolution:
        survivor, *others = matched
        merges = sum(profile.merges for profile in matched) + len(others)
        held = sum(len(profile.mappings) for profile in matched)
        fresh = sum(1 for i in ids if self.state.owner(survivor.collection, i) is None)
        if merges > self.rules.merges_max:
            return self._fall_back(survivor.collection, ids, MERGE_CAP)
        if held + fresh > self.rules.mappings_max:
            return self._fall_back(survivor.collection, ids, MAPPING_CAP)
        absorbed_now = tuple(profile.id for profile in others)
        absorbed = survivor.absorbed
        links = list(survivor.links)
        for other in others:
            absorbed = (*absorbed, other.id, *other.absorbed)
            links.extend(link for link in other.links if link not in links)
            for mapping in other.mappings:
                moved = ExternalId(mapping.type, mapping.value)
                self.owners.append((survivor.collection, moved, survivor.id))
            self.redirects.extend((gone, survivor.id) for gone in (other.id, *other.absorbed))
            self._relink(other, survivor.id)
            self.profiles.pop(other.id, None)
        merged = msgspec.structs.replace(
            survivor,
            mappings=tuple(mapping for profile in matched for mapping in profile.mappings),
            merges=merges,
            absorbed=absorbed,
            links=tuple(links),
        )
        self.profiles[merged.id] = merged
        why = tuple(i for i in ids if self.state.owner(survivor.collection, i) is not None)
        self.decisions.append(
            Decision("profiles_merged", merged.id, merged.collection, identifiers=why, absorbed=absorbed_now)
        )
        added = self._add(merged, ids)
        return msgspec.structs.replace(added, absorbed=absorbed_now)

    def _fall_back(self, collection: Collection, ids: Sequence[ExternalId], violation: str) -> Resolution:
        """At a cap: no merge; the event goes to the profile of its highest-ranked matched id, new ids still map."""
        ranked = sorted(ids, key=lambda external_id: self.ranks[external_id.type])
        owner = next(o for i in ranked if (o := self.state.owner(collection, i)) is not None)
        self.decisions.append(Decision("cap_reached", owner, collection, identifiers=tuple(ids), violation=violation))
        return self._add(self.profile(owner), ids)

    def _relink(self, absorbed: GraphProfile, survivor: ProfileId) -> None:
        """Profiles of the other collection that point at the absorbed one point at the survivor, once."""
        for link in absorbed.links:
            other = self.profile(link)
            links = tuple(dict.fromkeys(survivor if known == absorbed.id else known for known in other.links))
            self.profiles[link] = msgspec.structs.replace(other, links=links)

    def outcome(self, user: Resolution | None, account: Resolution | None) -> IdentityOutcome:
        """Link user and account, and put everything together."""
        if user is not None and account is not None:
            user, account = self._link(user, account)
        if user is None and account is None:
            self.decisions.append(Decision("no_identifiers", violation=NO_IDENTIFIERS))
        gone = {absorbed for absorbed, _ in self.redirects}
        return IdentityOutcome(
            user=user,
            account=account,
            profiles=tuple(profile for profile in self.profiles.values() if profile.id not in gone),
            owners=tuple(self.owners),
            redirects=tuple(self.redirects),
            registered=self.new_types,
            created_count=self.created,
            decisions=tuple(self.decisions),
        )

    def _link(self, user: Resolution, account: Resolution) -> tuple[Resolution, Resolution]:
        person, company = self.profile(user.profile.id), self.profile(account.profile.id)
        if company.id not in person.links:
            person = msgspec.structs.replace(person, links=(*person.links, company.id))
            company = msgspec.structs.replace(company, links=(*company.links, person.id))
            self.profiles[person.id], self.profiles[company.id] = person, company
            group = tuple(ExternalId(m.type, m.value) for m in company.mappings if m.type == "group_id")
            self.decisions.append(Decision("account_linked", person.id, USERS, identifiers=group))
        return (
            msgspec.structs.replace(user, profile=person),
            msgspec.structs.replace(account, profile=company),
        )

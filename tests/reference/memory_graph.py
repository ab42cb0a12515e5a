"""A graph in memory that checks itself after every event: what an identity outcome must leave behind."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cdp_stream.model.graph import GraphProfile, IdentityOutcome
from cdp_stream.model.ids import Collection, ExternalId, ProfileId

OTHER = {"users": "accounts", "accounts": "users"}


class MemoryGraph:
    def __init__(self) -> None:
        self.profiles: dict[ProfileId, GraphProfile] = {}
        self.owners: dict[tuple[Collection, ExternalId], ProfileId] = {}
        self.redirects: dict[ProfileId, ProfileId] = {}
        self.registered_types: tuple[str, ...] = ()
        self.profiles_count = 0
        self.held_links: dict[tuple[ProfileId, ProfileId], None] = {}
        """Each link from both sides."""
        self.lookups: Counter[ExternalId] = Counter()

    def owner(self, collection: Collection, external_id: ExternalId) -> ProfileId | None:
        self.lookups[external_id] += 1
        return self.owners.get((collection, external_id))

    def profile(self, profile_id: ProfileId) -> GraphProfile:
        return self.profiles[profile_id]

    def is_linked(self, one: ProfileId, other: ProfileId) -> bool:
        return (one, other) in self.held_links

    def links(self, profile_id: ProfileId, at_most: int | None = None) -> tuple[ProfileId, ...]:
        return tuple(other for one, other in self.held_links if one == profile_id)[:at_most]

    def apply(self, outcome: IdentityOutcome) -> None:
        assert len(outcome.profiles) == len({profile.id for profile in outcome.profiles})
        for profile in outcome.profiles:
            self.profiles[profile.id] = profile
        for collection, external_id, owner in outcome.owners:
            self.owners[collection, external_id] = owner
        for absorbed, survivor in outcome.redirects:
            self.profiles.pop(absorbed, None)
            self.redirects[absorbed] = survivor
        for link in outcome.unlinked:
            for side in (link, link[::-1]):
                self.held_links.pop(side, None)
        for link in outcome.linked:
            self.held_links |= {link: None, link[::-1]: None}
        self.profiles_count += outcome.created_count
        self.registered_types = tuple(sorted({*self.registered_types, *outcome.registered}))

    def check(self) -> None:
        """What is stored twice says the same twice."""
        held = [
            ((profile.collection, ExternalId(mapping.type, mapping.value)), profile.id)
            for profile in self.profiles.values()
            for mapping in profile.mappings
        ]
        assert len(held) == len(dict(held)), "an external id has two owners"
        assert dict(held) == self.owners
        absorbed = {gone: profile.id for profile in self.profiles.values() for gone in profile.absorbed}
        assert absorbed == self.redirects
        assert len(self.profiles) + len(absorbed) == self.profiles_count
        for one, other in self.held_links:
            assert OTHER[self.profiles[one].collection] == self.profiles[other].collection
        for profile in self.profiles.values():
            assert profile.merges == len(profile.absorbed)

    def plain(self) -> list[dict[str, Any]]:
        """Names of profiles are of no interest: their ids by collection, in order of creation."""
        alive = sorted(self.profiles.values(), key=lambda profile: profile.number)
        return [{"in": p.collection, "ids": [(m.type, m.value, m.mapped_at) for m in p.mappings]} for p in alive]

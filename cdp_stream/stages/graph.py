"""The identity stage's state: the graph, dedupe marks, redirects; reads through a cache, writes into a draft."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from cdp_stream.model.graph import GraphProfile, IdentityOutcome
from cdp_stream.model.ids import Collection, ExternalId, ProfileId
from cdp_stream.model.ports import Store
from cdp_stream.model.time import Duration, Instant
from cdp_stream.stages.pending import PROFILE, REDIRECT, GraphBytes, PendingGraph, link_key

_encode = msgspec.msgpack.Encoder().encode
_decode_profile = msgspec.msgpack.Decoder(GraphProfile).decode


class GraphDraft:
    """`GraphState` over a store plus the step's changes so far; `take_writes` hands them over for the commit.

    The next step may be decided before that commit is done: until `committed` is called, reads see the changes that
    were handed over. Caches are written through at once: a step that fails takes the whole draft down with it.
    """

    def __init__(
        self,
        store: Store,
        registered: Iterable[str] = (),
        profiles_count: int = 0,
        links_count: int = 0,
        held: GraphBytes | None = None,
    ) -> None:
        """Registered types and counts as the barrier says; without them it is for reading only.

        `held`: the graph as bytes, where the compiled walk changes it, too.
        """
        self._store = store
        self.held: GraphBytes = held or PendingGraph(store, profiles_count, links_count)
        self.registered_types: tuple[str, ...] = tuple(registered)

    @property
    def profiles_count(self) -> int:
        """How many profiles were ever created; the next one's number."""
        return self.held.profiles_count

    @property
    def links_count(self) -> int:
        """How many links were ever made; the next one's number."""
        return self.held.links_count

    def owner(self, collection: Collection, external_id: ExternalId) -> ProfileId | None:
        """Who holds this external id now."""
        owner = self.held.owner(collection, external_id[0], external_id[1])
        return None if owner is None else ProfileId(owner)

    def profile(self, profile_id: ProfileId) -> GraphProfile:
        """The profile of that id; KeyError if there is none."""
        raw = self.held.profile(profile_id)
        if raw is None:
            raise KeyError(profile_id)
        return _decode_profile(raw)

    def redirect(self, profile_id: ProfileId) -> ProfileId | None:
        """Who an absorbed profile is now, or None if it was not absorbed."""
        raw = self.held.read(REDIRECT + profile_id.encode())
        return None if raw is None else ProfileId(raw.decode())

    def is_linked(self, one: ProfileId, other: ProfileId) -> bool:
        """Do this user and this account know each other?"""
        return self.held.read(link_key(one, other)) is not None or other in self._old_links(one)

    def links(self, profile_id: ProfileId, at_most: int | None = None) -> tuple[ProfileId, ...]:
        """Who a profile is linked with, in the order in which they came to know each other."""
        layers = self.held.links(profile_id)
        # As many more as may have gone since.
        asked = None if at_most is None else at_most + sum(map(len, layers))
        prefix = link_key(profile_id, "")
        found: dict[str, int | None] = dict.fromkeys(self._old_links(profile_id), -1)
        for key, raw in islice(self._store.scan(prefix), asked):
            found[key[len(prefix) :].decode()] = int.from_bytes(raw, "big")
        for layer in layers:
            found.update(layer)
        numbers = {ProfileId(other): number for other, number in found.items() if number is not None}
        return tuple(sorted(numbers, key=numbers.__getitem__)[:at_most])

    def _old_links(self, profile_id: ProfileId) -> tuple[ProfileId, ...]:
        """Links from before format 3; whoever was absorbed since is meant as who it is now."""
        try:
            profile = self.profile(profile_id)
        except KeyError:
            # One that the event in hand creates is not here yet.
            return ()
        return tuple(self.redirect(link) or link for link in profile.old_links)

    def all_profiles(self) -> Iterator[GraphProfile]:
        """Every profile that was committed, by id; absorbed ones are not among them."""
        for _, raw in self._store.scan(PROFILE):
            yield _decode_profile(raw)

    def apply(self, outcome: IdentityOutcome) -> None:
        """Take over what an event decided; later events of the step see it."""
        held = self.held
        for profile in outcome.profiles:
            held.put_profile(profile.id, _encode(profile))
        for collection, external_id, owner in outcome.owners:
            held.put_owner(collection, external_id[0], external_id[1], owner)
        for absorbed, survivor in outcome.redirects:
            held.redirect(absorbed, survivor)
        for one, other in outcome.unlinked:
            held.put_link(one, other, linked=False)
        for one, other in outcome.linked:
            held.put_link(one, other, linked=True)
        held.profiles_count += outcome.created_count
        if outcome.registered:
            self.registered_types = tuple(sorted({*self.registered_types, *outcome.registered}))

    def first_seen(self, message_id: str, now: Instant, horizon: Duration) -> bool:
        """Mark the message id. False if it was marked already less than `horizon` of stream time ago."""
        return self.held.first_seen(message_id, now, horizon)

    def forget_last(self) -> None:
        """Take back the mark that the last `first_seen` has set: nothing was done with its event."""
        self.held.forget_last()

    def take_writes(self, step: int, now: Instant, horizon: Duration) -> dict[bytes, bytes | None]:
        """The step's changes, with the index of its dedupe marks; old marks beyond the horizon go."""
        return self.held.take_writes(step, now, horizon)

    def read_back(self) -> bool:
        """Remember a piece of what the store held before this process, between two steps; is there more?"""
        return self.held.read_back()

    def committed(self) -> None:
        """The oldest changes that were handed over stand in the store; caches are held to their bounds."""
        self.held.committed()

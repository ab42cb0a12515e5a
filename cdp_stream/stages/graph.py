"""The identity stage's state: the graph, dedupe marks, redirects; reads through a cache, writes into a draft."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any, Final

import msgspec

from cdp_stream.model.graph import GraphProfile, IdentityOutcome, Link
from cdp_stream.model.ids import ACCOUNTS, USERS, Collection, ExternalId, ProfileId
from cdp_stream.model.ports import Store
from cdp_stream.model.time import HOUR_MS, Duration, Instant

_OWNER: Final = {USERS: b"ou", ACCOUNTS: b"oa"}
_PROFILE: Final = b"p"
_REDIRECT: Final = b"r"
_LINK: Final = b"l"
_MARK: Final = b"m"
_MARKS_OF_HOUR: Final = b"x"
_MARK_BYTES: Final = 16
_EXPIRED_STEPS_MAX: Final = 4
"""How many old steps' marks one step removes: more than it adds, and little enough to go unnoticed."""
CACHE_ENTRIES_MAX: Final = 1_000_000

_encode = msgspec.msgpack.Encoder().encode
_decode_profile = msgspec.msgpack.Decoder(GraphProfile).decode


def owner_key(collection: Collection, external_id: ExternalId) -> bytes:
    """Where the owner of an external id stands."""
    return b"%s%s\0%s" % (_OWNER[collection], external_id[0].encode(), external_id[1].encode())


def link_key(one: ProfileId, other: ProfileId) -> bytes:
    """Where it stands that a profile is linked with another one, and as which of all links: a key for each end."""
    return b"%s%s\0%s" % (_LINK, one.encode(), other.encode())


class GraphDraft:
    """`GraphState` over a store plus the step's changes so far; `take_writes` hands them over for the commit.

    The next step may be decided before that commit is done: until `committed` is called, reads see the changes that
    were handed over. Caches are written through at once: a step that fails takes the whole draft down with it.
    """

    def __init__(
        self, store: Store, registered: Iterable[str] = (), profiles_count: int = 0, links_count: int = 0
    ) -> None:
        """The last three as the barrier says; without them it is for reading only."""
        self._store = store
        self._owners: dict[Collection, dict[ExternalId, ProfileId]] = {USERS: {}, ACCOUNTS: {}}
        self._profiles: dict[ProfileId, GraphProfile] = {}
        self._writes: dict[bytes, bytes | None] = {}
        self._marks: list[bytes] = []
        self._uncommitted: deque[dict[bytes, bytes | None]] = deque()
        self._links: dict[ProfileId, dict[ProfileId, int | None]] = {}
        self._uncommitted_links: deque[dict[ProfileId, dict[ProfileId, int | None]]] = deque()
        """Links that are written and not committed: of a profile, with whom, and their number; None: gone."""
        self.registered_types: tuple[str, ...] = tuple(registered)
        self.profiles_count = profiles_count
        self.links_count = links_count
        """How many links were ever made; the next one's number."""

    @property
    def known_users(self) -> dict[ExternalId, ProfileId]:
        """Owners of users' ids as far as they are cached: not all, and never a wrong one. To be read only."""
        return self._owners[USERS]

    def owner(self, collection: Collection, external_id: ExternalId) -> ProfileId | None:
        """Who holds this external id now."""
        owner = self._owners[collection].get(external_id)
        if owner is None:
            raw = self._read(owner_key(collection, external_id))
            if raw is None:
                return None
            owner = ProfileId(raw.decode())
            self._owners[collection][external_id] = owner
        return owner

    def profile(self, profile_id: ProfileId) -> GraphProfile:
        """The profile of that id; KeyError if there is none."""
        profile = self._profiles.get(profile_id)
        if profile is None:
            raw = self._read(_PROFILE + profile_id.encode())
            if raw is None:
                raise KeyError(profile_id)
            profile = _decode_profile(raw)
            self._profiles[profile_id] = profile
        return profile

    def redirect(self, profile_id: ProfileId) -> ProfileId | None:
        """Who an absorbed profile is now, or None if it was not absorbed."""
        raw = self._read(_REDIRECT + profile_id.encode())
        return None if raw is None else ProfileId(raw.decode())

    def is_linked(self, one: ProfileId, other: ProfileId) -> bool:
        """Do this user and this account know each other?"""
        return self._read(link_key(one, other)) is not None or other in self._old_links(one)

    def links(self, profile_id: ProfileId, at_most: int | None = None) -> tuple[ProfileId, ...]:
        """Who a profile is linked with, in the order in which they came to know each other."""
        layers = [layer[profile_id] for layer in (*self._uncommitted_links, self._links) if profile_id in layer]
        # As many more as may have gone since.
        asked = None if at_most is None else at_most + sum(map(len, layers))
        prefix = link_key(profile_id, ProfileId(""))
        found: dict[ProfileId, int | None] = dict.fromkeys(self._old_links(profile_id), -1)
        for key, raw in islice(self._store.scan(prefix), asked):
            found[ProfileId(key[len(prefix) :].decode())] = int.from_bytes(raw, "big")
        for layer in layers:
            found.update(layer)
        numbers = {other: number for other, number in found.items() if number is not None}
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
        for _, raw in self._store.scan(_PROFILE):
            yield _decode_profile(raw)

    def apply(self, outcome: IdentityOutcome) -> None:
        """Take over what an event decided; later events of the step see it."""
        writes = self._writes
        for profile in outcome.profiles:
            self._profiles[profile.id] = profile
            writes[_PROFILE + profile.id.encode()] = _encode(profile)
        for collection, external_id, owner in outcome.owners:
            self._owners[collection][external_id] = owner
            writes[owner_key(collection, external_id)] = owner.encode()
        for absorbed, survivor in outcome.redirects:
            self._profiles.pop(absorbed, None)
            writes[_PROFILE + absorbed.encode()] = None
            writes[_REDIRECT + absorbed.encode()] = survivor.encode()
        for link in outcome.unlinked:
            self._put_link(link, None)
        for link in outcome.linked:
            self._put_link(link, self.links_count)
            self.links_count += 1
        self.profiles_count += outcome.created_count
        if outcome.registered:
            self.registered_types = tuple(sorted({*self.registered_types, *outcome.registered}))

    def _put_link(self, link: Link, number: int | None) -> None:
        raw = None if number is None else number.to_bytes(8, "big")
        for one, other in (link, link[::-1]):
            self._writes[link_key(one, other)] = raw
            self._links.setdefault(one, {})[other] = number

    def link(self, profile: GraphProfile, new: Iterable[ExternalId], created: bool) -> None:
        """Take over a user's profile with ids that are new to the graph, as `apply` does with such an outcome."""
        writes, owners, raw_id = self._writes, self._owners[USERS], profile.id.encode()
        self._profiles[profile.id] = profile
        writes[_PROFILE + raw_id] = _encode(profile)
        for external_id in new:
            owners[external_id] = profile.id
            writes[owner_key(USERS, external_id)] = raw_id
        self.profiles_count += created

    def first_seen(self, message_id: str, now: Instant, horizon: Duration) -> bool:
        """Mark the message id. False if it was marked already less than `horizon` of stream time ago."""
        mark = blake2b(message_id.encode(), digest_size=_MARK_BYTES).digest()
        key = _MARK + mark
        # `_read`, written out: every event passes here.
        raw = self._writes.get(key)
        if raw is None:
            for writes in self._uncommitted:
                if key in writes:
                    raw = self._read(key)
                    break
            else:
                raw = self._store.get(key)
        if raw is not None and now - int.from_bytes(raw, "big") < horizon:
            return False
        self._writes[key] = now.to_bytes(8, "big")
        self._marks.append(mark)
        return True

    def forget_last(self) -> None:
        """Take back the mark that the last `first_seen` has set: nothing was done with its event."""
        del self._writes[_MARK + self._marks.pop()]

    def take_writes(self, step: int, now: Instant, horizon: Duration) -> dict[bytes, bytes | None]:
        """The step's changes, with the index of its dedupe marks; old marks beyond the horizon go."""
        writes = self._writes
        if self._marks:
            hour = now // HOUR_MS
            writes[b"%s%s%s" % (_MARKS_OF_HOUR, hour.to_bytes(8, "big"), step.to_bytes(8, "big"))] = b"".join(
                self._marks
            )
        self._expire_marks(writes, now - horizon)
        self._uncommitted.append(writes)
        self._uncommitted_links.append(self._links)
        self._writes, self._marks, self._links = {}, [], {}
        return writes

    def committed(self) -> None:
        """The oldest changes that were handed over stand in the store; caches are held to their bounds."""
        self._uncommitted.popleft()
        self._uncommitted_links.popleft()
        caches: list[dict[Any, Any]] = [*self._owners.values(), self._profiles]
        for cache in caches:
            if len(cache) > CACHE_ENTRIES_MAX:
                for key in list(cache)[: len(cache) // 2]:
                    del cache[key]

    def _read(self, key: bytes) -> bytes | None:
        if key in self._writes:
            return self._writes[key]
        for writes in reversed(self._uncommitted):
            if key in writes:
                return writes[key]
        return self._store.get(key)

    def _expire_marks(self, writes: dict[bytes, bytes | None], edge: Instant) -> None:
        if edge <= 0:
            return
        taken = 0
        for key, marks in self._store.scan(_MARKS_OF_HOUR):
            hour = int.from_bytes(key[1:9], "big")
            if taken >= _EXPIRED_STEPS_MAX or (hour + 1) * HOUR_MS > edge:
                return
            if self._read(key) is None:
                continue  # it goes with a step that is not committed yet
            taken += 1
            writes[key] = None
            for start in range(0, len(marks), _MARK_BYTES):
                mark_key = _MARK + marks[start : start + _MARK_BYTES]
                raw = self._read(mark_key)
                # A mark that was set again since stays.
                if raw is not None and int.from_bytes(raw, "big") <= edge:
                    writes[mark_key] = None

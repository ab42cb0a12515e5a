"""The identity graph as bytes: a store, what steps have decided that it does not hold yet, and what is remembered of both.

`PendingGraph` is the reference; where the compiled core could be built, `_native.IdentityGraph` does the same
(docs/adr/0016), and decides on it without asking Python.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from typing import Any, Final, Protocol

from cdp_stream.model.ids import ACCOUNTS, USERS, Collection
from cdp_stream.model.ports import Store
from cdp_stream.model.time import HOUR_MS, Duration, Instant

_OWNER: Final = {USERS: b"ou", ACCOUNTS: b"oa"}
PROFILE: Final = b"p"
REDIRECT: Final = b"r"
_LINK: Final = b"l"
_MARK: Final = b"m"
_MARKS_OF_HOUR: Final = b"x"
_MARK_BYTES: Final = 16
_EXPIRED_STEPS_MAX: Final = 4
"""How many old steps' marks one step removes: more than it adds, and little enough to go unnoticed."""
CACHE_ENTRIES_MAX: Final = 1_000_000

Links = dict[str, int | None]
"""With whom a profile is linked, and the number of that link; None: no more."""


def owner_key(collection: Collection, type_: str, value: str) -> bytes:
    """Where the owner of an external id stands."""
    return b"%s%s\0%s" % (_OWNER[collection], type_.encode(), value.encode())


def link_key(one: str, other: str) -> bytes:
    """Where it stands that a profile is linked with another one, and as which of all links: a key for each end."""
    return b"%s%s\0%s" % (_LINK, one.encode(), other.encode())


class GraphBytes(Protocol):
    """What `GraphDraft` stands on."""

    profiles_count: int
    """How many profiles were ever created."""

    @property
    def links_count(self) -> int:
        """How many links were ever made; the next one's number."""

    def read(self, key: bytes) -> bytes | None:
        """What a key holds, changes included that are not committed."""

    def owner(self, collection: Collection, type_: str, value: str) -> str | None:
        """Who holds this external id now."""

    def profile(self, profile_id: str) -> bytes | None:
        """The profile as the state holds it."""

    def put_profile(self, profile_id: str, raw: bytes) -> None:
        """The profile in its new form."""

    def put_owner(self, collection: Collection, type_: str, value: str, owner: str) -> None:
        """The external id is this profile's from now on."""

    def redirect(self, absorbed: str, survivor: str) -> None:
        """A profile is gone; whoever asks for it is led to the survivor."""

    def put_link(self, one: str, other: str, linked: bool) -> None:
        """A user and an account are linked, or no more."""

    def links(self, profile_id: str) -> list[Links]:
        """What uncommitted steps say of a profile's links, the oldest first."""

    def first_seen(self, message_id: str, now: Instant, horizon: Duration) -> bool:
        """Mark the message id. False if it was marked already less than `horizon` of stream time ago."""

    def forget_last(self) -> None:
        """Take back the mark that the last `first_seen` has set: nothing was done with its event."""

    def take_writes(self, step: int, now: Instant, horizon: Duration) -> dict[bytes, bytes | None]:
        """The step's changes, with the index of its dedupe marks; old marks beyond the horizon go."""

    def read_back(self) -> bool:
        """Remember a piece of what the store held before this process, between two steps; is there more?"""

    def committed(self) -> None:
        """The oldest changes that were handed over stand in the store; caches are held to their bounds."""


class PendingGraph:
    """`GraphBytes` in Python."""

    def __init__(self, store: Store, profiles_count: int, links_count: int) -> None:
        """The counts as the barrier says."""
        self._store = store
        self._owners: dict[Collection, dict[tuple[str, str], str]] = {USERS: {}, ACCOUNTS: {}}
        self._profiles: dict[str, bytes] = {}
        self._writes: dict[bytes, bytes | None] = {}
        self._marks: list[bytes] = []
        self._links: dict[str, Links] = {}
        self._uncommitted: deque[tuple[dict[bytes, bytes | None], dict[str, Links]]] = deque()
        """Keys and links of the steps that were handed over and are not committed."""
        self.profiles_count = profiles_count
        self.links_count = links_count

    def read(self, key: bytes) -> bytes | None:
        """What a key holds, changes included that are not committed."""
        if key in self._writes:
            return self._writes[key]
        for writes, _ in reversed(self._uncommitted):
            if key in writes:
                return writes[key]
        return self._store.get(key)

    def owner(self, collection: Collection, type_: str, value: str) -> str | None:
        """Who holds this external id now."""
        owner = self._owners[collection].get((type_, value))
        if owner is None:
            raw = self.read(owner_key(collection, type_, value))
            if raw is None:
                return None
            owner = self._owners[collection][type_, value] = raw.decode()
        return owner

    def profile(self, profile_id: str) -> bytes | None:
        """The profile as the state holds it."""
        raw = self._profiles.get(profile_id)
        if raw is None:
            raw = self.read(PROFILE + profile_id.encode())
            if raw is not None:
                self._profiles[profile_id] = raw
        return raw

    def put_profile(self, profile_id: str, raw: bytes) -> None:
        """The profile in its new form."""
        self._profiles[profile_id] = raw
        self._writes[PROFILE + profile_id.encode()] = raw

    def put_owner(self, collection: Collection, type_: str, value: str, owner: str) -> None:
        """The external id is this profile's from now on."""
        self._owners[collection][type_, value] = owner
        self._writes[owner_key(collection, type_, value)] = owner.encode()

    def redirect(self, absorbed: str, survivor: str) -> None:
        """A profile is gone; whoever asks for it is led to the survivor."""
        self._profiles.pop(absorbed, None)
        self._writes[PROFILE + absorbed.encode()] = None
        self._writes[REDIRECT + absorbed.encode()] = survivor.encode()

    def put_link(self, one: str, other: str, linked: bool) -> None:
        """A user and an account are linked, or no more."""
        number = self.links_count if linked else None
        raw = None if number is None else number.to_bytes(8, "big")
        for here, there in ((one, other), (other, one)):
            self._writes[link_key(here, there)] = raw
            self._links.setdefault(here, {})[there] = number
        self.links_count += linked

    def links(self, profile_id: str) -> list[Links]:
        """What uncommitted steps say of a profile's links, the oldest first."""
        layers = (*(links for _, links in self._uncommitted), self._links)
        return [layer[profile_id] for layer in layers if profile_id in layer]

    def first_seen(self, message_id: str, now: Instant, horizon: Duration) -> bool:
        """Mark the message id. False if it was marked already less than `horizon` of stream time ago."""
        mark = blake2b(message_id.encode(), digest_size=_MARK_BYTES).digest()
        raw = self.read(_MARK + mark)
        if raw is not None and now - int.from_bytes(raw, "big") < horizon:
            return False
        self._writes[_MARK + mark] = now.to_bytes(8, "big")
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
        self._uncommitted.append((writes, self._links))
        self._writes, self._marks, self._links = {}, [], {}
        return writes

    def read_back(self) -> bool:
        """No: what is asked for is read when it is asked for."""
        return False

    def committed(self) -> None:
        """The oldest changes that were handed over stand in the store; caches are held to their bounds."""
        self._uncommitted.popleft()
        caches: list[dict[Any, Any]] = [*self._owners.values(), self._profiles]
        for cache in caches:
            if len(cache) > CACHE_ENTRIES_MAX:
                for key in list(cache)[: len(cache) // 2]:
                    del cache[key]

    def _expire_marks(self, writes: dict[bytes, bytes | None], edge: Instant) -> None:
        if edge <= 0:
            return
        taken = 0
        for key, marks in self._store.scan(_MARKS_OF_HOUR):
            hour = int.from_bytes(key[1:9], "big")
            if taken >= _EXPIRED_STEPS_MAX or (hour + 1) * HOUR_MS > edge:
                return
            if self.read(key) is None:
                continue  # it goes with a step that is not committed yet
            taken += 1
            writes[key] = None
            for start in range(0, len(marks), _MARK_BYTES):
                mark_key = _MARK + marks[start : start + _MARK_BYTES]
                raw = self.read(mark_key)
                # A mark that was set again since stays; one that has gone already goes once more, so that the core, which
                # does not read each, needs not know.
                if raw is None or int.from_bytes(raw, "big") <= edge:
                    writes[mark_key] = None

"""The profile stage's state: profiles, their history, parked changes, arrived shipments, redirects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from cdp_stream.model.ids import ProfileId
from cdp_stream.model.ports import Store
from cdp_stream.model.profile import ProfileState
from cdp_stream.model.time import Instant
from cdp_stream.stages.due_index import DueIndex
from cdp_stream.stages.profile_histories import Histories

if TYPE_CHECKING:
    from cdp_stream.stages._native import ProfileCore

_PROFILE: Final = b"p"
_REDIRECT: Final = b"r"
_QUEUE_ENDS: Final = b"w"
_QUEUE: Final = b"q"
_PIECE: Final = b"s"
_CLOCK: Final = b"c"
CACHE_PROFILES_MAX: Final = 100_000
_NEW_PROFILE_BYTES: Final = 500
_KEY_BYTES: Final = 50
"""What is reckoned for a profile before it was ever written, and for a key, when a step's size is measured."""

Loan = tuple[bytes, bool, int]
"""A profile between the rooms and the core: its bytes, whether they are to be written, and their size (0: never were)."""

_encode = msgspec.msgpack.Encoder().encode
_decode_profile = msgspec.msgpack.Decoder(ProfileState).decode


class QueueEnds(Struct, frozen=True, array_like=True):
    """First and next number of a profile's queue of parked changes."""

    first: int
    next: int


class ProfileDraft:
    """Typed reads and writes over a store, with the step's changes on top; `take_writes` hands them over."""

    def __init__(self, store: Store, core: ProfileCore | None = None) -> None:
        """`core`: the compiled core, which borrows profiles from here; a profile is with one of both at a time."""
        self._store = store
        self._core = core
        self._cache: dict[ProfileId, ProfileState] = {}
        self._touched: set[ProfileId] = set()
        self._writes: dict[bytes, bytes | None] = {}
        self.histories = Histories(store, core)
        self._due = DueIndex(store)
        self._parked = {ProfileId(key[len(_QUEUE_ENDS) :].decode()) for key, _ in store.scan(_QUEUE_ENDS)}
        if core is not None:
            for profile_id in self._parked:
                core.wait(profile_id)
        self._clocks = dict(store.scan(_CLOCK))
        self._sizes: dict[ProfileId, int] = {}
        self.bytes_pending = 0
        """About how many bytes the step has to write so far."""

    def get(self, profile_id: ProfileId) -> ProfileState | None:
        """The profile, or None."""
        profile = self._cache.get(profile_id) or self._given_back(profile_id)
        if profile is None:
            raw = self._read(_PROFILE + profile_id.encode())
            if raw is not None:
                profile = self._cache[profile_id] = _decode_profile(raw)
                self._sizes[profile_id] = len(raw)
                self._due.known(profile_id, None if profile_id in self._parked else profile.due)
        return profile

    def lend(self, profile_id: ProfileId, refused: Loan | None = None) -> Loan | None:
        """Give a profile to the core. `refused`: what it was given just now, and does not understand."""
        if refused is not None:
            self._due.known(profile_id, self._take_back(profile_id, refused).due)
            return None
        profile = self._cache.pop(profile_id, None)
        if profile is None:
            raw = self._read(_PROFILE + profile_id.encode())
            return None if raw is None else (raw, False, len(raw))
        is_touched = profile_id in self._touched
        self._touched.discard(profile_id)
        return _encode(profile), is_touched, self._sizes.pop(profile_id, 0)

    def _given_back(self, profile_id: ProfileId) -> ProfileState | None:
        """Take a profile back from the core, if that has it."""
        if self._core is None:
            return None
        given = self._core.give_back(profile_id)
        if given is None:
            return None
        raw, is_touched, size, place = given
        profile = self._take_back(profile_id, (raw, is_touched, size))
        self._due.stands(profile_id, place)
        self._due.move(profile_id, profile.due, self._writes)
        return profile

    def _take_back(self, profile_id: ProfileId, loan: Loan) -> ProfileState:
        raw, is_touched, self._sizes[profile_id] = loan
        if is_touched:
            self._touched.add(profile_id)
        profile = self._cache[profile_id] = _decode_profile(raw)
        return profile

    def _follow_core(self) -> None:
        """Bring the index of due times up to what the core has done."""
        if self._core is not None:
            for profile_id, place, due in self._core.take_moves():
                self._due.stands(profile_id, place)
                self._due.move(profile_id, due, self._writes)

    def put(self, profile: ProfileState) -> None:
        """Replace the profile."""
        profile_id = profile.id
        self._cache[profile_id] = profile
        if profile_id not in self._touched:
            self._touched.add(profile_id)
            self.bytes_pending += self._sizes.get(profile_id, _NEW_PROFILE_BYTES)
        if profile_id not in self._parked:
            self._due.move(profile_id, profile.due, self._writes)

    def next_due(self, until: Instant) -> tuple[Instant, ProfileId] | None:
        """The first due time at or before `until` of a profile that is not parked, by instant, then profile id."""
        self._follow_core()
        return self._due.next(until)

    def due_passed(self, instant: Instant) -> None:
        """Nothing is due at or before this instant any more."""
        self._due.passed(instant)

    def ids_after(self, profile_id: str) -> Iterator[ProfileId]:
        """Ids of the committed profiles that come after this one, in order."""
        start = _PROFILE + profile_id.encode() + b"\0"
        for key, _ in self._store.scan(_PROFILE, start):
            yield ProfileId(key[len(_PROFILE) :].decode())

    def parked_ids(self) -> list[ProfileId]:
        """The profiles that wait for shipments, in order."""
        return sorted(self._parked)

    def all_profiles(self) -> Iterator[ProfileState]:
        """Every profile that was committed, by id."""
        for _, raw in self._store.scan(_PROFILE):
            yield _decode_profile(raw)

    def redirect(self, profile_id: ProfileId, into: ProfileId) -> None:
        """The profile is now part of `into`: its state goes, a redirect stays."""
        self._due.move(profile_id, None, self._writes)
        self._cache.pop(profile_id, None)
        self._touched.discard(profile_id)
        self._writes[_PROFILE + profile_id.encode()] = None
        self._writes[_REDIRECT + profile_id.encode()] = into.encode()
        self.histories.drop(profile_id)

    def is_parked(self, profile_id: ProfileId) -> bool:
        """Does the profile wait for shipments?"""
        return profile_id in self._parked

    def park(self, profile_id: ProfileId, raw: bytes) -> None:
        """Append to the profile's queue."""
        if profile_id not in self._parked:
            self.get(profile_id)
            self._due.move(profile_id, None, self._writes)
            self._parked.add(profile_id)
            if self._core is not None:
                self._core.wait(profile_id)
        self.bytes_pending += len(raw) + _KEY_BYTES
        ends = self._ends(profile_id) or QueueEnds(0, 0)
        self._writes[_queue_key(profile_id, ends.next)] = raw
        self._writes[_QUEUE_ENDS + profile_id.encode()] = _encode(QueueEnds(ends.first, ends.next + 1))

    def parked(self, profile_id: ProfileId) -> Iterator[bytes]:
        """The queue from its first; `unpark_first` may be called while iterating."""
        ends = self._ends(profile_id)
        if ends is None:
            return
        for number in range(ends.first, ends.next):
            raw = self._read(_queue_key(profile_id, number))
            assert raw is not None, (profile_id, number)
            yield raw

    def all_parked(self) -> Iterator[bytes]:
        """Every change that was waiting at the last commit, of all profiles."""
        for _, raw in self._store.scan(_QUEUE):
            yield raw

    def unpark_first(self, profile_id: ProfileId) -> None:
        """Remove the first of the queue; an empty queue leaves nothing behind."""
        ends = self._ends(profile_id)
        assert ends is not None, profile_id
        self._writes[_queue_key(profile_id, ends.first)] = None
        rest = QueueEnds(ends.first + 1, ends.next)
        self._writes[_QUEUE_ENDS + profile_id.encode()] = _encode(rest) if rest.first < rest.next else None
        if rest.first == rest.next:
            self._parked.discard(profile_id)
            if self._core is not None:
                self._core.resume(profile_id)
            profile = self.get(profile_id)
            self._due.move(profile_id, None if profile is None else profile.due, self._writes)

    def keep_clock(self, offset: int, index: int, raw: bytes) -> None:
        """Keep a clock, once for all the profiles that wait as it passes."""
        key = _CLOCK + offset.to_bytes(8, "big") + index.to_bytes(4, "big")
        self._writes[key] = self._clocks[key] = raw

    def kept_clocks(self) -> list[bytes]:
        """The clocks kept, in order."""
        return [raw for _, raw in sorted(self._clocks.items())]

    def drop_clocks(self) -> None:
        """Nobody waits any more."""
        self._writes.update(dict.fromkeys(self._clocks))
        self._clocks.clear()

    def put_piece(self, absorbed: ProfileId, piece: int, pieces: int, data: bytes) -> None:
        """Keep one piece of a shipment until its survivor takes it in."""
        self._writes[_piece_key(absorbed, piece)] = pieces.to_bytes(4, "big") + data

    def has_arrived(self, absorbed: ProfileId) -> bool:
        """Are all pieces of the absorbed profile's shipment here?"""
        first = self._read(_piece_key(absorbed, 0))
        if first is None:
            return False
        pieces = int.from_bytes(first[:4], "big")
        return all(self._read(_piece_key(absorbed, piece)) is not None for piece in range(1, pieces))

    def take_pieces(self, absorbed: ProfileId) -> bytes:
        """The whole cargo; its pieces leave the state."""
        first = self._read(_piece_key(absorbed, 0))
        assert first is not None, absorbed
        cargo = []
        for piece in range(int.from_bytes(first[:4], "big")):
            raw = self._read(_piece_key(absorbed, piece))
            assert raw is not None, (absorbed, piece)
            cargo.append(raw[4:])
            self._writes[_piece_key(absorbed, piece)] = None
        return b"".join(cargo)

    def parked_count(self) -> int:
        """How many profiles wait for shipments."""
        return len(self._parked)

    def take_writes(self) -> dict[bytes, bytes | None]:
        """The step's changes: every touched profile once."""
        writes = self._writes
        for profile_id in sorted(self._touched):
            raw = _encode(self._cache[profile_id])
            self._sizes[profile_id] = len(raw)
            writes[_PROFILE + profile_id.encode()] = raw
        writes.update(self.histories.take_writes())
        if self._core is not None:
            earliest = self._core.take_writes(writes)
            if earliest is not None:
                self._due.may_begin(earliest)
        self._touched, self._writes = set(), {}
        self.bytes_pending = 0
        return writes

    def committed(self) -> None:
        """The changes that were handed over stand in the store; the cache is held to its bounds."""
        self._due.committed()
        if len(self._cache) > CACHE_PROFILES_MAX:
            for key in list(self._cache)[: len(self._cache) // 2]:
                del self._cache[key]
                self._sizes.pop(key, None)
                self._due.forget(key)
        if self._core is not None:
            for profile_id in self._core.forget_beyond(CACHE_PROFILES_MAX):
                self._due.forget(profile_id)

    def _ends(self, profile_id: ProfileId) -> QueueEnds | None:
        raw = self._read(_QUEUE_ENDS + profile_id.encode())
        return None if raw is None else msgspec.msgpack.decode(raw, type=QueueEnds)

    def _read(self, key: bytes) -> bytes | None:
        return self._writes[key] if key in self._writes else self._store.get(key)


def _queue_key(profile_id: ProfileId, number: int) -> bytes:
    return _QUEUE + profile_id.encode() + number.to_bytes(8, "big")


def _piece_key(absorbed: ProfileId, piece: int) -> bytes:
    return _PIECE + absorbed.encode() + piece.to_bytes(4, "big")

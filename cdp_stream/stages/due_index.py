"""The index of due times: which profile is due next, in the order of instants, without looking at the others.

The index is ordered keys in the store, `d` + instant + profile id. A parked profile is not in it: what concerns it
waits. Changes of a step lie on top until they are committed.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import Final

from cdp_stream.model.ids import ProfileId
from cdp_stream.model.ports import Store
from cdp_stream.model.time import Instant

_DUE: Final = b"d"
_INSTANT_BYTES: Final = 8
_READ_AT_ONCE: Final = 1_000


class DueIndex:
    """Where each known profile stands in the index; the store's order, with the step's changes merged in."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places: dict[ProfileId, Instant | None] = {}
        self._moved: set[ProfileId] = set()
        self._heap: list[tuple[Instant, ProfileId]] = []
        self._ahead: deque[tuple[Instant, ProfileId]] = deque()
        """What was read of the committed index and is not passed yet."""
        self._read_to: bytes | None = None
        """The first key that was not read; None: nothing was."""
        self._covered: Instant = -1
        """Everything due at or before this instant was read."""
        self._floor: Instant = 0

    def known(self, profile_id: ProfileId, due: Instant | None) -> None:
        """A profile was read from the store, where it stands at this instant, or (None) in no place."""
        self._places.setdefault(profile_id, due)

    def stands(self, profile_id: ProfileId, due: Instant | None) -> None:
        """The index has the profile at this instant, or (None) nowhere: the core has moved it meanwhile."""
        self._places[profile_id] = due

    def may_begin(self, due: Instant) -> None:
        """The core has put a profile at this instant, and no other one earlier."""
        self._floor = min(self._floor, due)

    def move(self, profile_id: ProfileId, due: Instant | None, writes: dict[bytes, bytes | None]) -> None:
        """The profile is due at this instant now, or (None) never."""
        before = self._places.get(profile_id)
        if before == due:
            return
        if before is not None:
            writes[_key(before, profile_id)] = None
        self._places[profile_id] = due
        self._moved.add(profile_id)
        if due is not None:
            writes[_key(due, profile_id)] = b""
            heappush(self._heap, (due, profile_id))
            self._floor = min(self._floor, due)

    def next(self, until: Instant) -> tuple[Instant, ProfileId] | None:
        """The first due time at or before `until`, by instant, then profile id."""
        while self._heap and self._places.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        found = self._first_stored(until)
        if self._heap and (found is None or self._heap[0] < found):
            found = self._heap[0]
        return found if found is not None and found[0] <= until else None

    def passed(self, instant: Instant) -> None:
        """Everything due at or before this instant has fired: later searches begin behind it."""
        self._floor = max(self._floor, instant)

    def committed(self) -> None:
        """What was written stands in the store."""
        self._moved.clear()
        self._heap.clear()
        self._ahead.clear()
        self._read_to, self._covered = None, -1

    def forget(self, profile_id: ProfileId) -> None:
        """The profile leaves the cache; it will be read again."""
        self._places.pop(profile_id, None)

    def _first_stored(self, until: Instant) -> tuple[Instant, ProfileId] | None:
        """The first of the committed index that this step has not moved; None if there is none up to `until`."""
        while True:
            while self._ahead and self._ahead[0][1] in self._moved:
                self._ahead.popleft()
            if self._ahead or until <= self._covered:
                return self._ahead[0] if self._ahead else None
            self._read_on(until)

    def _read_on(self, until: Instant) -> None:
        # Where many deletions lie in front, a search from the beginning would pass over all of them each time. And no
        # iterator stays open between two calls: it would hold the store open beyond its owner.
        start = self._read_to or _DUE + self._floor.to_bytes(_INSTANT_BYTES, "big")
        for number, (key, _) in enumerate(self._store.scan(_DUE, start)):
            instant = int.from_bytes(key[1 : 1 + _INSTANT_BYTES], "big")
            if instant > until:
                break
            if number == _READ_AT_ONCE:
                return
            self._ahead.append((instant, ProfileId(key[1 + _INSTANT_BYTES :].decode())))
            self._read_to = key + b"\0"
        self._covered = until


def _key(due: Instant, profile_id: ProfileId) -> bytes:
    return _DUE + due.to_bytes(_INSTANT_BYTES, "big") + profile_id.encode()

"""A store in memory: for replay, the test driver and the simulator."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

_LONG: Final = 32
"""A scan with a prefix of so many bytes asks for what belongs to one profile: its keys are kept beside each other."""
_SOME: Final = 4
"""Keys are put in order anew when a so-manieth has come since."""


class MemoryStore:
    """`model.ports.Store` over a dict. Keys are put in order when a scan asks for them."""

    def __init__(self) -> None:
        self._pairs: dict[bytes, bytes] = {}
        self._families: dict[bytes, _Keys] = {}
        """By the first byte, for every one that a short scan has asked for."""
        self._groups: dict[bytes, dict[bytes, _Keys]] = {}
        """By the first byte that a long scan has asked for, and in it by `_LONG` bytes."""

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        return self._pairs.get(key)

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All pairs whose key begins with `prefix`, in byte order of the key, from the key `start` on.

        Which keys there are is settled when the scan begins; a key that goes meanwhile is passed over.
        """
        if len(prefix) >= _LONG:
            parts = [self._group(prefix)]
        else:
            parts = [self._family(first) for first in ([prefix[:1]] if prefix else self._first_bytes())]
        start = max(prefix, start)
        for keys in [part.in_order(self._pairs) for part in parts]:
            for place in range(bisect_left(keys, start), bisect_left(keys, prefix + b"\xff" * 64)):
                value = self._pairs.get(keys[place])
                if value is not None:
                    yield keys[place], value

    def commit(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Apply all changes; None deletes."""
        pairs, families, groups = self._pairs, self._families, self._groups
        # Keys of which no scan has asked yet cost nothing but their place.
        if families or groups:
            # Not the difference of both views of keys: that would go through every key of the store.
            for key in set(changes).difference(pairs):
                first = key[:1]
                if first in families:
                    families[first].add(key)
                if first in groups:
                    groups[first].setdefault(key[:_LONG], _Keys()).add(key)
        gone = [key for key, value in changes.items() if value is None]
        if gone:
            kept = {key: value for key, value in changes.items() if value is not None}
            pairs.update(kept)
            for key in gone:
                pairs.pop(key, None)
        else:
            pairs.update(changes)  # type: ignore[arg-type] # none of the values is None

    def flush(self) -> None:
        """It lives as long as its process, and no longer."""

    def close(self) -> None:
        """Nothing to release."""

    def _first_bytes(self) -> list[bytes]:
        return sorted({key[:1] for key in self._pairs})

    def _family(self, first: bytes) -> _Keys:
        if first not in self._families:
            self._families[first] = _Keys(key for key in self._pairs if key[:1] == first)
        return self._families[first]

    def _group(self, prefix: bytes) -> _Keys:
        groups = self._groups.get(prefix[:1])
        if groups is None:
            groups = self._groups[prefix[:1]] = {}
            for key in self._pairs:
                if key[:1] == prefix[:1]:
                    groups.setdefault(key[:_LONG], _Keys()).add(key)
        return groups.get(prefix[:_LONG]) or _Keys()


class _Keys:
    """Keys, put in order when they are asked for. A list that a scan may be reading is never changed, but replaced."""

    __slots__ = ("_added", "_new", "_ordered")

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._ordered: list[bytes] = []
        self._new = list(keys)
        self._added = 0
        """How many were put in their places since what was deleted was last left out."""

    def add(self, key: bytes) -> None:
        """One that is not in the store now; it may have been there before."""
        self._new.append(key)

    def in_order(self, pairs: Mapping[bytes, bytes]) -> list[bytes]:
        """Each once; what was deleted may still be there."""
        if self._new:
            self._added += len(self._new)
            if self._added * _SOME > len(self._ordered):
                self._ordered = sorted({key for key in (*self._ordered, *self._new) if key in pairs})
                self._added = 0
            else:
                # A step adds a few, and asks again: to go through all each time would make a long replay quadratic.
                self._ordered = self._ordered.copy()
                for key in self._new:
                    place = bisect_left(self._ordered, key)
                    if self._ordered[place : place + 1] != [key]:
                        self._ordered.insert(place, key)
            self._new = []
        return self._ordered

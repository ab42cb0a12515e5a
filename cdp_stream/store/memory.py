"""A store in memory: for replay, the test driver and the simulator."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from typing import Final

_FEW: Final = 64
"""So many changed keys are put in place one by one; with more, the whole list is sorted again."""


class MemoryStore:
    """`model.ports.Store` over a dict. Keys are put in order when a scan asks for it, one first byte at a time."""

    def __init__(self) -> None:
        self._pairs: dict[bytes, bytes] = {}
        self._ordered: dict[bytes, list[bytes]] = {}
        """Keys by their first byte, for every one that a scan has asked for."""
        self._changed: dict[bytes, set[bytes]] = {}
        """Of the same, keys that came or went since."""

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        return self._pairs.get(key)

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All pairs whose key begins with `prefix`, in byte order of the key, from the key `start` on.

        Which keys there are is settled when the scan begins; a key that goes meanwhile is passed over.
        """
        keys = self._in_order(prefix[:1]) if prefix else self._all_in_order()
        first = bisect_left(keys, max(prefix, start))
        last = bisect_left(keys, prefix + b"\xff" * 64, first)
        for place in range(first, last):
            key = keys[place]
            value = self._pairs.get(key)
            if value is not None:
                yield key, value

    def commit(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Apply all changes; None deletes."""
        pairs, changed = self._pairs, self._changed
        # Keys of which no scan has asked yet cost nothing but their place.
        for key in [key for key in changes if key[:1] in changed]:
            if (changes[key] is None) == (key in pairs):
                changed[key[:1]].add(key)
        gone = [key for key, value in changes.items() if value is None]
        if gone:
            kept = {key: value for key, value in changes.items() if value is not None}
            pairs.update(kept)
            for key in gone:
                pairs.pop(key, None)
        else:
            pairs.update(changes)  # type: ignore[arg-type] # none of the values is None

    def close(self) -> None:
        """Nothing to release."""

    def _all_in_order(self) -> list[bytes]:
        families = sorted({key[:1] for key in self._pairs})
        return [key for family in families for key in self._in_order(family)]

    def _in_order(self, family: bytes) -> list[bytes]:
        """The keys with this first byte. A list that a scan may be reading is never changed, but replaced."""
        keys = self._ordered.get(family)
        if keys is None:
            keys = sorted(key for key in self._pairs if key[:1] == family)
            self._ordered[family], self._changed[family] = keys, set()
            return keys
        changed = self._changed[family]
        if not changed:
            return keys
        self._changed[family] = set()
        if len(changed) <= _FEW:
            keys = list(keys)
            for key in changed:
                place = bisect_left(keys, key)
                stands = place < len(keys) and keys[place] == key
                if stands and key not in self._pairs:
                    del keys[place]
                elif not stands and key in self._pairs:
                    insort(keys, key)
        else:
            kept = [key for key in keys if key not in changed]
            keys = sorted(kept + [key for key in changed if key in self._pairs])
        self._ordered[family] = keys
        return keys

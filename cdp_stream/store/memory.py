"""A store in memory: for replay, the test driver and the simulator."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping


class MemoryStore:
    """`model.ports.Store` over a dict, with the keys kept in order beside it."""

    def __init__(self) -> None:
        self._pairs: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        return self._pairs.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All pairs whose key begins with `prefix`, in byte order of the key, as they are when the scan begins."""
        start = bisect_left(self._keys, prefix)
        end = bisect_left(self._keys, prefix + b"\xff" * 64, start)
        for key in self._keys[start:end]:
            yield key, self._pairs[key]

    def commit(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Apply all changes; None deletes."""
        for key, value in changes.items():
            if value is None:
                if self._pairs.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
            else:
                if key not in self._pairs:
                    insort(self._keys, key)
                self._pairs[key] = value

    def close(self) -> None:
        """Nothing to release."""

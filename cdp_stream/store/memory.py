"""A store in memory: for replay, the test driver and the simulator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class MemoryStore:
    """`model.ports.Store` over a dict; scans sort, which is fine for what tests ask of it."""

    def __init__(self) -> None:
        self._pairs: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        return self._pairs.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All pairs whose key begins with `prefix`, in byte order of the key."""
        for key in sorted(key for key in self._pairs if key.startswith(prefix)):
            yield key, self._pairs[key]

    def commit(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Apply all changes; None deletes."""
        for key, value in changes.items():
            if value is None:
                self._pairs.pop(key, None)
            else:
                self._pairs[key] = value

    def close(self) -> None:
        """Nothing to release."""

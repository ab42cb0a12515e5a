"""What the walk needs from the world, as protocols: a store to read from and to commit to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

Changes = Mapping[bytes, bytes | None]
"""What a step writes, by key; None deletes."""


class Store(Protocol):
    """Ordered bytes to bytes. Reads see what was committed; a commit is atomic.

    A crash may take back the last commits that were not flushed, all from one on.
    """

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All pairs whose key begins with `prefix`, in byte order of the key, from the key `start` on."""

    def commit(self, changes: Changes) -> None:
        """Apply all changes or none; None deletes."""

    def flush(self) -> None:
        """No crash takes back what was committed so far."""

    def close(self) -> None:
        """Release files and locks. The store is not used afterwards."""

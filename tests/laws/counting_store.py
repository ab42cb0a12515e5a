"""A store that tells how often the core asks it."""

from __future__ import annotations

from cdp_stream.store.memory import MemoryStore


class CountingStore(MemoryStore):
    """Counts how often it is asked for a key."""

    asked = 0

    def get(self, key: bytes) -> bytes | None:
        self.asked += 1
        return super().get(key)

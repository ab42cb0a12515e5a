"""One line that says whether two runs ended alike: a hash of the final profiles and of every output.

Outputs are hashed in order per topic and key; `seq` and `now` are left out, and headers (`src`) do not enter. So the
digest does not depend on partitions, step sizes or the kind of store.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import orjson

_LEFT_OUT = ("seq", "now")


class OutputsDigest:
    """Takes outputs in the order of their topics; one chain of hashes per topic and key."""

    def __init__(self) -> None:
        self._chains: dict[tuple[str, bytes], bytes] = {}
        self.counts: dict[str, int] = {}

    def add(self, topic: str, key: bytes, value: bytes) -> None:
        """One record of an output topic (named by role)."""
        row = orjson.loads(value)
        for name in _LEFT_OUT:
            row.pop(name, None)
        plain = orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
        place = (topic, key)
        self._chains[place] = blake2b(self._chains.get(place, b"") + plain, digest_size=16).digest()
        self.counts[topic] = self.counts.get(topic, 0) + 1

    def total(self, profiles: Iterable[dict[str, Any]]) -> str:
        """The digest of these final profiles and all outputs added."""
        whole = blake2b(digest_size=16)
        for profile in sorted(profiles, key=lambda profile: str(profile["id"])):
            whole.update(orjson.dumps(profile, option=orjson.OPT_SORT_KEYS))
        for (topic, key), chain in sorted(self._chains.items()):
            whole.update(topic.encode() + b"\0" + key + b"\0" + chain)
        return whole.hexdigest()

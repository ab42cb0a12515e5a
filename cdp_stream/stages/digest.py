"""One line that says whether two runs ended alike: a hash of the final profiles and of every output.

Outputs are hashed in order per topic and key; `seq` and `now` are left out, and headers (`src`) do not enter. So the
digest does not depend on partitions, step sizes or the kind of store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

import orjson

from cdp_stream.stages.native import NATIVE

_LEFT_OUT = ("seq", "now")


def _canonical(value: bytes) -> bytes:
    """A record without what differs from run to run, keys sorted."""
    row = orjson.loads(value)
    for name in _LEFT_OUT:
        row.pop(name, None)
    return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)


class _Chains:
    """One chain of hashes per topic and key; the core has the same (`native/src/digest.rs`)."""

    def __init__(self, canonical: Callable[[bytes], bytes]) -> None:
        self._canonical = canonical
        self._chains: dict[tuple[str, bytes], bytes] = {}

    def add(self, topic: str, key: bytes, value: bytes) -> None:
        """One record."""
        place = (topic, key)
        whole = self._chains.get(place, b"") + self._canonical(value)
        self._chains[place] = blake2b(whole, digest_size=16).digest()

    def all(self) -> list[tuple[str, bytes, bytes]]:
        """Topic, key and chain, in no order."""
        return [(*place, chain) for place, chain in self._chains.items()]


class OutputsDigest:
    """Takes outputs in the order of their topics."""

    def __init__(self, *, compiled: bool = True) -> None:
        """`compiled`: False hashes in Python, also where the core was built."""
        self._chains = (_Chains if NATIVE is None or not compiled else NATIVE.Chains)(_canonical)
        self.counts: dict[str, int] = {}

    def add(self, topic: str, key: bytes, value: bytes) -> None:
        """One record of an output topic (named by role)."""
        self.counts[topic] = self.counts.get(topic, 0) + 1
        self._chains.add(topic, key, value)

    def total(self, profiles: Iterable[dict[str, Any]]) -> str:
        """The digest of these final profiles and all outputs added."""
        whole = blake2b(digest_size=16)
        for profile in sorted(profiles, key=lambda profile: str(profile["id"])):
            whole.update(orjson.dumps(profile, option=orjson.OPT_SORT_KEYS))
        for topic, key, chain in sorted(self._chains.all()):
            whole.update(topic.encode() + b"\0" + key + b"\0" + chain)
        return whole.hexdigest()

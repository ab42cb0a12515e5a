"""What the peers share: which identifiers an event names, how a batch of them is resolved, and the hash of the outcome.

The job is the plainest form of flat matching: no limits, no priorities, no dedupe, no ledger. None of an event's
identifiers is known: a new profile. Some are known: theirs, and where those are several, the oldest takes the others in.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Protocol

import orjson

TYPES = ("identify", "track", "page", "screen", "group", "alias")
BATCH = 500


def identifiers(raw: bytes) -> list[str]:
    """`type:value` of each identifier that a record names; none for what is unusable."""
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return []
    if not isinstance(event, dict) or event.get("type") not in TYPES or not _is_usable(event):
        return []
    found = [f"{name}:{event[key]}" for key, name in _ROOT if _is_id(event.get(key))]
    found += [f"email:{place['email']}" for place in _emails(event) if _is_id(place.get("email"))]
    return list(dict.fromkeys(found))


_ROOT = (("userId", "user_id"), ("anonymousId", "anonymous_id"))


def _is_usable(event: Mapping[str, Any]) -> bool:
    """The broken records of the workload are dead letters with us, so they count for nobody."""
    needed = {"track": "event", "group": "groupId"}.get(event["type"])
    if needed is not None and not event.get(needed):
        return False
    return all(isinstance(event.get(key, {}), dict | None) for key in ("properties", "traits", "context"))


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _emails(event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if event["type"] == "identify":
        yield event.get("traits") or {}
    yield (event.get("context") or {}).get("traits") or {}
    if event["type"] == "track":
        yield event.get("properties") or {}


class Batch:
    """Some events resolved in memory over what the store knew of their identifiers; then what is to be written."""

    def __init__(self, known: Mapping[str, int], next_profile: int) -> None:
        """`known`: the profile of each identifier that the store has."""
        self._owners = dict(known)
        self._members: dict[int, set[str]] = defaultdict(set)
        for identifier, profile in known.items():
            self._members[profile].add(identifier)
        self.next_profile = next_profile
        self.mapped: dict[str, int] = {}
        self.merged: dict[int, int] = {}
        """The survivor of each profile that was taken in."""

    def resolve(self, found: list[str]) -> int | None:
        """The event's profile."""
        if not found:
            return None
        profiles = sorted({self._owners[identifier] for identifier in found if identifier in self._owners})
        if profiles:
            survivor = profiles[0]
        else:
            survivor = self.next_profile
            self.next_profile += 1
        for absorbed in profiles[1:]:
            for identifier in self._members.pop(absorbed):
                self._map(identifier, survivor)
            self.merged[absorbed] = survivor
        for identifier in found:
            if self._owners.get(identifier) != survivor:
                self._map(identifier, survivor)
        return survivor

    def survivor(self, profile: int) -> int:
        """Who a profile is by now."""
        while profile in self.merged:
            profile = self.merged[profile]
        return profile

    def _map(self, identifier: str, profile: int) -> None:
        self._owners[identifier] = profile
        self._members[profile].add(identifier)
        self.mapped[identifier] = profile


class Keys(Protocol):
    """State by single keys, as stream processors have it."""

    def get(self, key: str) -> Any:
        """What stands there, or None."""

    def set(self, key: str, value: Any) -> None:
        """Put it there."""

    def delete(self, key: str) -> None:
        """Take it away."""


class ByKeys:
    """Events resolved one by one over state of a partition, each with the keys that it needs."""

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}
        """Kept aside for the hash: nothing may be read of the state at the end."""

    def resolve(self, raw: bytes, state: Keys, partition: int) -> int | None:
        """The event's profile, or None if it names nobody."""
        found = identifiers(raw)
        if not found:
            return None
        known = {identifier: state.get(f"o:{identifier}") for identifier in found}
        profiles = sorted({profile for profile in known.values() if profile is not None})
        if profiles:
            survivor = profiles[0]
        else:
            survivor = state.get("next") or 0
            state.set("next", survivor + 1)
        new = [identifier for identifier, profile in known.items() if profile != survivor]
        if new:
            members = state.get(f"m:{survivor}") or []
            for absorbed in profiles[1:]:
                moved = state.get(f"m:{absorbed}") or []
                state.delete(f"m:{absorbed}")
                new += [identifier for identifier in moved if identifier not in known]
            for identifier in new:
                state.set(f"o:{identifier}", survivor)
                self.owners[identifier] = f"{partition}-{survivor}"
            state.set(f"m:{survivor}", members + new)
        return int(survivor)


def outcome(owners: Iterable[tuple[str, Any]]) -> str:
    """A hash of which identifiers are together, whatever the profiles are called."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for identifier, profile in owners:
        groups[profile].append(identifier)
    rows = sorted(sorted(group) for group in groups.values())
    return blake2b(orjson.dumps(rows), digest_size=8).hexdigest()


def arguments(what: str) -> argparse.Namespace:
    """The options that every peer takes."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--address", default="", help="of the database")
    parser.add_argument("--guarantee", default="at-least-once")
    return parser.parse_args()


class Meter:
    """From the first event to the last one stored."""

    def __init__(self) -> None:
        self._began: float | None = None
        self.done = 0

    def count(self, events: int) -> None:
        """So many more are done."""
        if self._began is None:
            self._began = time.perf_counter()
            self._before = events
        self.done += events

    def report(self, hashed: str) -> None:
        """One line for the program that started this one."""
        assert self._began is not None
        seconds = time.perf_counter() - self._began
        rate = (self.done - self._before) / seconds
        json.dump({"per_s": round(rate), "seconds": round(seconds, 2), "outcome": hashed}, sys.stdout)
        print(flush=True)

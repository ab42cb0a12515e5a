"""Lists as a receiver keeps them from the records of a destination's topic, and what must hold of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import orjson

from cdp_stream.config.topology import Topology
from cdp_stream.destinations.shape import shape_member
from cdp_stream.model.ports import Store
from cdp_stream.model.profile import ProfileState
from cdp_stream.stages.lists import Home, ListNews
from cdp_stream.stages.records import DESTINATION_PREFIX
from cdp_stream.testing.simulation.invariants import Violations

_INSTANT_BYTES = 8

Members = dict[tuple[str, str], set[bytes]]
"""Destination and audience key to the members, as JSON."""


class Receiver:
    """Does what the records of lists say; a record that makes no sense is a violation."""

    def __init__(self, violations: Violations) -> None:
        self._violations = violations
        self.members: Members = {}
        self._last: dict[tuple[str, str], tuple[str, int, bool]] = {}

    def take(self, place: str, role: str, row: dict[str, Any]) -> None:
        """One record of a list."""
        key = (role.removeprefix(DESTINATION_PREFIX), row["context"]["personas"]["computation_key"])
        sync, part, last = self._last.get(key, ("", 0, True))
        follows = (row["timestamp"] > sync and row["part"] == 1) if last else row["part"] == part + 1
        if not follows or (not last and row["timestamp"] != sync):
            found = f"{key}: part {row['part']} of {row['timestamp']} after {part} of {sync}"
            self._violations.add(37, place, found)
        self._last[key] = (row["timestamp"], row["part"], row["last"])
        if key not in self.members and row["sync"] != "whole":
            self._violations.add(37, place, f"{key} begins with changes")
        if row["sync"] == "whole" and row["part"] == 1:
            self.members[key] = set()
        held = self.members.setdefault(key, set())
        for member in map(orjson.dumps, row["add"]):
            if member in held:
                self._violations.add(8, place, f"{member!r} is added twice")
            held.add(member)
        for member in map(orjson.dumps, row["remove"]):
            if member not in held:
                self._violations.add(8, place, f"{member!r} is removed and was not there")
            held.discard(member)


def check_kept(store: Store, violations: Violations) -> None:
    """Invariant 38 on one partition of the profile stage."""
    told = {key[1:].decode(): msgspec.msgpack.decode(raw, type=Home).told for key, raw in store.scan(b"g")}
    for key, raw in store.scan(b"l"):
        news = msgspec.msgpack.decode(raw, type=ListNews)
        if news.sync <= told.get(news.destination, -1):
            violations.add(38, key.hex(), f"is kept for {news.sync}, told is up to {told[news.destination]}")


def check_members(
    members: Members,
    states: Sequence[ProfileState],
    stores: Sequence[Store],
    versions: Collection[Topology],
    gone: Collection[str],
    violations: Violations,
) -> None:
    """Invariant 39: what receivers hold, and what is still kept at home, against the state.

    `gone`: audiences that were removed. Their lists stay as they are: nobody leaves an audience because it goes.
    """
    destinations = {found.name: found for version in versions for found in version.destinations if found.kind == "list"}
    held = _with_kept(members, stores)
    expected: Members = {}
    for state in states:
        for name, audiences in state.open.items():
            for key, combinations in audiences.items() if name in destinations else ():
                shaped = (shape_member(destinations[name], combination, {}) for combination in combinations)
                expected.setdefault((name, key), set()).update(map(orjson.dumps, shaped))
    for place in sorted(place for place in held.keys() | expected.keys() if place[1] not in gone):
        for member in sorted(held.get(place, set()) ^ expected.get(place, set())):
            where = "told" if member in held.get(place, set()) else "held"
            violations.add(39, str(place), f"{member!r} is only {where}")


def _with_kept(members: Members, stores: Sequence[Store]) -> Members:
    """What receivers will hold when everything that is kept at home has been told."""
    held = {place: set(these) for place, these in members.items()}
    again: dict[tuple[str, str], int] = {}
    for store in stores:
        for key, raw in store.scan(b"g"):
            for sync, audience in msgspec.msgpack.decode(raw, type=Home).again:
                # What is told before does not matter: the whole list comes at this sync.
                again[key[1:].decode(), audience] = sync
    held.update((place, set()) for place in again)
    for store in stores:
        for _, raw in store.scan(b"l"):
            news = msgspec.msgpack.decode(raw, type=ListNews)
            place = (news.destination, news.audience_key)
            if news.sync >= again.get(place, 0):
                held[place] = held.get(place, set()) - set(news.removed) | set(news.added)
    return held

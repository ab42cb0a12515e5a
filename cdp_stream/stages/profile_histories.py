"""The profiles' histories in the state: entries by profile and place in the log, with the step's changes on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp_stream.model.change import ProfileEvent
from cdp_stream.model.ids import ProfileId
from cdp_stream.model.ports import Store
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import Retention
from cdp_stream.stages.history import Cut, Entries, bytes_of, cut_further, history_entry, is_cut_at, stored_entry

if TYPE_CHECKING:
    from cdp_stream.stages._native import ProfileCore

HISTORY: Final = b"h"
_BEGINNINGS_MAX: Final = 10_000
_LEFT_MAX: Final = 4
_LEFT_BYTES_MAX: Final = 512 * 1024
"""How many histories are remembered as their last cut left them, and how large each may be: ten thousand names of 36
characters have room.
"""
_PLACE_BYTES: Final = 8
_KEY_BYTES: Final = 50
"""What is reckoned for a key when a step's size is measured."""

Pairs = list[tuple[bytes, bytes]]
"""Keys and values of a history, oldest first."""

_NOTHING_LEFT: Final[Cut[bytes]] = Cut([], [], 0, 0, 0, 0)


class Histories:
    """Reads and writes over a store; `take_writes` hands the step's changes over."""

    def __init__(self, store: Store, core: ProfileCore | None = None) -> None:
        """`core`: the compiled core, which adds entries by itself."""
        self._store = store
        self._core = core
        self._writes: dict[ProfileId, dict[bytes, bytes | None]] = {}
        self._begins: dict[ProfileId, bytes] = {}
        """Where histories that were cut begin, as far as it is known: nothing in the store stands before it. A scan from
        further ahead would pass over every entry that was ever deleted there, until the store has forgotten it.
        """
        self._left: dict[ProfileId, Cut[bytes]] = {}
        """What the last cuts left, and what has come since, so that a profile of many events a second is not read for each."""
        self.bytes_pending = 0
        """About how many bytes the step has to write so far."""

    def add(self, profile_id: ProfileId, seq: int, event: ProfileEvent, retention: Retention) -> int:
        """Remember that the event belongs to the profile. Returns how many older ones were let go for want of room."""
        raw = history_entry(event, retention)
        self.bytes_pending += len(raw) + _KEY_BYTES
        mine = self._writes.setdefault(profile_id, {})
        mine[_history_key(profile_id, seq)] = raw
        return self.cut(profile_id, retention, event.now) if is_cut_at(seq, raw, retention) else 0

    def cut(self, profile_id: ProfileId, retention: Retention, now: Instant) -> int:
        """Let go what is beyond the limits. Returns how many events go though they are not too old."""
        before = self._pairs(profile_id)
        left = self._left.get(profile_id, _NOTHING_LEFT)
        size = left.size + bytes_of(before[len(left.entries) :])
        done = cut_further(before, left.settled, size, retention, now)
        mine = self._writes.setdefault(profile_id, {})
        mine.update(dict.fromkeys([key for key, _ in before[: done.gone]]))
        mine.update(done.changed)
        self.bytes_pending += bytes_of(done.changed) + len(done.changed) * _KEY_BYTES
        self._was_cut(profile_id, done)
        return done.let_go

    def replace(self, profile_id: ProfileId, entries: Entries, retention: Retention, now: Instant) -> int:
        """Replace the profile's history by as much of these entries as is to be kept. Returns how many are let go."""
        before = dict(self._pairs(profile_id))
        pairs = [(_history_key(profile_id, seq), raw) for seq, raw in entries]
        done = cut_further(pairs, 0, bytes_of(pairs), retention, now)
        after = dict(done.entries)
        mine = self._writes.setdefault(profile_id, {})
        self._was_cut(profile_id, done)
        for key in before.keys() - after.keys():
            mine[key] = None
        for key, raw in after.items():
            if before.get(key) != raw:
                mine[key] = raw
                self.bytes_pending += len(raw) + _KEY_BYTES
        return done.let_go

    def of(self, profile_id: ProfileId) -> Entries:
        """The profile's latest events with their places in the log, oldest first."""
        return _entries(self._pairs(profile_id))

    def drop(self, profile_id: ProfileId) -> None:
        """The profile is no more."""
        gone = [key for key, _ in self._pairs(profile_id)]
        self._writes.setdefault(profile_id, {}).update(dict.fromkeys(gone))
        self._was_cut(profile_id, _NOTHING_LEFT)

    def take_writes(self) -> dict[bytes, bytes | None]:
        """The step's changes, but for what the core has added to other histories than those that are remembered."""
        for profile_id in list(self._left):
            self._follow(profile_id)
        writes = {key: value for mine in self._writes.values() for key, value in mine.items()}
        self._writes = {}
        self.bytes_pending = 0
        return writes

    def _follow(self, profile_id: ProfileId) -> None:
        """Remember what the step adds to a history that was cut."""
        self._take_added(profile_id)
        left = self._left[profile_id]
        pairs = self._written_behind(profile_id, left.entries)
        left.entries.extend(pairs)
        size = left.size + bytes_of(pairs)
        if size <= _LEFT_BYTES_MAX:
            self._left[profile_id] = left._replace(size=size)
        else:
            del self._left[profile_id]

    def _take_added(self, profile_id: ProfileId) -> None:
        """Take over what the core has added."""
        if self._core is not None and (added := self._core.take_history(profile_id)):
            self._writes.setdefault(profile_id, {}).update(added)

    def _pairs(self, profile_id: ProfileId) -> Pairs:
        self._take_added(profile_id)
        if profile_id in self._left:
            entries = self._left[profile_id].entries
            return entries + self._written_behind(profile_id, entries)
        stored = self._store.scan(HISTORY + profile_id.encode(), self._begins.get(profile_id, b""))
        pairs: dict[bytes, bytes | None] = {key: stored_entry(value) for key, value in stored}
        pairs.update(self._writes.get(profile_id, {}))
        return [(key, value) for key, value in sorted(pairs.items()) if value is not None]

    def _written_behind(self, profile_id: ProfileId, left: Pairs) -> Pairs:
        """What the step has written behind these entries, which a cut has left. What it has written up to there is in them;
        events come in the order of the log.
        """
        last = left[-1][0]
        mine = self._writes.get(profile_id, {})
        return sorted((key, value) for key, value in mine.items() if value is not None and key > last)

    def _was_cut(self, profile_id: ProfileId, left: Cut[bytes]) -> None:
        """Remember where the history begins now, and what it is if it is one of the latest to be cut and not large."""
        self._left.pop(profile_id, None)
        self._begins.pop(profile_id, None)
        if not left.entries:
            return
        if len(self._begins) >= _BEGINNINGS_MAX:
            self._begins.clear()
        self._begins[profile_id] = left.entries[0][0]
        if left.size <= _LEFT_BYTES_MAX:
            self._left[profile_id] = left
            if len(self._left) > _LEFT_MAX:
                del self._left[next(iter(self._left))]


def _history_key(profile_id: ProfileId, seq: int) -> bytes:
    return HISTORY + profile_id.encode() + seq.to_bytes(_PLACE_BYTES, "big")


def _entries(pairs: Pairs) -> Entries:
    """Pairs of the history's keys and values, by place."""
    return [(int.from_bytes(key[-_PLACE_BYTES:], "big"), raw) for key, raw in pairs]

"""A profile's history: its latest events, in the order of the log, and which of them are retained for backfills.

Every entry names its event. The latest ones that fulfil all limits of `retain` also hold the event itself. All limits
cut the older end off, and none depends on anything but the entries and stream time: so it does not matter when the
history is really cut, and that of a merged profile is the one that it would have had from the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from cdp_stream.model.change import ProfileEvent
from cdp_stream.model.ids import USERS
from cdp_stream.model.profile import PastEvent
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import Retention

HISTORY_MAX: Final = 1_000
"""How many events of a profile are named at least, the latest by place in the log; so many a look-up shows."""
RETAINED_BYTES_MAX: Final = 4 * 1024 * 1024
"""How much of a profile's events is retained: the latest that have room in it."""

_CUT_EVERY: Final = 250
_CUT_SHARE: Final = 4
"""So many additions lie between two cuts of a history on average, or a so-manieth of the limit, so that cutting is rare."""
_CUT_SHARE_NAMED: Final = 20
"""The same where additions name their event and hold none: a cut looks at little then, and what goes at once is what
everybody else in the process waits for.
"""
_CUTS_MISSED: Final = 20
_CUT_BYTES: Final = 4 * 1024
"""An event of so many bytes counts as one more addition."""
_SPREAD: Final = 0x9E37_79B9_7F4A_7C15

_SHORT_ARRAY: Final = 0x90
_ARRAY_OF_ONE: Final = _SHORT_ARRAY | 1

Place = TypeVar("Place", int, bytes)
"""A place in the log, or the key that stands for it."""
Entries = list[tuple[int, bytes]]
"""Places in the log and entries, oldest first."""


class _Named(Struct, frozen=True, array_like=True):
    """An entry of an event that is not retained; the beginning of every other one."""

    message_id: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(PastEvent).decode
_decode_named = msgspec.msgpack.Decoder(_Named).decode


def history_entry(event: ProfileEvent, retention: Retention) -> bytes:
    """The entry of an event that has just come."""
    if event.name is None or event.collection != USERS or not retention.events:
        return _encode(_Named(event.message_id))
    return _encode(PastEvent(event.message_id, event.now, event.time, event.name, event.properties, event.context))


def is_cut_at(place: int, entry: bytes, retention: Retention) -> bool:
    """Is the history cut when this entry is added at this place in the log?

    Chance decides, and the place is the chance: nothing has to be counted, so nothing is forgotten when a profile leaves
    memory, or changes hands, and every run cuts at the same places.
    """
    drawn = ((place * _SPREAD) & 0xFFFF_FFFF_FFFF_FFFF) >> 32
    share = _CUT_SHARE_NAMED if entry[0] == _ARRAY_OF_ONE else _CUT_SHARE
    return drawn % max(_CUT_EVERY, retention.events // share) <= len(entry) // _CUT_BYTES


def history_max(events: int) -> int:
    """How many entries a history has at most where so many `events` are retained; once in 10^8 cuts one comes too late."""
    return max(HISTORY_MAX, events) + _CUTS_MISSED * max(_CUT_EVERY, events // _CUT_SHARE)


def stored_entry(raw: bytes) -> bytes:
    """An entry as the state has it. Formats 0 and 1 held the message id alone, as text."""
    # The first byte of every entry says that an array follows; no text can begin with it.
    return raw if raw[:1] and raw[0] & 0xF0 == _SHORT_ARRAY else _encode(_Named(raw.decode()))


def bytes_of(entries: Sequence[tuple[Place, bytes]]) -> int:
    """How large these entries are together."""
    return sum(len(raw) for _, raw in entries)


def message_ids(entries: Entries) -> list[str]:
    """The names of the latest events."""
    return [_decode_named(raw).message_id for _, raw in entries[-HISTORY_MAX:]]


def retained(entries: Entries, retention: Retention, now: Instant) -> list[PastEvent]:
    """The events that are retained at this instant, oldest first."""
    start = _first_retained(entries, 0, bytes_of(entries), retention, now)
    events = (_decode(raw) for _, raw in entries[start:])
    return [event for event in events if event.name is not None]


def cut(entries: Entries, retention: Retention, now: Instant) -> tuple[Entries, int]:
    """What is to be kept of a history, and how many events go though they are not too old."""
    done = cut_further(entries, 0, bytes_of(entries), retention, now)
    return done.entries, done.let_go


class Cut(NamedTuple, Generic[Place]):
    """What a cut leaves of a history."""

    entries: list[tuple[Place, bytes]]
    changed: list[tuple[Place, bytes]]
    """Those of them that hold less than before."""
    gone: int
    """How many of the first are no more."""
    settled: int
    """So many of the first that are left hold no event that could be retained: no cut to come changes them."""
    size: int
    """Bytes of all entries."""
    let_go: int
    """How many events go though they are not too old."""


def cut_further(
    entries: list[tuple[Place, bytes]], settled: int, size: int, retention: Retention, now: Instant
) -> Cut[Place]:
    """Cut a history of which something is known: looks at what came since the last cut, not at all of a long one.

    `settled` and `size`: as the last cut said, with the bytes of what came since.
    """
    gone = max(0, len(entries) - max(HISTORY_MAX, retention.events))
    if gone:
        size -= bytes_of(entries[:gone])
        entries, settled = entries[gone:], max(0, settled - gone)
    start = _first_retained(entries, settled, size, retention, now)
    let_go = 0
    changed: list[tuple[Place, bytes]] = []
    for number in range(settled, start):
        place, raw = entries[number]
        if raw[0] != _ARRAY_OF_ONE:
            event = _decode(raw)
            if event.name is not None:
                if not changed:
                    entries = list(entries)
                let_go += event.now > now - retention.duration
                entries[number] = (place, _encode(_Named(event.message_id)))
                changed.append(entries[number])
                size += len(entries[number][1]) - len(raw)
    return Cut(entries, changed, gone, start, size, let_go)


def _first_retained(
    entries: Sequence[tuple[Place, bytes]], settled: int, size: int, retention: Retention, now: Instant
) -> int:
    """Where the retained end of a history begins."""
    start = max(settled, len(entries) - retention.events)
    if size > RETAINED_BYTES_MAX:
        room, end = RETAINED_BYTES_MAX, len(entries)
        while end > start and room >= len(entries[end - 1][1]):
            end -= 1
            room -= len(entries[end][1])
        start = end
    # Entries stand in the order in which they came, so those that are too old stand first.
    after = now - retention.duration
    for _, raw in entries[start:]:
        if raw[0] != _ARRAY_OF_ONE and _is_recent(raw, after):
            break
        start += 1
    return start


def _is_recent(raw: bytes, after: Instant) -> bool:
    event = _decode(raw)
    return event.name is not None and event.now > after


def merged(histories: Iterable[Entries]) -> Entries:
    """Several histories as one, in the order of the log."""
    return sorted(entry for history in histories for entry in history)

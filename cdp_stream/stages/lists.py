"""Lists come together in one partition, their *home*, so that a sync is one record, whatever the number of partitions.

A sync is a due time of every profile with news. When it fires, what changes in a list because of that profile travels to
the list's home on the topic of the shipments. When a partition has passed a sync, and nothing in it waits that came before
it, it says so. Once all partitions have, the sync is complete at home, and is told: in the order of profile ids, cut by
bytes into numbered parts. So a record depends on the log alone. All lists of one destination have the same home.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Final

import msgspec
import orjson
from msgspec import Struct, field

from cdp_stream.destinations.lists import next_sync
from cdp_stream.destinations.shape import ListPart, shape_part
from cdp_stream.model.ids import ProfileId
from cdp_stream.model.ports import Store
from cdp_stream.model.profile import ListChange
from cdp_stream.model.time import INSTANT_MAX, Duration, Instant
from cdp_stream.stages.records import DESTINATION_PREFIX, SHIPMENTS, OutputRecord, encode_row, partition_of

PART_BYTES_MAX: Final = 256 * 1024
"""A sync is cut between two profiles where a record would hold more members than fit into so much."""
_NEWS: Final = b"l"
_HOME: Final = b"g"
_INSTANT_BYTES: Final = 8


class ListNews(Struct, frozen=True, kw_only=True, tag="list"):
    """What one profile changes in one list, on its way home. Members are JSON already."""

    destination: str
    audience_key: str
    audience_name: str
    profile_id: ProfileId
    sync: Instant
    added: tuple[bytes, ...]
    removed: tuple[bytes, ...]


class ListsPassed(Struct, frozen=True, kw_only=True, tag="passed"):
    """From this partition nothing more comes for syncs of the destination at or before this instant."""

    destination: str
    partition: int
    until: Instant


_encode = msgspec.msgpack.Encoder().encode
_decode_news = msgspec.msgpack.Decoder(ListNews).decode


def news_record(change: ListChange, src: str, partitions: int) -> OutputRecord:
    """A profile's change of a list, on the way to the list's home."""
    news = ListNews(
        destination=change.destination,
        audience_key=change.audience_key,
        audience_name=change.audience_name,
        profile_id=change.profile_id,
        sync=change.sync,
        added=tuple(orjson.dumps(member) for member in change.added),
        removed=tuple(orjson.dumps(member) for member in change.removed),
    )
    home = partition_of(change.destination, partitions)
    return OutputRecord(SHIPMENTS, home, change.profile_id.encode(), _encode(news), src)


def passed_record(destination: str, partition: int, until: Instant, partitions: int) -> OutputRecord:
    """A partition's word that it has passed a destination's syncs up to this instant."""
    passed = ListsPassed(destination=destination, partition=partition, until=until)
    src = f"profiles/{partition}/passed/{until}/{destination}"
    home = partition_of(destination, partitions)
    return OutputRecord(SHIPMENTS, home, destination.encode(), _encode(passed), src)


class Home(Struct, kw_only=True):
    """Where the lists of one destination stand."""

    passed: dict[int, Instant] = field(default_factory=dict)
    """Partition to the sync that it has passed."""
    told: Instant = -1
    """All syncs at or before this instant are told."""
    following: tuple[Instant, str, int] = (-1, "", 0)
    """Sync, audience and number of the part that comes after the last one told."""
    again: list[tuple[Instant, str]] = field(default_factory=list)
    """Syncs, with audience, at which a list is told whole again."""
    names: dict[str, str] = field(default_factory=dict)
    """Audience key of each list that was created to its name then: later ones are not propagated."""


class Lists:
    """The lists that are at home in this partition, over its store."""

    def __init__(self, store: Store, partition: int, partitions: int) -> None:
        self._store = store
        self._partition = partition
        self._partitions = partitions
        self._homes: dict[str, Home] = {}
        self._touched: set[str] = set()
        self._writes: dict[bytes, bytes | None] = {}
        self.bytes_pending = 0
        """About how many bytes the step has to write so far."""

    def keep(self, news: ListNews, raw: bytes) -> None:
        """Keep what a profile changes until its sync is complete."""
        key = _sync_prefix(news.destination) + news.sync.to_bytes(_INSTANT_BYTES, "big")
        key += b"%s\0%s" % (news.audience_key.encode(), news.profile_id.encode())
        self._writes[key] = raw
        self.bytes_pending += len(key) + len(raw)

    def tell_again(self, destination: str, key: str, sync: Instant) -> None:
        """At this sync the whole list is told, whether there are members or not."""
        home = self._home(destination)
        if partition_of(destination, self._partitions) == self._partition and (sync, key) not in home.again:
            home.again.append((sync, key))
            self._touched.add(destination)

    def replan(self, routed: Mapping[tuple[str, str], Duration], now: Instant) -> None:
        """Another topology is in force: whole lists that are ahead are told at its next syncs.

        `routed`: destination and audience key to how often that list is synced. One that is not synced any more waits
        until it is again.
        """
        stored = {key[len(_HOME) :].decode() for key, _ in self._store.scan(_HOME)}
        for destination in sorted(stored | self._homes.keys()):
            home = self._home(destination)
            if home.again:
                syncs = {key: routed.get((destination, key)) for _, key in home.again}
                nexts = {key: INSTANT_MAX if every is None else next_sync(now, every) for key, every in syncs.items()}
                home.again = sorted({(sync if sync <= now else nexts[key], key) for sync, key in home.again})
                self._touched.add(destination)

    def pass_by(self, passed: ListsPassed) -> None:
        """A partition has passed syncs."""
        home = self._home(passed.destination)
        home.passed[passed.partition] = max(passed.until, home.passed.get(passed.partition, -1))
        self._touched.add(passed.destination)

    def tell(self, destination: str, space: str) -> Iterator[OutputRecord]:
        """Every part of the syncs that are complete, in order; what was given counts as told.

        To be called when everything kept is committed. Where the caller stops, the next call goes on.
        """
        home = self._home(destination)
        self._touched.add(destination)
        through = min(home.passed.values()) if len(home.passed) == self._partitions else -1
        for sync, key, entries in self._complete(destination, home, through):
            number = home.following[2] if home.following[:2] == (sync, key) else 1
            whole = key not in home.names or (sync, key) in home.again
            for group, last in _cut(entries):
                news = [entry for _, entry in group]
                part = ListPart(
                    space=space,
                    destination=destination,
                    audience_key=key,
                    audience_name=home.names[key] if key in home.names else news[0].audience_name,
                    sync=sync,
                    whole=whole,
                    part=number,
                    last=last,
                    add=[orjson.Fragment(member) for entry in news for member in entry.added],
                    remove=[orjson.Fragment(member) for entry in news for member in entry.removed],
                )
                number += 1
                home.following = (sync, key, number)
                if last:
                    home.names.setdefault(key, part.audience_name)
                    home.again = [mark for mark in home.again if mark != (sync, key)]
                self._writes.update((stored, None) for stored, _ in group)
                yield self._record(part)
        home.told = max(home.told, through)
        home.again = [mark for mark in home.again if mark[0] > through]

    def is_told(self, destination: str, sync: Instant, key: str, part: int) -> bool:
        """Was this part told by a step that is stored?"""
        home = self._home(destination)
        return sync <= home.told or (sync, key, part) < home.following

    def take_writes(self) -> dict[bytes, bytes | None]:
        """The step's changes."""
        writes = self._writes
        for destination in sorted(self._touched):
            writes[_HOME + destination.encode()] = _encode(self._homes[destination])
        self._touched, self._writes = set(), {}
        self.bytes_pending = 0
        return writes

    def _complete(
        self, destination: str, home: Home, through: Instant
    ) -> Iterator[tuple[Instant, str, Iterable[tuple[bytes, ListNews]]]]:
        """The syncs that can be told, in order, with what is kept for them: nothing, where all have left a whole list."""
        # A list that was never told has nothing to be told again.
        marks = sorted(mark for mark in home.again if mark[0] <= through and mark[1] in home.names)
        for (sync, key), entries in groupby(self._entries(destination, home.told + 1, through), _list_of):
            while marks and marks[0] < (sync, key):
                yield *marks.pop(0), ()
            marks = [mark for mark in marks if mark != (sync, key)]
            yield sync, key, entries
        for mark in marks:
            yield *mark, ()

    def _record(self, part: ListPart) -> OutputRecord:
        place = f"{part.sync}/{part.destination}/{part.audience_key}/{part.part}"
        src = f"profiles/{self._partition}/sync/{place}"
        value = encode_row(shape_part(part))
        return OutputRecord(
            DESTINATION_PREFIX + part.destination, self._partition, part.audience_key.encode(), value, src
        )

    def _home(self, destination: str) -> Home:
        home = self._homes.get(destination)
        if home is None:
            raw = self._store.get(_HOME + destination.encode())
            home = Home() if raw is None else msgspec.msgpack.decode(raw, type=Home)
            self._homes[destination] = home
        return home

    def _entries(self, destination: str, first: Instant, through: Instant) -> Iterator[tuple[bytes, ListNews]]:
        """What is kept for syncs from `first` to `through`, by sync, audience and profile."""
        prefix = _sync_prefix(destination)
        # Deletions lie in front; a search from the beginning would pass over all of them each time.
        for key, raw in self._store.scan(prefix, prefix + first.to_bytes(_INSTANT_BYTES, "big")):
            if int.from_bytes(key[len(prefix) : len(prefix) + _INSTANT_BYTES], "big") > through:
                return
            yield key, _decode_news(raw)


def _sync_prefix(destination: str) -> bytes:
    return b"%s%s\0" % (_NEWS, destination.encode())


def _list_of(entry: tuple[bytes, ListNews]) -> tuple[Instant, str]:
    return entry[1].sync, entry[1].audience_key


def _cut(entries: Iterable[tuple[bytes, ListNews]]) -> Iterator[tuple[list[tuple[bytes, ListNews]], bool]]:
    """The entries in pieces of at most PART_BYTES_MAX, and whether it is the last; one entry may be longer."""
    piece: list[tuple[bytes, ListNews]] = []
    size = 0
    for entry in entries:
        length = sum(map(len, (*entry[1].added, *entry[1].removed)))
        if piece and size + length > PART_BYTES_MAX:
            yield piece, False
            piece, size = [], 0
        piece.append(entry)
        size += length
    yield piece, True

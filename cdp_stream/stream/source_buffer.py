"""Records of one source partition between being fetched and being cut into slices.

Where the consumer gives whole answers of the broker (`Packed`), the compiled core makes records of them, slice by slice;
otherwise they come as records already. The slices are the same.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol, cast

from aiokafka.structs import TopicPartition

from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.stream.log import ReadRecord

_source_ref: Final = partial(tuple.__new__, SourceRef)
"""What the class's own constructor does, at half its cost."""
Source = tuple[str, str, int, bool, type[RawRecord], type[SourceRef]]


class Packed(Protocol):
    """Consecutive records of a partition, made one by one as they are taken."""

    def __len__(self) -> int:
        """How many are left."""

    def take(self, into: list[RawRecord], count: int, room: int, total: int, source: Source) -> tuple[int, int]:
        """Append up to `count` records, as long as their values leave room; what is left of it, and the checksum `total`
        going on over their keys and values.
        """


class SourceBuffer:
    """What is fetched of one source partition and not cut yet."""

    def __init__(self, where: TopicPartition, topic_id: str, *, identity: bool) -> None:
        self._source: Source = (where.topic, topic_id, where.partition, identity, RawRecord, SourceRef)
        self._packs: deque[Packed] = deque()

    def __len__(self) -> int:
        return sum(map(len, self._packs))

    def extend(self, fetched: Sequence[ReadRecord] | Sequence[Packed]) -> None:
        """Take in what was fetched next."""
        if fetched and hasattr(fetched[0], "take"):
            self._packs.extend(cast("Sequence[Packed]", fetched))
        else:
            self._packs.append(_Loose(cast("Sequence[ReadRecord]", fetched)))

    def take(self, count: int, room: int) -> tuple[list[RawRecord], int, int]:
        """Up to so many records, as long as their values leave room; what is left of it, and their checksum."""
        taken: list[RawRecord] = []
        total = 0
        while self._packs and len(taken) < count and room > 0:
            room, total = self._packs[0].take(taken, count - len(taken), room, total, self._source)
            if not len(self._packs[0]):
                self._packs.popleft()
        return taken, room, total


class _Loose:
    """`Packed` of records that are made already."""

    def __init__(self, records: Sequence[ReadRecord]) -> None:
        self._left = deque(records)

    def __len__(self) -> int:
        return len(self._left)

    def take(self, into: list[RawRecord], count: int, room: int, total: int, source: Source) -> tuple[int, int]:
        begin = len(into)
        where, topic_id, identity = TopicPartition(source[0], source[2]), source[1], source[3]
        while self._left and len(into) - begin < count and room > 0:
            record = raw_record(where, topic_id, self._left.popleft(), identity=identity)
            room -= len(record.value or b"")
            into.append(record)
        return room, _crc(into[begin:], total)


def raw_record(where: TopicPartition, topic_id: str, record: ReadRecord, *, identity: bool) -> RawRecord:
    """A record as it was read, with its place."""
    place = _source_ref((where.topic, topic_id, where.partition, record.offset))
    return RawRecord(place, record.timestamp, record.key, record.value, identity)


def _crc(records: Sequence[RawRecord], total: int) -> int:
    """`entries.records_crc`, going on from a sum."""
    return zlib.crc32(b"".join([part for record in records for part in (record.key, record.value) if part]), total)

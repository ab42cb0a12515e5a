"""Records of one source partition between being fetched and being cut into slices.

Where the consumer gives whole answers of the broker (`Packed`), the records of a slice stay where they lie in these, and the
compiled core takes them from there; otherwise they come as records already. The slices are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol, cast

from aiokafka.structs import TopicPartition

from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.stages.native import NATIVE
from cdp_stream.stream.log import ReadRecord

_source_ref: Final = partial(tuple.__new__, SourceRef)
"""What the class's own constructor does, at half its cost."""
Source = tuple[str, str, int, bool]


class Packed(Protocol):
    """Consecutive records of a partition, made one by one as they are looked at."""

    def __len__(self) -> int:
        """How many are left."""

    def take(self, count: int, room: int, source: Source) -> tuple[Sequence[RawRecord], int]:
        """Up to `count` records, as long as their values leave room; what is left of it."""


class SourceBuffer:
    """What is fetched of one source partition and not cut yet."""

    def __init__(self, where: TopicPartition, topic_id: str, *, identity: bool) -> None:
        self._source: Source = (where.topic, topic_id, where.partition, identity)
        self._packs: deque[Packed] = deque()

    def __len__(self) -> int:
        return sum(map(len, self._packs))

    def extend(self, fetched: Sequence[ReadRecord] | Sequence[Packed]) -> None:
        """Take in what was fetched next."""
        if fetched and hasattr(fetched[0], "take"):
            self._packs.extend(cast("Sequence[Packed]", fetched))
        else:
            self._packs.append(_Loose(cast("Sequence[ReadRecord]", fetched)))

    def take(self, count: int, room: int) -> tuple[Sequence[RawRecord], int]:
        """Up to so many records, as long as their values leave room; what is left of it."""
        taken: list[Sequence[RawRecord]] = []
        while self._packs and count > 0 and room > 0:
            records, room = self._packs[0].take(count, room, self._source)
            count -= len(records)
            taken.append(records)
            if not len(self._packs[0]):
                self._packs.popleft()
        return joined(taken), room


class _Loose:
    """`Packed` of records that are made already."""

    def __init__(self, records: Sequence[ReadRecord]) -> None:
        self._left = deque(records)

    def __len__(self) -> int:
        return len(self._left)

    def take(self, count: int, room: int, source: Source) -> tuple[Sequence[RawRecord], int]:
        taken: list[RawRecord] = []
        topic, topic_id, number, identity = source
        where = TopicPartition(topic, number)
        while self._left and len(taken) < count and room > 0:
            record = raw_record(where, topic_id, self._left.popleft(), identity=identity)
            room -= len(record.value or b"")
            taken.append(record)
        return taken, room


def joined(several: Sequence[Sequence[RawRecord]]) -> Sequence[RawRecord]:
    """The records of all of them; they stay where they lie as long as all of them do."""
    if len(several) == 1:
        return several[0]
    if NATIVE is not None and several and all(isinstance(records, NATIVE.Records) for records in several):
        found: Sequence[RawRecord] = NATIVE.Records.joined(several)
        return found
    return [record for records in several for record in records]


def raw_record(where: TopicPartition, topic_id: str, record: ReadRecord, *, identity: bool) -> RawRecord:
    """A record as it was read, with its place."""
    place = _source_ref((where.topic, topic_id, where.partition, record.offset))
    return RawRecord(place, record.timestamp, record.key, record.value, identity)

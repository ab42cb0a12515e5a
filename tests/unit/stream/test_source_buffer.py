"""Cutting slices: runs of the compiled core and the client's records give the same records, checksums and ends."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from cdp_stream.model.event import RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.stages.entries import records_crc
from cdp_stream.stages.native import NATIVE
from cdp_stream.stream.consumers import _AsPacked, _AsParsed
from cdp_stream.stream.source_buffer import SourceBuffer, joined

WHERE = TopicPartition("events", 3)
SEED = 20_261
needs_core = pytest.mark.skipif(NATIVE is None, reason="there is no compiled core here")


class Assignment:
    active = True

    def __init__(self, position: int) -> None:
        self.paused, self.position = False, position

    def state_value(self, where: TopicPartition) -> Assignment:
        assert where == WHERE
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


def batch(base: int, values: list[bytes | None], **more: Any) -> bytes:
    settings = {"is_transactional": 0, "producer_id": -1, "producer_epoch": -1, "base_sequence": -1, **more}
    builder = DefaultRecordBatchBuilder(2, settings.pop("compression", 0), batch_size=10**6, **settings)
    for number, value in enumerate(values):
        builder.append(number, timestamp=1_000 + number, key=b"k%d" % number, value=value, headers=[("h", b"v")])
    raw = bytearray(builder.build())
    raw[:8] = base.to_bytes(8, "big")
    return bytes(raw)


@dataclass
class Answer:
    topics: list[Any]


def fetched(
    raw: bytes, start: int, held: Any, aborted: list[tuple[int, int]] | None = None, level: int = READ_COMMITTED
) -> tuple[list[Any], int]:
    """What a consumer gives out of an answer, and where it reads on."""
    records = PartitionRecords(WHERE, MemoryRecords(raw), aborted or [], start, None, None, True, level)
    assignment = Assignment(start)
    if isinstance(held, _AsPacked):
        held.answered(Answer([("events", [(3, 0, 99, 99, 0, [], raw)])]))
    held[WHERE] = FetchResult(WHERE, assignment=assignment, partition_records=records, backoff=0.1)
    found: list[Any] = []
    while held[WHERE].has_more():
        found += held[WHERE].getall(max_records=7)
    return found, assignment.position


def slices(found: list[Any], draw: Random) -> list[Any]:
    buffer = SourceBuffer(WHERE, "the topic's id", identity=True)
    buffer.extend(found)
    cut: list[Any] = []
    while len(buffer):
        count, room = draw.randint(1, 9), draw.randint(1, 4_000)
        taken, left = buffer.take(count, room)
        records = list(taken)
        assert records_crc(taken) == records_crc(records)
        assert left == room - sum(len(one.value or b"") for one in records)
        cut.append(records)
    return cut


def both(raw: bytes, start: int, **more: Any) -> tuple[list[Any], list[Any]]:
    cuts = []
    ends = set()
    for held in (_AsPacked(), _AsParsed()):
        found, end = fetched(raw, start, held, **more)
        cuts.append(slices(found, Random(SEED)))
        ends.add(end)
    assert len(ends) == 1
    return cuts[0], cuts[1]


@needs_core
def test_slices_are_the_same_however_records_come() -> None:
    draw = Random(SEED)
    for _ in range(40):
        raw, base, starts = b"", 10, 10
        for _ in range(draw.randint(1, 4)):
            values = [draw.choice([None, draw.randbytes(draw.randint(0, 900))]) for _ in range(draw.randint(1, 12))]
            # A broker answers from the batch on that holds the offset it was asked for.
            starts = starts if raw else base + len(values) - 1
            raw += batch(base, values)
            base += len(values) + draw.randint(0, 2)
        packed, parsed = both(raw, draw.randint(8, starts))
        assert packed == parsed
        assert all(type(one) is RawRecord and type(one.source) is SourceRef for taken in packed for one in taken)


def lying(*answers: bytes) -> Any:
    """The records of these answers, as they lie in them."""
    buffer = SourceBuffer(WHERE, "the topic's id", identity=True)
    for raw in answers:
        buffer.extend([NATIVE.fetched_records(raw, 0, None)])
    return buffer.take(1_000, 100_000)[0]


@needs_core
def test_records_are_a_sequence_wherever_they_lie() -> None:
    records = lying(batch(0, [b"a", b"b", b"c"]), batch(3, [b"d", None]), batch(5, [b"f"]))
    values = [one.value for one in records]
    assert values == [b"a", b"b", b"c", b"d", None, b"f"]
    assert [len(records), records[-1].value, records[-6].value] == [6, b"f", b"a"]
    for start in range(-7, 8):
        for end in range(-7, 8):
            some = records[start:end]
            assert [one.value for one in some] == values[start:end]
            assert records_crc(some) == records_crc(list(some))
    for outside in (6, -7):
        with pytest.raises(IndexError):
            records[outside]
    with pytest.raises(ValueError, match="step"):
        records[::2]
    with pytest.raises(TypeError):
        records["a"]


@needs_core
def test_records_that_lie_are_joined_where_they_lie() -> None:
    first, second = lying(batch(0, [b"a", b"b"])), lying(batch(9, [b"c"]))
    both = joined([first, second])
    assert type(both) is type(first)
    assert list(both) == [*first, *second]
    assert joined([first, list(second)]) == list(both)
    assert joined([]) == []


@needs_core
@pytest.mark.parametrize(("level", "seen"), [(READ_COMMITTED, [b"kept"]), (READ_UNCOMMITTED, [b"given up", b"kept"])])
def test_aborted_records_are_passed_over_by_who_reads_committed_ones(level: int, seen: list[bytes]) -> None:
    raw = batch(0, [b"given up"], is_transactional=1, producer_id=7, producer_epoch=0, base_sequence=0)
    raw += batch(1, [b"kept"], is_transactional=1, producer_id=8, producer_epoch=0, base_sequence=0)
    packed, parsed = both(raw, 0, aborted=[(7, 0)], level=level)
    assert packed == parsed
    assert [one.value for taken in packed for one in taken] == seen


@needs_core
def test_compressed_batches_are_left_to_the_client() -> None:
    raw = batch(0, [b"one", b"two"], compression=1)
    found, end = fetched(raw, 0, _AsPacked())
    assert ([one.value for one in found], end) == ([b"one", b"two"], 2)
    packed, parsed = both(raw, 0)
    assert packed == parsed


@needs_core
def test_a_changed_byte_is_found_by_the_client() -> None:
    raw = bytearray(batch(0, [b"one"]))
    raw[-1] ^= 1
    with pytest.raises(Exception, match="CRC"):
        fetched(bytes(raw), 0, _AsPacked())

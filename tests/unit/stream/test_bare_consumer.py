"""What the bare consumer relies on in aiokafka 0.14: fetched records are made by a method that can be replaced."""

from __future__ import annotations

from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from cdp_stream.stream.consumers import _AsParsed

WHERE = TopicPartition("events", 3)


class Assignment:
    active = True

    def __init__(self) -> None:
        self.paused, self.position = False, 7

    def state_value(self, where: TopicPartition) -> Assignment:
        assert where == WHERE
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


def fetched(assignment: Assignment, **fields: Any) -> FetchResult:
    """As the fetcher makes it of an answer: two records at offsets 7 and 8."""
    builder = BatchBuilder(10_000, 0)
    for value in (b"one", b"two"):
        builder.append(timestamp=1_234, key=b"k", value=value, headers=[("h", b"v")])
    raw = bytearray(builder._build())
    raw[7] = 7  # the base offset, which the broker sets
    records = PartitionRecords(WHERE, MemoryRecords(bytes(raw)), [], 7, None, None, True, READ_COMMITTED)
    return FetchResult(WHERE, assignment=assignment, partition_records=records, backoff=0.1, **fields)


def test_records_are_given_out_as_the_parser_makes_them() -> None:
    assignment = Assignment()
    held = _AsParsed()
    held[WHERE] = fetched(assignment)
    (first,) = held[WHERE].getall(max_records=1)
    assert assignment.position == 8
    (second,) = held[WHERE].getall()
    assert (assignment.position, held[WHERE].has_more()) == (9, False)
    assert [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in (first, second)] == [
        (7, 1_234, b"k", b"one", [("h", b"v")]),
        (8, 1_234, b"k", b"two", [("h", b"v")]),
    ]
    assert not hasattr(first, "topic")


def test_an_error_is_held_as_it_is() -> None:
    held = _AsParsed()
    held[WHERE] = error = object()
    assert held[WHERE] is error

"""The row of an unusable record: reason, place, size, and the bytes as far as they are kept."""

from __future__ import annotations

from base64 import b64decode

import pytest

from cdp_stream.intake.dead_letter import VALUE_BYTES_MAX, dead_letter_record
from cdp_stream.model.event import DeadLetter, RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.model.time import parse_instant

WHEN, NOW = parse_instant("2025-01-02T03:04:05.678Z"), parse_instant("2025-01-02T03:04:06Z")
LETTER = DeadLetter("wrong_type", "userId", "an id must be a text or a number")


def test_a_row_has_every_field_of_its_record() -> None:
    record = RawRecord(SourceRef("web", "topic-id", 2, 7), WHEN, b"k", b"{}")
    expected = {
        "reason": "wrong_type",
        "field": "userId",
        "detail": "an id must be a text or a number",
        "source": {"topic": "web", "partition": 2, "offset": 7, "timestamp": "2025-01-02T03:04:05.678Z"},
        "size": 2,
        "value_base64": "e30=",
        "truncated": False,
        "now": "2025-01-02T03:04:06.000Z",
    }
    assert expected == dead_letter_record(LETTER, record, NOW)


@pytest.mark.parametrize(
    ("value", "size", "kept", "truncated"),
    [
        (None, 0, b"", False),
        (b"", 0, b"", False),
        (b"\xff\x00" * (VALUE_BYTES_MAX // 2), VALUE_BYTES_MAX, b"\xff\x00" * (VALUE_BYTES_MAX // 2), False),
        (b"\xff" * (VALUE_BYTES_MAX + 1), VALUE_BYTES_MAX + 1, b"\xff" * VALUE_BYTES_MAX, True),
    ],
    ids=["tombstone", "empty", "as much as is kept", "one byte more"],
)
def test_at_most_64_kib_of_the_value_are_kept(value: bytes | None, size: int, kept: bytes, truncated: bool) -> None:
    row = dead_letter_record(LETTER, RawRecord(SourceRef("web", "t", 0, 0), WHEN, None, value), NOW)
    assert (size, kept, truncated) == (row["size"], b64decode(row["value_base64"]), row["truncated"])


def test_a_record_without_a_timestamp_stands_at_the_beginning_of_time() -> None:
    row = dead_letter_record(LETTER, RawRecord(SourceRef("web", "t", 0, 0), -1, None, b"x"), NOW)
    assert row["source"]["timestamp"] == "1970-01-01T00:00:00.000Z"

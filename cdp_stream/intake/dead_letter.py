"""A dead letter as a record: the typed reason, the place it came from, and the original bytes."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final

from cdp_stream.model.event import DeadLetter, RawRecord
from cdp_stream.model.time import INSTANT_MAX, Instant, format_instant

VALUE_BYTES_MAX: Final = 64 * 1024
"""How much of the original value a dead letter keeps."""


def dead_letter_record(letter: DeadLetter, record: RawRecord, now: Instant) -> dict[str, Any]:
    """The row of the dead-letter topic for an unusable record; `now` is stream time."""
    value = record.value or b""
    source = record.source
    return {
        "reason": letter.reason,
        "field": letter.field,
        "detail": letter.detail,
        "source": {
            "topic": source.topic,
            "partition": source.partition,
            "offset": source.offset,
            "timestamp": format_instant(min(max(record.timestamp, 0), INSTANT_MAX)),
        },
        "size": len(value),
        "value_base64": b64encode(value[:VALUE_BYTES_MAX]).decode(),
        "truncated": len(value) > VALUE_BYTES_MAX,
        "now": format_instant(now),
    }

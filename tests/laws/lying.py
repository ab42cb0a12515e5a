"""Records as the compiled core has them: where they lie in the broker's answers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from cdp_stream.model.event import RawRecord
from cdp_stream.stages.native import NATIVE

_BATCH_BYTES = 64 * 1024 * 1024
_TAKEN_MAX = 5


def lying(records: Sequence[RawRecord], draw: Random) -> Sequence[RawRecord]:
    """The same records of one source partition, taken from an answer a few at a time."""
    assert NATIVE is not None
    if not records:
        return records
    source, settings = records[0].source, {"producer_id": -1, "producer_epoch": -1, "base_sequence": -1}
    builder = DefaultRecordBatchBuilder(2, 0, is_transactional=0, batch_size=_BATCH_BYTES, **settings)
    for number, record in enumerate(records):
        builder.append(number, timestamp=record.timestamp, key=record.key, value=record.value, headers=[])
    raw = source.offset.to_bytes(8, "big") + bytes(builder.build())[8:]
    answer: Any = NATIVE.fetched_records(raw, source.offset, None)
    pieces = []
    while len(answer):
        place = (source.topic, source.topic_id, source.partition, records[0].identity)
        pieces.append(answer.take(draw.randint(1, _TAKEN_MAX), _BATCH_BYTES, place)[0])
    joined: Sequence[RawRecord] = NATIVE.Records.joined(pieces)
    assert list(joined) == list(records)
    return joined

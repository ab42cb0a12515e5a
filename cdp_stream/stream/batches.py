"""A record batch as Kafka wants it: by the compiled core where there is one, else by the client's own builder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from cdp_stream.model.time import Instant
from cdp_stream.stages.native import NATIVE
from cdp_stream.stream.log import BatchRecord

_FORMAT: Final = 2
_SEQUENCES: Final = 2**31


@dataclass(frozen=True, slots=True)
class WrittenBy:
    """Whose batch it is: the broker refuses one of an older epoch, and one that is not next in sequence."""

    producer_id: int
    epoch: int
    sequence: int


def after(sequence: int, count: int) -> int:
    """The sequence number so many records later; it begins at nought again after the largest."""
    return (sequence + count) % _SEQUENCES


def record_batch(
    records: list[BatchRecord], bytes_max: int, now: Instant, by: WrittenBy, native: Any = NATIVE
) -> bytes | None:
    """These records as one batch, all with the timestamp `now`; None where it would be larger than `bytes_max`."""
    if native is None:
        return _by_the_client(records, bytes_max, now, by)
    made = native.record_batches(records, bytes_max, now, (by.producer_id, by.epoch, by.sequence))
    whole: bytes = made[0][0]
    return whole if len(made) == 1 and len(whole) <= bytes_max else None


def _by_the_client(records: list[BatchRecord], bytes_max: int, now: Instant, by: WrittenBy) -> bytes | None:
    builder = DefaultRecordBatchBuilder(
        _FORMAT,
        0,
        is_transactional=0,
        producer_id=by.producer_id,
        producer_epoch=by.epoch,
        base_sequence=by.sequence,
        batch_size=bytes_max,
    )
    for number, (key, value, src) in enumerate(records):
        headers = [] if src is None else [("src", src.encode())]
        if builder.append(number, timestamp=now, key=key, value=value, headers=headers) is None:
            return None
    whole = bytes(builder.build())
    return whole if len(whole) <= bytes_max else None

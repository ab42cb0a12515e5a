"""Record batches: the compiled core's are the client's, byte for byte, and what it reads is what the client reads."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.stages.native import NATIVE
from cdp_stream.stream.batches import WrittenBy, after, record_batch

BY = WrittenBy(producer_id=77, epoch=3, sequence=2**31 - 2)
NOW = 1_767_225_600_000
BYTES_MAX = 1_000_000
fields = st.none() | st.binary(max_size=300)
records_of_a_batch = st.lists(st.tuples(fields, fields, st.none() | st.text(max_size=80)), min_size=1, max_size=90)
needs_core = pytest.mark.skipif(NATIVE is None, reason="there is no compiled core here")


@needs_core
@given(records_of_a_batch)
def test_both_builders_make_the_same_bytes(records: list[Any]) -> None:
    by_the_core = record_batch(records, BYTES_MAX, NOW, BY)
    assert record_batch(records, BYTES_MAX, NOW, BY, native=None) == by_the_core


@given(records_of_a_batch)
def test_a_batch_is_read_as_it_was_written(records: list[Any]) -> None:
    raw = record_batch(records, BYTES_MAX, NOW, BY)
    assert raw is not None
    batch = MemoryRecords(raw).next_batch()
    assert batch.validate_crc()
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (77, 3, 2**31 - 2)
    read = [(one.key, one.value, dict(one.headers).get("src")) for one in batch]
    assert read == [(key, value, None if src is None else src.encode()) for key, value, src in records]


@pytest.mark.parametrize("native", [None, NATIVE])
def test_what_is_too_large_is_no_batch(native: Any) -> None:
    records: list[Any] = [(b"key", b"x" * 400, None)] * 3
    assert record_batch(records, 2_000, NOW, BY, native=native) is not None
    assert record_batch(records, 1_000, NOW, BY, native=native) is None
    assert record_batch(records[:1], 300, NOW, BY, native=native) is None


def test_sequences_begin_again_after_the_largest() -> None:
    assert (8, 2**31 - 1, 0, 2) == (after(5, 3), after(2**31 - 2, 1), after(2**31 - 2, 2), after(2**31 - 1, 3))

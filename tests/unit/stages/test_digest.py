"""The digest is the same, whether the core hashes the outputs or Python does."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdp_stream.stages.digest import OutputsDigest

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
rows = st.dictionaries(st.sampled_from(["seq", "now", "b", "a", "\u00e9"]), values, max_size=5).map(orjson.dumps)
unread = st.sampled_from(
    [b'{"a":1,"a":2}', b'{"n":123456789012345678901234567890}', b'{"z":' + b"[" * 200 + b"]" * 200 + b"}"]
)
records = st.lists(
    st.tuples(st.sampled_from(["ledger", "destinations/crm"]), st.sampled_from([b"", b"use_1"]), rows | unread)
)


def total(of: list[Any], *, compiled: bool) -> tuple[str, dict[str, int]]:
    digest = OutputsDigest(compiled=compiled)
    for topic, key, value in of:
        digest.add(topic, key, value)
    return digest.total([{"id": "use_1"}]), digest.counts


@given(records)
@example([("ledger", b"", b'{"a":1e16,"b":1e-7,"c":-0.0,"d":5e-324,"e":1e22}')])
def test_both_hash_alike(of: list[Any]) -> None:
    assert total(of, compiled=True) == total(of, compiled=False)


def test_order_and_content_count_but_not_the_place_in_the_log() -> None:
    one, other = ("ledger", b"k", b'{"a":1,"seq":"7","now":"x"}'), ("ledger", b"k", b'{"a":2}')
    moved = ("ledger", b"k", b'{"now":"y","seq":"8","a":1}')
    assert total([one, other], compiled=True) == total([moved, other], compiled=True)
    assert total([one, other], compiled=True) != total([other, one], compiled=True)


@pytest.mark.parametrize("compiled", [True, False])
def test_so_many_that_they_are_hashed_in_several_goes(compiled: bool) -> None:
    rows = [("ledger", b"%d" % (number % 7), b'{"n":%d,"a":1}' % number) for number in range(2_000)]
    assert total(rows, compiled=compiled) == total(rows, compiled=not compiled)
    assert total(rows, compiled=compiled) != total([*rows[:-8], rows[-1], *rows[-7:-1], rows[-8]], compiled=compiled)


@pytest.mark.parametrize("compiled", [True, False])
def test_records_go_on_after_a_total(compiled: bool) -> None:
    digest = OutputsDigest(compiled=compiled)
    totals = []
    for number in range(3):
        digest.add("ledger", b"", b'{"n":%d}' % number)
        totals.append(digest.total([]))
    again = OutputsDigest(compiled=not compiled)
    for number in range(3):
        again.add("ledger", b"", b'{"n":%d}' % number)
    assert totals[2] == again.total([])
    assert len(set(totals)) == 3


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("records", [1, 10_000])
def test_what_is_no_record_is_an_error(compiled: bool, records: int) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        total([("ledger", b"", b"{nonsense")] * records, compiled=compiled)

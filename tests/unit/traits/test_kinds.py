"""What each trait kind reads, as tables."""

from __future__ import annotations

import sys
from functools import reduce
from typing import Any

import pytest

from cdp_stream.traits.kinds import KINDS


def read(reducer: str, values: list[Any]) -> Any:
    """The value after events one millisecond apart."""
    kind = KINDS[reducer]
    events = [(value, time, f"m{time}") for time, value in enumerate(values)]
    return kind.read(reduce(lambda state, event: kind.add(state, *event), events, kind.zero()))


@pytest.mark.parametrize(
    ("values", "count", "total", "average", "least", "greatest", "first", "last"),
    [
        # values                count sum   avg   min   max   first last
        ([],                    None, None, None, None, None, None, None),
        ([None],                1,    None, None, None, None, None, None),
        ([5],                   1,    5,    5,    5,    5,    5,    5),
        ([0.1, 0.2],            2,    0.3,  0.15, 0.1,  0.2,  0.1,  0.2),
        ([1, 2],                2,    3,    1.5,  1,    2,    1,    2),
        ([1.5, 1.5],            2,    3,    1.5,  1.5,  1.5,  1.5,  1.5),
        ([-2, 2],               2,    0,    0,    -2,   2,    -2,   2),
        ([7, None, 3],          3,    10,   5,    3,    7,    7,    3),
        ([True, "9", 4],        3,    4,    4,    4,    4,    True, 4),
        (["b", "a"],            2,    None, None, None, None, "b",  "a"),
        ([[1], {"a": 1}],       2,    None, None, None, None, [1],  {"a": 1}),
        ([1e16, 1, -1e16],      3,    1,    1/3,  -10**16, 10**16, 1e16, -1e16),
        ([1e300, 1, -1e300],    3,    1,    1/3,  -1e300, 1e300, 1e300, -1e300),
    ],
)  # fmt: skip
def test_what_the_kinds_read(values: list[Any], count: Any, total: Any, average: Any, least: Any, greatest: Any, first: Any, last: Any) -> None:  # fmt: skip
    expected = {"count": count, "sum": total, "avg": average, "min": least, "max": greatest, "first": first, "last": last}  # fmt: skip
    actual = {reducer: read(reducer, values) for reducer in expected}
    assert expected == actual
    assert {key: type(value) for key, value in expected.items()} == {key: type(value) for key, value in actual.items()}


def test_a_sum_beyond_all_floats_reads_as_the_largest_one() -> None:
    assert sys.float_info.max == read("sum", [1.7e308, 1.7e308])
    assert -sys.float_info.max == read("sum", [-1.7e308, -1.7e308])


def test_whole_numbers_beyond_64_bits_are_floats() -> None:
    assert [2.0**64, 2**64 - 1, 2.0**65] == [read("max", [2**64]), read("max", [2**64 - 1]), read("sum", [2**64] * 2)]
    assert read("max", [10**400]) is None


def test_a_late_event_can_become_the_first_and_never_the_last() -> None:
    def read_late(reducer: str) -> Any:
        kind = KINDS[reducer]
        return kind.read(kind.add(kind.add(kind.zero(), "now", 10, "m1"), "late", 5, "m2"))

    assert ["late", "now"] == [read_late("first"), read_late("last")]


def test_events_of_one_instant_stand_in_order_of_message_id() -> None:
    def read_tied(reducer: str) -> Any:
        kind = KINDS[reducer]
        return kind.read(kind.add(kind.add(kind.zero(), "b", 10, "m2"), "a", 10, "m1"))

    assert ["a", "b"] == [read_tied("first"), read_tied("last")]

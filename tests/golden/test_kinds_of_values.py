"""What each kind of trait makes of each sort of value, the same in every kind of window."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdp_stream.testing import TopologyDriver

LARGEST = 2**63 - 1
WINDOWS = (
    "",
    ".within(7 days)",
    ".between(1 seconds, 7 days)",
    ".expires_after(2 days)",
    ".where(trait('never').absent())",
    ".where(trait('never').absent()).within(7 days)",
    ".where(property('p').exists() OR property('p').absent()).expires_after(2 days)",
)
OBJECT = {"a": 2, "b": [1]}

CASES: list[tuple[str, list[Any], Any]] = [
    ("count()", [None, 1, ...], 3),
    ("sum('p')", [1, 2, 3], 6),
    ("sum('p')", [0.1, 0.2], 0.3),
    ("sum('p')", [0.5, 0.5], 1),
    ("sum('p')", [-1, 1], 0),
    ("sum('p')", [0.1, "5", None, True, [1], {}, ..., 2], 2.1),
    ("sum('p')", ["5"], None),
    ("sum('p')", [LARGEST, 1], LARGEST + 1),
    ("sum('p')", [LARGEST] * 3, float(3 * LARGEST)),
    ("sum('p')", [1e308, 1e308, -1e308], 1e308),
    ("sum('p.$')", [[1, 2, "x", None], 5], 3),
    ("avg('p')", [1, 2, 2], 5 / 3),
    ("avg('p')", [1, 2, 3], 2),
    ("avg('p')", [1e308, 1e308], 1e308),
    ("avg('p')", ["a"], None),
    ("min('p')", [3, -1.5, "-9", True], -1.5),
    ("max('p')", [3, "99", 2.5], 3),
    ("max('p')", [5.0], 5),
    ("max('p')", [9007199254740993, 9007199254740992.0], 9007199254740993),
    ("max(property('p') as string)", [10, 9], "9"),
    ("max(property('p') as string)", [10, 9, "a"], "a"),
    ("min(property('p') as string)", [10, 9], "10"),
    ("min(property('p') as string)", [True, "z"], "true"),
    ("max(property('p') as number)", ["10", "9"], 10),
    ("max(property('p') as number)", ["10.5", 11, "x"], 11),
    ("min(property('p') as number)", ["abc"], None),
    ("mode('p')", ["a"], None),
    ("mode('p')", ["a", "a"], "a"),
    ("mode('p')", ["b", "a", "b", "a"], "a"),
    ("mode('p')", ["Z", "Z", "a", "a"], "Z"),
    ("mode('p')", [5, 5], "5"),
    ("mode('p')", [5, "5"], "5"),
    ("mode('p')", [True, True, False], "true"),
    ("mode('p')", ["", "", None, None, None], ""),
    ("mode('p', 1)", ["b", "a"], "a"),
    ("mode('p', 3)", ["b", "b"], None),
    ("mode('p.$')", [["a", "a"], ["b"]], "a"),
    ("mode(property('p') as number)", [5, 5], 5),
    ("mode(property('p') as number)", [10, 10, 9, 9], 10),
    ("mode(property('p') as array)", [["a", "b"], ["b", "a"], ["a", "b"]], ["a", "b"]),
    ("first('p')", [None, "x", "y"], "x"),
    ("first('p')", [False, True], False),
    ("first('p.$')", [[None, "x"], ["y"]], "x"),
    ("last('p')", ["x", "y", None], "y"),
    ("last('p')", ["x", ""], ""),
    ("last('p')", [OBJECT], OBJECT),
    ("unique('p')", ["b", "a", "b"], ["a", "b"]),
    ("unique('p')", ["B", "a", "Z"], ["B", "Z", "a"]),
    ("unique('p')", [10, 9], [10, 9]),
    ("unique('p')", [1, 1.0], [1]),
    ("unique('p')", [OBJECT, dict(reversed(OBJECT.items()))], [OBJECT]),
    ("unique('p.$.x')", [[{"x": 1}, {"x": 2}, {}], [{"x": 1}]], [1, 2]),
    ("unique('p').count()", [10, 9, 10, None], 2),
]  # fmt: skip


@pytest.mark.parametrize(("reducer", "values", "expected"), CASES, ids=str)
def test_each_kind_reads_the_same_in_every_window_and_order(reducer: str, values: list[Any], expected: Any) -> None:
    traits = [{"key": f"w{at}", "definition": f"event('E'){window}.{reducer}"} for at, window in enumerate(WINDOWS)]
    space = {"space": "shop", "sources": [{"name": "web", "topic": "web"}], "traits": traits}
    driver = TopologyDriver(space, partitions=2)
    times = [f"2025-01-01T00:{minute:02d}:00.000Z" for minute in range(len(values))]
    for who, places in (("u1", range(len(values))), ("u2", reversed(range(len(values))))):
        for at in places:
            properties = {} if values[at] is ... else {"p": values[at]}
            event = {"type": "track", "event": "E", "userId": who, "timestamp": times[at], "properties": properties}
            driver.put(json.dumps(event).encode(), received_at="2025-01-01T01:00:00.000Z")
        profile = driver.profile(f"user_id:{who}")
        assert profile is not None
        read = [profile["traits"].get(trait["key"]) for trait in traits]
        assert [json.dumps(expected, sort_keys=True)] * len(traits) == [json.dumps(one, sort_keys=True) for one in read]
    driver.close()

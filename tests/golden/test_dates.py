"""Which texts are dates, to the millisecond and in every time zone: as values of traits and events, and as operands."""

from __future__ import annotations

from typing import Any

import pytest

from cdp_stream.errors import TopologyError
from cdp_stream.testing import TopologyDriver

NOW = "2025-01-10T00:00:00.000Z"
SPACE: dict[str, Any] = {"space": "shop", "sources": [{"name": "web", "topic": "web"}]}
TESTS = {
    "before": f"before_date('{NOW}')",
    "after": f"after_date('{NOW}')",
    "last_day": "within_last(1 days)",
    "next_day": "within_next(1 days)",
    "long_ago": "before_last(1 days)",
    "far_off": "after_next(1 days)",
}
AT_NOW = {"last_day", "next_day"}
JUST_BEFORE = {"before", "last_day"}
JUST_AFTER = {"after", "next_day"}

DATES = [
    ("2025-01-10T00:00:00Z", AT_NOW),
    ("2025-01-10T00:00Z", AT_NOW),
    ("2025-01-10T00:00:00.000Z", AT_NOW),
    ("2025-01-10T00:00:00.0009Z", AT_NOW),  # below a millisecond nothing counts
    ("2025-01-10T00:00:00.001Z", JUST_AFTER),
    ("2025-01-10T00:00:00.1Z", JUST_AFTER),
    ("2025-01-10T00:00:00.123456789Z", JUST_AFTER),
    ("2025-01-09T23:59:59.999Z", JUST_BEFORE),
    ("2025-01-10T01:00:00+01:00", AT_NOW),
    ("2025-01-10T01:00:00+0100", AT_NOW),
    ("2025-01-10T05:30:00.000+05:30", AT_NOW),
    ("2025-01-09T19:00:00-05:00", AT_NOW),
    ("2025-01-10T14:00:00+14:00", AT_NOW),
    ("2025-01-10T00:00:00-00:00", AT_NOW),
    ("2025-01-10T00:00:00+01:00", JUST_BEFORE),
    ("2025-01-09T00:00:00Z", {"before", "last_day", "long_ago"}),
    ("2025-01-08T23:59:59.999Z", {"before", "long_ago"}),
    ("2025-01-11T00:00:00Z", {"after", "next_day", "far_off"}),
    ("2025-01-11T00:00:00.001Z", {"after", "far_off"}),
    ("2024-02-29T12:00:00Z", {"before", "long_ago"}),
    ("1969-12-31T23:59:59Z", {"before", "long_ago"}),
    ("0001-01-01T00:00:00Z", {"before", "long_ago"}),
    ("9999-12-31T23:59:59.999Z", {"after", "far_off"}),
]
NO_DATES = [
    "2025-01-10",
    "2025-01-10T00:00:00",
    "2025-01-10 00:00:00Z",
    "20250110T000000Z",
    "2025-W02-5T00:00:00Z",
    "2025-01-10T00:00:00,000Z",
    "2025-02-29T00:00:00Z",
    "2025-13-01T00:00:00Z",
    "2025-01-09T24:00:00Z",
    "2025-01-10T00:00:60Z",
    " 2025-01-10T00:00:00Z",
    "2025-01-10T00:00:00Z ",
    "0001-01-01T00:00:00+01:00",
    "9999-12-31T23:59:59-01:00",
    "1736467200000",
    "today",
    "",
]
NO_TEXTS: list[Any] = [1736467200000, True, None, ["2025-01-10T00:00:00Z"], {"date": "2025-01-10T00:00:00Z"}]


def holding(value: Any, place: str) -> set[str]:
    """Which of the tests hold of the value, as a trait or as an event's property."""
    left = "trait('x').{}" if place == "trait" else "event('Due').where(property('x').{}).count() >= 1"
    audiences = [{"key": key, "definition": left.format(test)} for key, test in TESTS.items()]
    driver = TopologyDriver({**SPACE, "audiences": audiences}, partitions=1)
    call = {"type": "identify", "traits": {"x": value}}
    if place == "event":
        call = {"type": "track", "event": "Due", "properties": {"x": value}}
    driver.put({**call, "userId": "u1"}, received_at=NOW)
    profile = driver.profile("user_id:u1")
    assert profile is not None
    driver.close()
    return set(profile["audiences"])


@pytest.mark.parametrize("place", ["trait", "event"])
@pytest.mark.parametrize(("text", "expected"), DATES)
def test_a_full_timestamp_is_compared_to_the_millisecond(text: str, expected: set[str], place: str) -> None:
    assert expected == holding(text, place)


@pytest.mark.parametrize("place", ["trait", "event"])
@pytest.mark.parametrize("value", [*NO_DATES, *NO_TEXTS], ids=repr)
def test_anything_else_is_no_date_and_makes_every_test_false(value: Any, place: str) -> None:
    assert set() == holding(value, place)


@pytest.mark.parametrize("text", [text for text, _ in DATES])
def test_an_operand_means_what_the_same_text_means_as_a_value(text: str) -> None:
    audiences = [
        {"key": "before", "definition": f"trait('x').before_date('{text}')"},
        {"key": "after", "where": {"trait": "x", "after_date": text}},
    ]
    driver = TopologyDriver({**SPACE, "audiences": audiences}, partitions=1)
    driver.put({"type": "identify", "userId": "u1", "traits": {"x": NOW}}, received_at=NOW)
    profile = driver.profile("user_id:u1")
    assert profile is not None
    turned = {"before": "after", "after": "before"}
    expected = {turned[test] for test in holding(text, "trait") & turned.keys()}
    assert expected == set(profile["audiences"])
    driver.close()


@pytest.mark.parametrize("form", ["definition", "where"])
@pytest.mark.parametrize("text", [text for text in NO_DATES if text])
def test_an_operand_that_is_no_date_is_refused_with_its_place(text: str, form: str) -> None:
    told: Any = f"trait('x').before_date('{text}')" if form == "definition" else {"trait": "x", "before_date": text}
    with pytest.raises(TopologyError) as refused:
        TopologyDriver({**SPACE, "audiences": [{"key": "k", form: told}]}, partitions=1)
    assert f"{text!r} is not a full ISO-8601 timestamp" in str(refused.value)
    assert ("line 1, column 24" if form == "definition" else "where.before_date") in str(refused.value)

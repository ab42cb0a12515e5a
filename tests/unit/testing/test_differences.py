"""What a config test expects, held against what there is."""

from __future__ import annotations

from typing import Any

import pytest

from cdp_stream.config.cases import ExpectedAudienceChange, Records
from cdp_stream.testing.differences import Difference, Topic, fits, value_difference


def topic(*rows: tuple[str, str, str]) -> Topic:
    """Audience changes of (profile, audience, change)."""
    written = [{"profile_id": profile, "audience_key": key, "change": change} for profile, key, change in rows]
    return Topic(
        rows=written,
        subject=lambda row: row["profile_id"],
        profile=lambda name: name.removeprefix("user_id:"),
        shown=lambda row: {"profile": f"user_id:{row['profile_id']}", "change": row["change"]},
    )


def expected(*rows: dict[str, Any], **parts: list[dict[str, Any]]) -> Records[ExpectedAudienceChange]:
    return Records[ExpectedAudienceChange].model_validate({"all": rows} if rows or not parts else parts)


@pytest.mark.parametrize(
    ("wanted", "there", "fit"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": None}, {}, True),
        ({"a": None}, {"a": 0}, False),
        ({"a": {"b": 1}}, {"a": 1}, False),
        (600, 600.0, True),
        (0.3, 0.1 + 0.2, True),
        (0.3, 0.31, False),
        (1, True, False),
        (True, True, True),
        (1.0, "1.0", False),
        ([1, 2], [1, 2], True),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        ("a", "a", True),
    ],
)
def test_named_keys_count_and_numbers_by_value(wanted: Any, there: Any, fit: bool) -> None:
    assert fits(wanted, there) is fit


def test_a_wrong_value_is_shown_with_the_keys_that_were_named() -> None:
    found = value_difference("traits.home", {"city": "Oslo"}, {"city": "Rome", "street": "Via Appia"})
    assert [Difference("traits.home", (("-", '{"city":"Oslo"}'), ("+", '{"city":"Rome"}')))] == found


@pytest.mark.parametrize(
    ("rows", "wanted", "holds"),
    [
        # As they are; different profiles in any order; one profile's in its order only.
        ([("u1", "a", "entered"), ("u2", "a", "entered")], [{"profile": "u1"}, {"profile": "u2"}], True),
        ([("u1", "a", "entered"), ("u2", "a", "entered")], [{"profile": "u2"}, {"profile": "u1"}], True),
        ([("u1", "a", "entered"), ("u1", "a", "exited")], [{"change": "exited"}, {"change": "entered"}], False),
        ([("u1", "a", "entered"), ("u1", "a", "exited")], [{"change": "entered"}, {"change": "exited"}], True),
        # A vague expectation leaves the record that a later one needs.
        ([("u1", "a", "entered"), ("u2", "a", "entered")], [{"change": "entered"}, {"profile": "u1"}], True),
        # All of them means all of them.
        ([("u1", "a", "entered")], [], False),
        ([], [{"change": "entered"}], False),
        ([], [], True),
        ([("u1", "a", "entered"), ("u1", "b", "entered")], [{"audience_key": "a"}], False),
    ],
)
def test_a_list_is_all_records_each_profiles_in_order(
    rows: list[tuple[str, str, str]], wanted: list[dict[str, Any]], holds: bool
) -> None:
    named = [{**item, "profile": f"user_id:{item['profile']}"} if "profile" in item else item for item in wanted]
    assert holds == (topic(*rows).differences("changes", expected(*named)) == [])


@pytest.mark.parametrize(
    ("parts", "holds"),
    [
        ({"contains": [{"audience_key": "a"}, {"audience_key": "c"}]}, True),
        ({"contains": [{"audience_key": "c"}, {"audience_key": "a"}]}, False),
        ({"contains": [{"audience_key": "d"}]}, False),
        ({"lacks": [{"audience_key": "d"}]}, True),
        ({"lacks": [{"audience_key": "b", "change": "exited"}]}, True),
        ({"lacks": [{"audience_key": "b"}]}, False),
    ],
)
def test_a_part_of_the_records_may_be_looked_at(parts: dict[str, list[dict[str, Any]]], holds: bool) -> None:
    rows = topic(("u1", "a", "entered"), ("u1", "b", "entered"), ("u1", "c", "entered"))
    assert holds == (rows.differences("changes", expected(**parts)) == [])


def test_what_is_missing_stands_beside_what_is_most_like_it_and_the_rest_below() -> None:
    rows = topic(("u1", "a", "entered"), ("u1", "b", "exited"), ("u2", "c", "entered"))
    wanted = expected({"audience_key": "a"}, {"audience_key": "b", "change": "entered"})
    assert [
        Difference(
            "changes",
            (
                (" ", '{"audience_key":"a"}'),
                ("-", '{"audience_key":"b","change":"entered"}'),
                ("+", '{"audience_key":"b","change":"exited"}'),
                ("+", '{"profile":"user_id:u2","change":"entered"}'),
            ),
        )
    ] == rows.differences("changes", wanted)


def test_a_wrong_order_alone_is_said_to_be_that() -> None:
    rows = topic(("u1", "a", "exited"), ("u1", "a", "entered"))
    (found,) = rows.differences("changes", expected({"change": "entered"}, {"change": "exited"}))
    assert "changes (in this order)" == found.path
    assert ["-", "-", "+", "+"] == [mark for mark, _ in found.lines]


def test_a_record_that_should_not_be_there_is_shown() -> None:
    rows = topic(("u1", "a", "entered"))
    assert [
        Difference("changes.lacks[0]", (("+", '{"profile":"user_id:u1","change":"entered"}'),))
    ] == rows.differences("changes", expected(lacks=[{"audience_key": "a"}]))


def test_hundreds_of_vague_expectations_end() -> None:
    rows = topic(*[(f"u{number % 50}", "a", "entered") for number in range(300)])
    assert [] == rows.differences("changes", expected(*[{"change": "entered"}] * 300))

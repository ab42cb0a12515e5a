"""Conditions on properties, as tables: missing values, numbers, texts."""

from __future__ import annotations

from typing import Any

import pytest

from cdp_stream.language.aggregations import compile_arrival
from cdp_stream.language.nodes import Definition, Reduction
from cdp_stream.language.parse import parse_definition
from cdp_stream.model.change import ProfileEvent
from cdp_stream.model.ids import USERS, ProfileId


def holds(condition: str, properties: Any) -> bool:
    """Whether `where(condition)` lets an event with these properties through."""
    definition = parse_definition(f"event('X').where({condition}).count()", "here")
    assert isinstance(definition, Definition), definition
    assert isinstance(definition.body, Reduction)
    assert definition.body.where is not None
    event = ProfileEvent(
        index=0, record=0, now=0, profile_id=ProfileId("use_1"), collection=USERS, type="track", message_id="m", time=0,
        properties=properties,
    )  # fmt: skip
    return compile_arrival(definition.body.where, "X")(event)


@pytest.mark.parametrize("properties", [None, {}, {"p": None}, {"q": 1}])
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("property('p') = 1", False),
        ("property('p') != 1", False),
        ("property('p') < 1", False),
        ("property('p') <= 1", False),
        ("property('p') > 1", False),
        ("property('p') >= 1", False),
        ("1 = property('p')", False),
        ("1 != property('p')", False),
        ("property('p').contains('')", False),
        ("property('p').exists()", False),
        ("property('p')", False),
        ("property('p.q') = 1", False),
        ("NOT property('p') = 1", True),
        ("NOT property('p').contains('x')", True),
        ("NOT property('p').exists()", True),
    ],
)
def test_a_missing_value_makes_every_comparison_false(condition: str, expected: bool, properties: Any) -> None:
    assert expected == holds(condition, properties)


@pytest.mark.parametrize(
    ("value", "condition", "expected"),
    [
        # numbers and texts that read as numbers meet as numbers
        (10, "property('p') > 9", True),
        ("10", "property('p') > 9", True),
        ("10", "property('p') > '9'", True),
        (10, "property('p') > '9'", True),
        ("5.0", "property('p') = 5", True),
        (5, "property('p') = '5.0'", True),
        (5.0, "property('p') = 5", True),
        ("0.1", "property('p') = 0.1", True),
        ("-1e2", "property('p') = -100", True),
        (2**53 + 1, "property('p') = 9007199254740992", False),
        # two texts are equal only if they are the same text
        ("007", "property('p') = '7'", False),
        ("007", "property('p') = 7", True),
        ("Gold", "property('p') = 'gold'", False),
        ("gold", "property('p') = 'gold'", True),
        ("", "property('p') = ''", True),
        ("", "property('p').exists()", True),
        # everything else meets as text
        ("abc", "property('p') < 'abd'", True),
        ("abc", "property('p') > 5", True),
        ("1e999", "property('p') = 1", False),
        (" 5", "property('p') = 5", False),
        ("9" * 65, "property('p') > 1", True),
        ("1" * 65, "property('p') > 2", False),
        (True, "property('p') = true", True),
        (True, "property('p') = 'true'", True),
        (True, "property('p') = 1", False),
        (True, "property('p') != 1", True),
        (True, "property('p')", True),
        ("true", "property('p')", False),
        (1, "property('p')", False),
        # signs at the border
        (5, "property('p') <= 5", True),
        (5, "property('p') >= 5", True),
        (5, "property('p') < 5", False),
        (5, "property('p') > 5", False),
        (5, "property('p') != 5", False),
        (6, "property('p') != 5", True),
        # contains
        ("running shoes", "property('p').contains('shoes')", True),
        ("running shoes", "property('p').contains('hats', 'run')", True),
        ("running shoes", "property('p').contains('Shoes')", False),
        (1250, "property('p').contains('25')", True),
        (12.0, "property('p').contains('.')", False),
        (["shoes", "hats"], "property('p').contains('hats')", True),
        # objects and arrays: nested keys, and compact JSON as their text
        ({"url": "/a"}, "property('p.url') = '/a'", True),
        ({"b": 1, "a": 2}, """property('p') = '{"a":2,"b":1}'""", True),
        ("/a", "property('p.url').exists()", False),
        ([{"url": "/a"}], "property('p.url').exists()", False),
    ],
)  # fmt: skip
def test_values_compare_as_numbers_where_both_are_numbers(value: Any, condition: str, expected: bool) -> None:
    assert expected == holds(condition, {"p": value})


def test_conditions_combine() -> None:
    condition = "property('a') = 1 AND (property('b') = 2 OR NOT property('c') = 3)"
    assert [True, True, False, False] == [
        holds(condition, {"a": 1, "b": 2, "c": 3}),
        holds(condition, {"a": 1, "b": 0, "c": 0}),
        holds(condition, {"a": 1, "b": 0, "c": 3}),
        holds(condition, {"a": 0, "b": 2, "c": 0}),
    ]


def test_a_property_can_be_compared_with_another_one() -> None:
    assert holds("property('paid') < property('total')", {"paid": 3, "total": 5})
    assert not holds("property('paid') < property('total')", {"paid": 3})


def test_a_dot_in_a_key_is_escaped() -> None:
    assert holds(r"property('a\.b') = 1", {"a.b": 1, "a": {"b": 2}})
    assert holds("property('a.b') = 2", {"a.b": 1, "a": {"b": 2}})

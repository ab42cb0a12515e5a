"""Every operator with every sort of value, present and missing: of traits, of events, and of events kept to be tested anew."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest

from cdp_stream.testing import TopologyDriver

VALUES: list[Any] = [
    None, "", "a", "A", "gold", "rose gold", "5", "5.0", "05", " 5", "1e1", "-5", ".5", "5.", "NaN", "Infinity", "0x5",
    "5_0", "５", 5, 5.0, -5, 0, 0.1, 10, 1e300, 123456789012345678, "123456789012345678", "0.1", "0.10", True, False,
    "true", "null", "é", ["gold", "b"], [5, "x"], [], {}, {"a": {"b": "gold"}}, "2025-01-01T00:00:00Z",
]  # fmt: skip
OPERANDS = [
    "'a'", "'gold'", "''", "'5'", "'5.0'", "'0.10'", "'true'", "'NaN'", "5", "5.0", "-5", "0", "0.1", "10", "1e1",
    "123456789012345678", "true", "false",
]  # fmt: skip
WORDS = {"=": "equals", "!=": "differs", "<": "less_than", "<=": "at_most", ">": "greater_than", ">=": "at_least"}
TEXT_TESTS = ("contains", "omits", "starts_with", "ends_with")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)


def number(value: Any) -> Decimal | None:
    """Numbers, and texts that read as one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return Decimal(repr(value))
    return Decimal(value) if isinstance(value, str) and NUMBER.fullmatch(value) else None


def text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e16:
        return str(int(value))
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def compared(left: Any, operator: str, right: Any) -> bool:
    """No value: false. Two texts are equal if they are the same; else numbers meet as numbers, and all else as text."""
    if left is None:
        return False
    if isinstance(left, str) and isinstance(right, str) and operator in {"=", "!="}:
        return (left == right) is (operator == "=")
    one, other = number(left), number(right)
    low, high = (text(left), text(right)) if one is None or other is None else (one, other)
    return {
        "=": low == high, "!=": low != high, "<": low < high, "<=": low <= high, ">": low > high, ">=": low >= high,
    }[operator]  # fmt: skip


def holds(value: Any, operator: str, operand: Any) -> bool:
    """The public table of conditions, read once more."""
    match operator:
        case "contains":
            return value is not None and operand in text(value)
        case "omits":
            return not holds(value, "contains", operand)
        case "starts_with":
            return value is not None and text(value).startswith(operand)
        case "ends_with":
            return value is not None and text(value).endswith(operand)
        case "one_of":
            return any(compared(one, "=", operand) for one in (value if isinstance(value, list) else [value]))
        case "none_of":
            return not holds(value, "one_of", operand)
    return compared(value, operator, operand)


def rules() -> dict[str, tuple[str, str]]:
    """Condition to its operator and operand, as texts; `{}` stands for the value."""
    found = {}
    for operand in OPERANDS:
        for operator, word in WORDS.items():
            found["{} " + f"{operator} {operand}"] = (operator, operand)
            found["{}" + f".{word}({operand})"] = (operator, operand)
        for operator in (*(TEXT_TESTS if operand[0] == "'" else ()), "one_of", "none_of"):
            found["{}" + f".{operator}({operand})"] = (operator, operand)
    return found


PLACES = {
    "trait": "{}",
    "event": "event('E').where({}).count() >= 1",
    "kept event": "event('E').where({} AND trait('never').absent()).count() >= 1",
}


@pytest.mark.parametrize("place", PLACES)
def test_every_operator_says_what_the_table_says(place: str) -> None:
    value_of = "trait('x')" if place == "trait" else "property('x')"
    conditions = rules()
    audiences = [
        {"key": f"k{at}", "definition": PLACES[place].format(condition.format(value_of))}
        for at, condition in enumerate(conditions)
    ]
    space = {"space": "shop", "sources": [{"name": "web", "topic": "web"}], "audiences": audiences}
    driver = TopologyDriver(space, partitions=1)
    wrong = []
    for at, value in enumerate([..., *VALUES]):  # at first no value at all
        about = {} if value is ... else {"x": value}
        call = (
            {"type": "identify", "traits": about}
            if place == "trait"
            else {"type": "track", "event": "E", "properties": about}
        )
        driver.put({**call, "userId": f"u{at}"}, received_at="2025-01-01T00:00:00Z")
        profile = driver.profile(f"user_id:u{at}")
        assert profile is not None
        members = set(profile["audiences"])
        for number_of_rule, (condition, (operator, operand)) in enumerate(conditions.items()):
            meant = operand[1:-1] if operand[0] == "'" else json.loads(operand)
            expected = holds(None if value is ... else value, operator, meant)
            if expected is not (f"k{number_of_rule}" in members):
                wrong.append((value, condition, expected))
    assert [] == wrong
    driver.close()

"""Definitions, step 4 of 4: a checked definition as a function of whatever holds its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, assert_never

from cdp_stream.language.nodes import (
    And,
    Comparison,
    Condition,
    Contains,
    Exists,
    Holds,
    Literal,
    Not,
    Or,
    PropertyRef,
    Scalar,
)
from cdp_stream.language.values import COMPARE, lookup, text_of

World = TypeVar("World")
"""What values are read from: the properties of an event, or what is known of a profile."""

Read = Callable[[World], Any]
Test = Callable[[World], bool]


def compile_condition(condition: Condition, scalar: Callable[[Scalar], Read[World]]) -> Test[World]:
    """A test of the world. `scalar` turns a value's node into its reader; a reader answers None for no value.

    No value: every comparison is false, `!=` too, and NOT of it is true.
    """
    match condition:
        case Comparison():
            return _comparison(condition, scalar)
        case Contains(left) | Exists(left) | Holds(left):
            return _test_of_one(condition, scalar(left))
        case Not(operand):
            inner = compile_condition(operand, scalar)
            return lambda world: not inner(world)
        case And(operands) | Or(operands):
            tests = tuple(compile_condition(operand, scalar) for operand in operands)
            if isinstance(condition, And):
                return lambda world: all(test(world) for test in tests)
            return lambda world: any(test(world) for test in tests)
        case _:
            assert_never(condition)


def compile_where(condition: Condition) -> Test[Any]:
    """A test of an event's properties (a dict, or None for none)."""
    return compile_condition(condition, _of_properties)


def _of_properties(scalar: Scalar) -> Read[Any]:
    match scalar:
        case Literal(value):
            return lambda _properties: value
        case PropertyRef((key,)):
            return lambda properties: None if properties is None else properties.get(key)
        case PropertyRef(path):
            return lambda properties: lookup(properties, path)
        case _:
            raise AssertionError(scalar)  # the parser lets nothing else into where()


def _comparison(comparison: Comparison, scalar: Callable[[Scalar], Read[World]]) -> Test[World]:
    left, right, compare = scalar(comparison.left), scalar(comparison.right), COMPARE[comparison.operator]

    def test(world: World) -> bool:
        one = left(world)
        if one is None:
            return False
        other = right(world)
        return other is not None and compare(one, other)

    return test


def _test_of_one(condition: Contains | Exists | Holds, read: Read[World]) -> Test[World]:
    match condition:
        case Contains(_, texts):

            def contains(world: World) -> bool:
                value = read(world)
                if value is None:
                    return False
                whole = text_of(value)
                return any(text in whole for text in texts)

            return contains
        case Exists():
            return lambda world: read(world) is not None
        case Holds():
            return lambda world: read(world) is True
        case _:
            assert_never(condition)

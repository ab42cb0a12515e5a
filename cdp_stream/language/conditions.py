"""Definitions, step 4 of 4: a checked condition as a function of whatever holds its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, assert_never

from cdp_stream.language.nodes import (
    And,
    Comparison,
    Condition,
    DateTest,
    Exists,
    Holds,
    Literal,
    Membership,
    Not,
    Or,
    Scalar,
    SpanTest,
    TextOperator,
    TextTest,
)
from cdp_stream.language.nodes import Test as SingleTest
from cdp_stream.language.values import COMPARE, Many, date_of, equal, text_of
from cdp_stream.model.time import Duration, Instant

World = TypeVar("World")
"""What values are read from: an event, one occurrence of it among a profile's others, or all that is known of a profile."""

Read = Callable[[World], Any]
Test = Callable[[World], bool]


class Timepiece(Protocol):
    """Knows the time, and takes down when something is going to change by time alone."""

    @property
    def now(self) -> Instant:
        """The time to test dates against."""

    def lower(self, instant: Instant) -> None:
        """A result may be another one from this instant on."""


ReadTime = Callable[[World], Timepiece]

_TEXT_TESTS: Final[dict[TextOperator, Callable[[str, str], bool]]] = {
    "contains": lambda whole, part: part in whole,
    "omits": lambda whole, part: part in whole,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
}


def compile_condition(
    condition: Condition, scalar: Callable[[Scalar], Read[World]], time: ReadTime[World] | None = None
) -> Test[World]:
    """A test of the world. `scalar` turns a value's node into its reader; a reader answers None for no value.

    No value: every comparison is false, `!=` too; `omits`, `none_of` and `absent` are true, and so is NOT of a test
    that is false. A reader that answers `Many` has the test made of each; one that holds is enough. `time` reads the
    world's timepiece; a condition that compares dates with now cannot do without.
    """
    match condition:
        case Not(operand):
            inner = compile_condition(operand, scalar, time)
            return lambda world: not inner(world)
        case And(operands) | Or(operands):
            tests = tuple(compile_condition(operand, scalar, time) for operand in operands)
            if isinstance(condition, And):
                return lambda world: all(test(world) for test in tests)
            return lambda world: any(test(world) for test in tests)
        case _:
            return _compile_test(condition, scalar, time)


def _compile_test(
    test: SingleTest, scalar: Callable[[Scalar], Read[World]], time: ReadTime[World] | None
) -> Test[World]:
    match test:
        case Comparison():
            return _comparison(test, scalar)
        case TextTest():
            return _text_test(test, scalar)
        case Membership():
            return _membership(test, scalar)
        case SpanTest(left, _, _):
            assert time is not None, test
            return _span_test(test, scalar(left), time)
        case DateTest(left) | Exists(left) | Holds(left):
            return _of_each(scalar(left), _single(test))
        case _:
            assert_never(test)


def _of_each(read: Read[World], test: Callable[[Any], bool]) -> Test[World]:
    def of_each(world: World) -> bool:
        value = read(world)
        if type(value) is Many:
            return any(test(one) for one in value) if value else test(None)
        return test(value)

    return of_each


def _single(condition: DateTest | Exists | Holds) -> Callable[[Any], bool]:
    """A test that needs nothing but the value."""
    match condition:
        case Exists(_, negated):
            return lambda value: (value is None) == negated
        case Holds():
            return lambda value: value is True
        case DateTest(_, operator, instant):

            def date_test(value: Any) -> bool:
                date = date_of(value)
                return date is not None and (date < instant if operator == "before_date" else date > instant)

            return date_test
        case _:
            assert_never(condition)


def _comparison(comparison: Comparison, scalar: Callable[[Scalar], Read[World]]) -> Test[World]:
    left, right, compare = scalar(comparison.left), scalar(comparison.right), COMPARE[comparison.operator]

    def test(world: World) -> bool:
        one = left(world)
        if one is None:
            return False
        other = right(world)
        if type(one) is Many or type(other) is Many:
            return any(compare(a, b) for a in _each(one) for b in _each(other))
        return other is not None and compare(one, other)

    return test


def _each(value: Any) -> tuple[Any, ...]:
    if type(value) is Many:
        return value
    return () if value is None else (value,)


def _text_test(condition: TextTest, scalar: Callable[[Scalar], Read[World]]) -> Test[World]:
    read, holds = scalar(condition.left), _TEXT_TESTS[condition.operator]
    omits = condition.operator == "omits"
    constants = _constants(condition.options)
    if constants is not None:
        texts = tuple(text_of(constant) for constant in constants)

        def plain(value: Any) -> bool:
            if value is None:
                return omits
            whole = text_of(value)
            return any(holds(whole, text) for text in texts) != omits

        return _of_each(read, plain)
    options = tuple(scalar(option) for option in condition.options)

    def test(world: World) -> bool:
        parts = [text_of(part) for option in options for part in _each(option(world))]
        values = _each(read(world)) or (None,)
        return any(
            (value is not None and any(holds(text_of(value), part) for part in parts)) != omits for value in values
        )

    return test


def _membership(condition: Membership, scalar: Callable[[Scalar], Read[World]]) -> Test[World]:
    read, negated = scalar(condition.left), condition.negated
    options = tuple(scalar(option) for option in condition.options)

    def test(world: World) -> bool:
        allowed = [one for option in options for one in _each(option(world))]
        values = _each(read(world)) or (None,)
        return any((value is not None and _is_one_of(value, allowed)) != negated for value in values)

    return test


def _is_one_of(value: Any, allowed: list[Any]) -> bool:
    # An array is one of them when one of its elements is: without that the test would say nothing of arrays.
    alternatives = [value, *value] if type(value) is list else [value]
    return any(equal(one, option) for one in alternatives if one is not None for option in allowed)


def _constants(options: tuple[Scalar, ...]) -> list[Any] | None:
    constants = [option.value for option in options if isinstance(option, Literal)]
    return constants if len(constants) == len(options) else None


def _span_test(condition: SpanTest, read: Read[World], time: ReadTime[World]) -> Test[World]:
    """A date compared with now; takes down when the answer changes."""
    holds = _SPANS[condition.operator]
    span = condition.span

    def test(world: World) -> bool:
        found = False
        piece = time(world)
        for value in _each(read(world)):
            date = date_of(value)
            if date is not None:
                answer, changes = holds(date, piece.now, span)
                found = found or answer
                if changes is not None:
                    piece.lower(changes)
        return found

    return test


Answer = tuple[bool, Instant | None]
"""Whether it holds now, and when it will be otherwise, if ever."""


def _within_last(date: Instant, now: Instant, span: Duration) -> Answer:
    if date > now:
        return False, date
    return (True, date + span + 1) if date + span >= now else (False, None)


def _within_next(date: Instant, now: Instant, span: Duration) -> Answer:
    if date < now:
        return False, None
    return (True, date + 1) if date - span <= now else (False, date - span)


def _before_last(date: Instant, now: Instant, span: Duration) -> Answer:
    return (True, None) if date + span <= now else (False, date + span)


def _after_next(date: Instant, now: Instant, span: Duration) -> Answer:
    return (True, date - span + 1) if date - span >= now else (False, None)


_SPANS: Final = {
    "within_last": _within_last,
    "within_next": _within_next,
    "before_last": _before_last,
    "after_next": _after_next,
}

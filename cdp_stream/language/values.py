"""How values of events and traits compare: missing, number, text. Used by every condition."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from math import isfinite
from typing import Any, Final

import orjson

from cdp_stream.language.nodes import KeyPath, Operator
from cdp_stream.model.time import INSTANT_MAX, Instant, parse_instant

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**64 - 1
"""Whole numbers outside of 64 bits, signed or not, are kept as floats: JSON and MessagePack have no room for them."""

INSTANT_MIN: Final = -62_135_596_800_000
"""The beginning of the year 1."""

NUMBER_TEXT_MAX: Final = 64
"""Characters; longer text is never read as a number."""

ELEMENT: Final = "$"
"""In a key path: each element of the array that stands there."""

_DATE_TEXT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})\Z"
)
_NUMBER_TEXT: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\Z")


def lookup(value: Any, path: KeyPath) -> Any:
    """What stands at `path` inside nested objects, or None. Arrays are not entered."""
    for key in path:
        if type(value) is not dict:
            return None
        value = value.get(key)
    return value


class Many(tuple[Any, ...]):
    """The values that a path with `$` leads to: a test of it is a test of each."""

    __slots__ = ()


def lookup_each(value: Any, path: KeyPath) -> Many:
    """What stands at `path`, with each element of an array where the path says `$`. Missing values are left out."""
    found = [value]
    for key in path:
        if key == ELEMENT:
            found = [element for array in found if type(array) is list for element in array]
        else:
            found = [inside.get(key) for inside in found if type(inside) is dict]
    return Many(one for one in found if one is not None)


@lru_cache(maxsize=16_384)
def _date_of_text(text: str) -> Instant | None:
    if _DATE_TEXT.match(text) is None:
        return None
    try:
        instant = parse_instant(text)
    except ValueError:
        return None
    # An offset can lead out of the years that ISO-8601 writes with four digits.
    return instant if INSTANT_MIN <= instant <= INSTANT_MAX else None


def date_of(value: Any) -> Instant | None:
    """A full ISO-8601 timestamp with its offset as an instant; None for everything else.

    Dates without time or offset are not dates here ("engage/audiences").
    """
    return _date_of_text(value) if type(value) is str and len(value) <= NUMBER_TEXT_MAX else None


def measure(value: Any) -> int | float | None:
    """A JSON number in canonical form, integers wherever they fit in 64 bits; None for everything else.

    Booleans and numeric text are not numbers here: aggregations skip them.
    """
    kind = type(value)
    if kind is int:
        if INTEGER_MIN <= value <= INTEGER_MAX:
            return int(value)
        try:
            return float(value)
        except OverflowError:
            return None
    if kind is float:
        if value.is_integer() and INTEGER_MIN <= value <= INTEGER_MAX:
            return int(value)
        return float(value) if isfinite(value) else None
    return None


def canonical(value: Any) -> bytes:
    """One text per JSON value, whatever the order of its keys; tells 1 from true and from 1.0."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def same(left: Any, right: Any) -> bool:
    """Whether two JSON values are the same one; unlike `==`, 1 is not true."""
    if type(left) is not type(right):
        return False
    if type(left) is list or type(left) is dict:
        return canonical(left) == canonical(right)
    return bool(left == right)


def text_of(value: Any) -> str:
    """The value as text: numbers in canonical form, arrays and objects as compact JSON with sorted keys."""
    if type(value) is str:
        return value
    number = measure(value)
    return orjson.dumps(value if number is None else number, option=orjson.OPT_SORT_KEYS).decode()


def number_of(value: Any) -> int | float | None:
    """A number, or text that reads as one."""
    kind = type(value)
    if kind is int or kind is float:
        number: int | float = value
        return number
    if kind is not str or len(value) > NUMBER_TEXT_MAX or _NUMBER_TEXT.match(value) is None:
        return None
    if value.lstrip("+-").isdecimal():
        return int(value)
    number = float(value)
    return number if isfinite(number) else None


def equal(left: Any, right: Any) -> bool:
    """The `=` of the language."""
    # Two texts are equal when they are the same text: '007' is not '7'. A text and a number meet as numbers.
    if type(left) is not str or type(right) is not str:
        one, other = number_of(left), number_of(right)
        if one is not None and other is not None:
            return one == other
    return text_of(left) == text_of(right)


def _less(left: Any, right: Any) -> bool:
    one, other = number_of(left), number_of(right)
    if one is not None and other is not None:
        return one < other
    return text_of(left) < text_of(right)


def _differs(left: Any, right: Any) -> bool:
    return not equal(left, right)


def _less_or_equal(left: Any, right: Any) -> bool:
    return not _less(right, left)


def _greater(left: Any, right: Any) -> bool:
    return _less(right, left)


def _greater_or_equal(left: Any, right: Any) -> bool:
    return not _less(left, right)


COMPARE: Final[dict[Operator, Callable[[Any, Any], bool]]] = {
    "=": equal,
    "!=": _differs,
    "<": _less,
    "<=": _less_or_equal,
    ">": _greater,
    ">=": _greater_or_equal,
}
"""Operator to test. Both values are present: a missing one makes every comparison false before it comes here."""

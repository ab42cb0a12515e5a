"""Trait kinds `sum` and `avg`: exact decimal totals, so that neither order nor grouping can change a digit."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final

from cdp_stream.language.values import INTEGER_MAX, INTEGER_MIN, measure
from cdp_stream.model.time import Instant
from cdp_stream.traits.algebra import Happening

Total = list[Any]
"""`[digits, scale]`: digits / 10 ** scale, without needless zeros after the point. Digits beyond 2**53 are a text,
since not every JSON reader can hold them as a number."""

_PLAIN_MAX: Final = 2**53


class Sum:
    """Adds up numbers; anything else is skipped. 0.1 and 0.2 make 0.3."""

    def zero(self) -> Total | None:
        """No numbers."""
        return None

    def add(self, state: Total | None, value: Any, _time: Instant, _message_id: str) -> Total | None:
        """One more number."""
        number = measure(value)
        return state if number is None else _plus(state, _total(number))

    def of(self, events: Iterable[Happening]) -> Total | None:
        """All numbers added up."""
        return _sum_of(events)[0]

    def merge(self, state: Total | None, other: Total | None) -> Total | None:
        """Both together."""
        return _plus(state, other)

    def read(self, state: Total | None) -> int | float | None:
        """The nearest number; an integer where the sum is one."""
        return None if state is None else _quotient(state, 1)


class Average:
    """The mean of numbers; anything else is skipped. Its state is a total and a count."""

    def zero(self) -> list[Any] | None:
        """No numbers."""
        return None

    def add(self, state: list[Any] | None, value: Any, _time: Instant, _message_id: str) -> list[Any] | None:
        """One more number."""
        number = measure(value)
        return state if number is None else self.merge(state, [*_total(number), 1])

    def of(self, events: Iterable[Happening]) -> list[Any] | None:
        """All numbers added up and counted."""
        total, count = _sum_of(events)
        return None if total is None else [*total, count]

    def merge(self, state: list[Any] | None, other: list[Any] | None) -> list[Any] | None:
        """Both together."""
        if state is None or other is None:
            return other if state is None else state
        total = _plus(state[:2], other[:2])
        assert total is not None
        return [*total, state[2] + other[2]]

    def read(self, state: list[Any] | None) -> int | float | None:
        """The nearest number; an integer where the mean is one."""
        return None if state is None else _quotient(state[:2], state[2])


def _sum_of(events: Iterable[Happening]) -> tuple[Total | None, int]:
    """The numbers' total, and how many they are. Whole numbers, which most are, need no decimals."""
    whole, count, rest = 0, 0, None
    for value, _, _ in events:
        number = value if type(value) is int and INTEGER_MIN <= value <= INTEGER_MAX else measure(value)
        if number is None:
            continue
        count += 1
        if type(number) is int:
            whole += number
        else:
            rest = _plus(rest, _total(number))
    return (_plus(rest, _canonical(whole, 0)), count) if count else (None, 0)


def _total(number: float) -> Total:
    """The shortest decimal text of the number, exactly."""
    if isinstance(number, int):
        return [number if -_PLAIN_MAX < number < _PLAIN_MAX else str(number), 0]
    mantissa, _, exponent = repr(number).partition("e")
    whole, _, fraction = mantissa.partition(".")
    return _canonical(int(whole + fraction), len(fraction) - int(exponent or 0))


def _plus(state: Total | None, other: Total | None) -> Total | None:
    if state is None or other is None:
        return other if state is None else state
    digits, scale = int(state[0]), state[1]
    more, more_scale = int(other[0]), other[1]
    if scale < more_scale:
        digits *= 10 ** (more_scale - scale)
    elif more_scale < scale:
        more *= 10 ** (scale - more_scale)
    return _canonical(digits + more, max(scale, more_scale))


def _canonical(digits: int, scale: int) -> Total:
    if scale < 0:
        digits, scale = digits * 10**-scale, 0
    while scale > 0 and digits % 10 == 0:
        digits, scale = digits // 10, scale - 1
    return [digits if -_PLAIN_MAX < digits < _PLAIN_MAX else str(digits), scale]


def _quotient(total: Total, count: int) -> int | float:
    """Total by count, correctly rounded once; beyond what a float can hold, the largest one."""
    numerator = int(total[0])
    denominator: int = 10 ** total[1] * count
    whole, rest = divmod(numerator, denominator)
    if rest == 0 and INTEGER_MIN <= whole <= INTEGER_MAX:
        return whole
    try:
        return numerator / denominator
    except OverflowError:
        return sys.float_info.max if numerator > 0 else -sys.float_info.max

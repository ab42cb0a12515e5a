"""How many candidates are more, or less, than a trait of the profile, without looking at each of them.

Such a trait may change with every event, and with it the answer about any candidate: an order above the profile's own
mean. So the values of the candidates are kept in order, from one evaluation of a profile to the next; a window slides over
them. What is kept is no part of the state, holds for the very rows that it was made of, and changes no result.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from typing import Any, Final

from cdp_stream.language.conditions import Read
from cdp_stream.language.kept import Kept
from cdp_stream.language.nodes import Comparison, Condition, Operator, PropertyRef, TraitRef
from cdp_stream.language.numbered import Numbered, Row
from cdp_stream.language.scope import Scope
from cdp_stream.language.values import COMPARE, ELEMENT, number_of, text_of

KEPT_FROM: Final = 64
"""Fewer candidates are looked at one and all."""
_TURNED: Final[dict[Operator, Operator]] = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def ranked(condition: Condition | None) -> tuple[PropertyRef, Operator, TraitRef] | None:
    """A condition that does nothing but rank a property by a trait; None for any other."""
    match condition:
        case Comparison(PropertyRef() as own, operator, TraitRef() as trait) if operator in _TURNED:
            pass
        case Comparison(TraitRef() as trait, operator, PropertyRef() as own) if operator in _TURNED:
            operator = _TURNED[operator]
        case _:
            return None
    return None if own.parent or ELEMENT in (*own.path, *trait.path) else (own, operator, trait)


class Ranks:
    """Of one reduction: the values of candidates in order, for the profiles that were asked for last."""

    def __init__(self, place: int, operator: Operator, trait: Read[Scope]) -> None:
        """`place`: of the value in a row."""
        self._place = place
        self._operator = operator
        self._trait = trait
        self._kept = Kept[_Values]()

    def count(self, scope: Scope, rows: list[Row], start: int, end: int) -> int:
        """How many of the rows from `start` to `end` pass."""
        bound = self._trait(scope)
        if bound is None:
            return 0
        if len(rows) < KEPT_FROM or not scope.profile_id:
            compare, place = COMPARE[self._operator], self._place
            return sum(1 for row in rows[start:end] if row[place] is not None and compare(row[place], bound))
        values = self._kept.take(scope.profile_id)
        if values is None or not values.follow(rows, start, end):
            values = _Values(self._place)
            values.follow(rows, start, end)
        self._kept.keep(scope.profile_id, values)
        return values.count(self._operator, bound)


class _Values:
    """Of one profile: those of the rows in the window."""

    __slots__ = ("_first", "_inside", "_numbers", "_own", "_place", "_texts", "_words")

    def __init__(self, place: int) -> None:
        self._place = place
        self._own = Numbered()
        self._first = 0
        """The number of the window's first row."""
        self._inside: deque[Any] = deque()
        """In the order of the rows."""
        self._numbers: list[float] = []
        """Of what is a number, or reads as one."""
        self._texts: list[str] = []
        """The same as texts: they meet a bound that is no number."""
        self._words: list[str] = []
        """Of everything else, as texts."""

    def follow(self, rows: list[Row], start: int, end: int) -> bool:
        """Take in what has come to the window and left it; False if it is more than that."""
        own = self._own
        if not own.follow(rows):
            return False
        first, last = own.first + start, own.first + end
        known = self._first + len(self._inside)
        if first < self._first or last < known:
            return False
        for _ in range(min(first, known) - self._first):
            self._take(self._inside.popleft())
        for number in range(max(first, known), last):
            value = rows[number - own.first][self._place]
            self._inside.append(value)
            self._put(value)
        self._first = first
        return True

    def _put(self, value: Any) -> None:
        number = number_of(value)
        if number is not None:
            insort(self._numbers, number)
            insort(self._texts, text_of(value))
        elif value is not None:
            insort(self._words, text_of(value))

    def _take(self, value: Any) -> None:
        number = number_of(value)
        if number is not None:
            del self._numbers[bisect_left(self._numbers, number)]
            del self._texts[bisect_left(self._texts, text_of(value))]
        elif value is not None:
            del self._words[bisect_left(self._words, text_of(value))]

    def count(self, operator: Operator, bound: Any) -> int:
        """How many of them are more, or less, than the bound."""
        number, text = number_of(bound), text_of(bound)
        inside = _beyond(self._words, operator, text)
        return inside + (
            _beyond(self._texts, operator, text) if number is None else _beyond(self._numbers, operator, number)
        )


def _beyond(values: list[Any], operator: Operator, bound: Any) -> int:
    below = bisect_right(values, bound) if operator in (">", "<=") else bisect_left(values, bound)
    return below if operator in ("<", "<=") else len(values) - below

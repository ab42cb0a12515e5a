"""The state of a window's events, put together from states of blocks of them that earlier evaluations have made.

A block is 32, 64, 128 … rows that begin at a multiple of their number, so most of a long window are few blocks, and a new
event asks for the few that it stands in. States merge to the same state in any grouping (`traits/algebra.py`); what is
kept here is no part of a profile's state, and changes no result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any, Final

from cdp_stream.language.kept import Kept
from cdp_stream.language.numbered import Numbered, Row
from cdp_stream.language.scope import Kind, Scope

_LEAF: Final = 32
KEPT_FROM: Final = 4 * _LEAF
"""Fewer rows are gone through one by one."""
_SLACK: Final = 64
Values = Callable[[Sequence[Row]], Iterator[tuple[Any, int, str]]]
"""What a kind folds: value, time and message id, of each value of each row."""


class Blocks:
    """Of one reduction: states of blocks, for the profiles that were asked for last."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._kept = Kept[_Tree]()

    def state(self, kind: Kind, scope: Scope, rows: list[Row], places: tuple[int, int]) -> Any:
        """The state of the rows between these places."""
        start, end = places
        if end - start < KEPT_FROM or not scope.profile_id:
            return kind.of(self._values(rows[start:end]))
        tree = self._kept.take(scope.profile_id)
        if tree is None or not tree.rows.follow(rows):
            tree = _Tree()
            tree.rows.follow(rows)
        self._kept.keep(scope.profile_id, tree)
        return tree.state(kind, self._values, tree.rows.first + start, tree.rows.first + end)


class _Tree:
    """Of one profile."""

    __slots__ = ("_states", "rows")

    def __init__(self) -> None:
        self.rows = Numbered()
        self._states: dict[tuple[int, int], Any] = {}
        """By level and place: that of (0, 3) is made of the rows 96 to 127, (1, 1) of 64 to 127."""

    def state(self, kind: Kind, values: Values, start: int, end: int) -> Any:
        """Of the rows with these numbers."""
        first, last = -(-start // _LEAF), end // _LEAF
        parts = [
            kind.of(values(self._between(start, first * _LEAF))),
            kind.of(values(self._between(last * _LEAF, end))),
        ]
        level = 0
        while first < last:
            if first % 2:
                parts.append(self._block(kind, values, level, first))
                first += 1
            if last % 2:
                last -= 1
                parts.append(self._block(kind, values, level, last))
            first, last, level = first // 2, last // 2, level + 1
        self._let_go()
        return reduce(kind.merge, parts)

    def _between(self, start: int, end: int) -> list[Row]:
        return self.rows.rows[start - self.rows.first : end - self.rows.first]

    def _block(self, kind: Kind, values: Values, level: int, place: int) -> Any:
        state = self._states.get((level, place))
        if state is None:
            if level:
                halves = (self._block(kind, values, level - 1, 2 * place + half) for half in (0, 1))
                state = reduce(kind.merge, halves)
            else:
                state = kind.of(values(self._between(place * _LEAF, (place + 1) * _LEAF)))
            self._states[level, place] = state
        return state

    def _let_go(self) -> None:
        """Blocks of rows that are gone, once they are many."""
        if len(self._states) > _SLACK + 3 * len(self.rows.rows) // _LEAF:
            first = self.rows.first
            self._states = {
                (level, place): state
                for (level, place), state in self._states.items()
                if place * (_LEAF << level) >= first
            }

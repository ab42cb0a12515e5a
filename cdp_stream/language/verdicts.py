"""Which candidates pass a condition that is tested later, kept from one evaluation of a profile to the next.

A funnel asks of every candidate what came after it. Most answers stand for good: the time after a candidate is over, or
as many events have come as the condition can tell apart. So each test takes down which further event could change its
answer, and is made anew only when that event is there. What is kept is no part of the state and changes no result: it
holds for the very rows and values it was made of, and is made again where these are others.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from math import ceil
from operator import itemgetter
from typing import Any, Final, overload

from cdp_stream.language.conditions import Read, Test
from cdp_stream.language.kept import Kept
from cdp_stream.language.nodes import (
    And,
    Comparison,
    Condition,
    KeyPath,
    Literal,
    PropertyRef,
    Reduction,
    Scalar,
    SpanTest,
    TraitRef,
    reductions_of,
    scalars_of,
    tests_of,
    wheres_of,
)
from cdp_stream.language.numbered import Numbered, Row
from cdp_stream.language.scope import Occurrence, Scope
from cdp_stream.language.values import ELEMENT, Many, number_of, same, text_of
from cdp_stream.model.time import Instant

KEPT_FROM: Final = 64
"""Fewer candidates are tested one and all."""
_WAITS_A_ROW: Final = 10
_TIME: Final = itemgetter(0)


def is_lasting(condition: Condition) -> bool:
    """Does time alone leave its answers as they are? Windows and comparisons with now do not."""
    return all(reduction.window is None for reduction in reductions_of(condition)) and not any(
        isinstance(test, SpanTest) for where in (condition, *wheres_of(condition)) for test in tests_of(where)
    )


def traits_in(condition: Condition) -> list[KeyPath]:
    """Every trait that the condition reads, each once."""
    scalars = [scalar for where in (condition, *wheres_of(condition)) for scalar in scalars_of(where)]
    return list(dict.fromkeys(scalar.path for scalar in scalars if isinstance(scalar, TraitRef)))


def limits_of(condition: Condition, reduction: Reduction) -> tuple[float, ...] | None:
    """With which numbers a count is compared in the condition; None where it is more than that."""
    if reduction.reducer != "count":
        return None
    limits: list[float] = []
    for test in tests_of(condition):
        if reduction not in scalars_of(test):
            continue
        other: Scalar | None = None
        if isinstance(test, Comparison):
            other = test.right if test.left == reduction else test.left
        if not isinstance(other, Literal) or type(other.value) not in (int, float):
            return None
        limits.append(float(other.value))
    return tuple(limits)


def events_until_news(count: int, limits: tuple[float, ...] | None) -> int | None:
    """How many more events it takes at least until a comparison of the count comes out otherwise; None: never."""
    if limits is None:
        return 1
    ahead = [max(1, ceil(limit) - count) for limit in limits if count <= limit]
    return min(ahead, default=None)


def value_class(value: Any) -> Hashable:
    """Equal for values that are equal in the language; some that are not may have the same, too."""
    number = number_of(value)
    return text_of(value) if number is None else number


def looked_for(condition: Condition | None) -> tuple[PropertyRef, PropertyRef] | None:
    """The property that must be equal to one of the candidate around, and that one; None where there is none."""
    for test in condition.operands if isinstance(condition, And) else (condition,):
        if isinstance(test, Comparison) and test.operator == "=":
            for own, around in ((test.left, test.right), (test.right, test.left)):
                if (
                    isinstance(own, PropertyRef)
                    and isinstance(around, PropertyRef)
                    and (own.parent, around.parent) == (False, True)
                    and ELEMENT not in (*own.path, *around.path)
                ):
                    return own, around
    return None


class Chosen(Sequence[Row]):
    """Rows by their numbers, looked up when they are asked for."""

    __slots__ = ("_numbers", "_of")

    def __init__(self, of: Numbered, numbers: Sequence[int]) -> None:
        self._of = of
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        """The row at this place; a part of them."""
        if isinstance(place, slice):
            return Chosen(self._of, self._numbers[place])
        return self._of.rows[self._numbers[place] - self._of.first]


class Findings:
    """What the tests of a profile's candidates leave behind."""

    __slots__ = ("alike", "children", "number", "tallies", "waiting", "waits")

    def __init__(self) -> None:
        """Nothing yet."""
        self.number = 0
        """Of the candidate in hand."""
        self.children: dict[str, Numbered | None] = {}
        """By key of the state: the events that were looked at; None where there is no state."""
        self.waiting: dict[str, dict[Hashable, set[int]]] = {}
        """By key of the state: candidates to be tested anew when the event of this number comes, or one with this value."""
        self.waits = 0
        """How many that is; some of them for candidates that are gone, or wait for something else by now."""
        self.alike: dict[str, dict[Hashable, list[int]]] = {}
        """By key of the state, where candidates look for a value: which events have it."""
        self.tallies: dict[int, dict[str, tuple[int, Any]]] = {}
        """By candidate and key: up to which number events were taken, and what came of them."""

    def wait(self, key: str, events: int) -> None:
        """The answer may be another one when so many more events are there."""
        child = self.children[key]
        self._wait(key, (0 if child is None else child.end) + events - 1)

    def wait_for(self, key: str, value: Any) -> None:
        """The answer may be another one when an event with this value is there."""
        self._wait(key, value_class(value))

    def _wait(self, key: str, what: Hashable) -> None:
        who = self.waiting.setdefault(key, {}).setdefault(what, set())
        if self.number not in who:
            who.add(self.number)
            self.waits += 1

    def woken(self, key: str, what: Hashable) -> Iterable[int]:
        """Who has waited for that; from now on, nobody."""
        waiting = self.waiting.get(key)
        who = waiting.pop(what, ()) if waiting else ()
        self.waits -= len(who)
        return who

    def fold(
        self, key: str, places: tuple[int, int], take: Callable[[Any, Sequence[Row]], Any], value: Any = None
    ) -> Any:
        """What `take` makes of the events at these places, some more of them at each call, from None on.

        `value`: only those with this value are taken.
        """
        child = self.children[key]
        assert child is not None, key
        mine = self.tallies.setdefault(self.number, {})
        upto, state = mine.get(key, (0, None))
        # An event of the candidate's own instant may have come since: it is before the start, and was not taken.
        start, end = max(places[0] + child.first, upto), places[1] + child.first
        if start >= end:
            return state
        rows: Sequence[Row]
        if value is None:
            rows = child.rows[start - child.first : end - child.first]
        else:
            numbers = self.alike[key].get(value_class(value), ())
            rows = Chosen(child, numbers[bisect_left(numbers, start) : bisect_left(numbers, end)])
        state = take(state, rows)
        mine[key] = (end, state)
        return state


class _Verdicts:
    """Of one profile."""

    __slots__ = ("_columns", "_due", "_now", "notes", "own", "passing")

    def __init__(self, now: Instant, columns: Mapping[str, int | None]) -> None:
        self.own = Numbered()
        self.passing: list[int] = []
        """Numbers, in order."""
        self.notes = Findings()
        self._columns = columns
        self._due: set[int] = set()
        self._now = now

    def follow(self, scope: Scope, rows: list[Row]) -> bool:
        """Take in what has come since; False if that is more than new events at the end and fewer at the front."""
        own, notes = self.own, self.notes
        if scope.now < self._now or notes.waits > _WAITS_A_ROW * len(rows) + KEPT_FROM:
            # Waits that are out of date must not pile up.
            return False
        self._now = scope.now
        gone, end = own.first, own.end
        if not own.follow(rows):
            return False
        for number in range(gone, own.first):
            notes.tallies.pop(number, None)
        if own.first > gone:
            del self.passing[: bisect_left(self.passing, own.first)]
        self._due.update(range(max(end, own.first), own.end))
        return all(self._follow_child(scope, key, column) for key, column in self._columns.items())

    def _follow_child(self, scope: Scope, key: str, column: int | None) -> bool:
        state, children = scope.states.get(key), self.notes.children
        is_new, child = key not in children, children.get(key)
        if state is None:
            children[key] = None
            return child is None
        if child is None:
            child = children[key] = Numbered()
            if not state[1] and not is_new:
                # A state without events says other things than no state, and no event tells of it.
                return False
        end, gone, before = child.end, child.first, child.rows
        if not child.follow(state[1]):
            return False
        let_go = before[: child.first - gone]
        self._wake(key, column, let_go, child, range(max(end, child.first), child.end))
        if let_go:
            self._forget(let_go[-1][0])
        return True

    def _wake(self, key: str, column: int | None, let_go: list[Row], child: Numbered, new: range) -> None:
        """Whoever waits for the new events is to be tested anew. Events are found by their values, where they are looked for."""
        alike, woken = self.notes.alike.setdefault(key, {}), self.notes.woken
        if column is not None:
            for row in let_go:
                value = value_class(row[column])
                del alike[value][0]
                if not alike[value]:
                    del alike[value]
        for number in new:
            self._due.update(woken(key, number))
            if column is not None:
                value = value_class(child.rows[number - child.first][column])
                alike.setdefault(value, []).append(number)
                self._due.update(woken(key, value))

    def _forget(self, instant: Instant) -> None:
        """Events of this instant and before are gone: candidates before it may miss them."""
        own = self.own
        for place in range(bisect_left(own.rows, instant, key=_TIME)):
            self._due.add(own.first + place)
            self.notes.tallies.pop(own.first + place, None)

    def settle(self, scope: Scope, later: Test[Occurrence], start: int) -> None:
        """Test anew what has to be, from the place `start` on; those before it are never asked for again."""
        own, notes, passing = self.own, self.notes, self.passing
        due, self._due = sorted(self._due), set()
        scope.notes = notes
        for number in due:
            if number < own.first + start:
                continue
            notes.number = number
            holds = later(Occurrence(own.rows[number - own.first], None, scope))
            place = bisect_left(passing, number)
            held = place < len(passing) and passing[place] == number
            if holds and not held:
                insort(passing, number)
            elif held and not holds:
                del passing[place]
        scope.notes = None


class Judge:
    """Of one reduction: its condition, and what came of it for the profiles that were asked for last."""

    def __init__(
        self, later: Test[Occurrence], columns: Mapping[str, int | None], traits: Iterable[Read[Scope]]
    ) -> None:
        """`columns`: the states that the condition reads, each with the place in its rows of a value that a candidate
        looks for, if any. `traits`: readers of the traits in the condition.
        """
        self._later = later
        self._columns = columns
        self._traits = tuple(traits)
        self._kept = Kept[tuple[list[Any], _Verdicts | None]]()

    def passing(self, scope: Scope, rows: list[Row], start: int, end: int) -> Sequence[Row]:
        """Those of the rows from `start` to `end` that pass."""
        if len(rows) < KEPT_FROM or not scope.profile_id:
            return self._each(scope, rows[start:end])
        values = [read(scope) for read in self._traits]
        before, verdicts = self._kept.take(scope.profile_id) or (None, None)
        self._kept.keep(scope.profile_id, (values, None))
        if self._traits and (before is None or not all(map(_alike, before, values))):
            # A trait that has just changed may well do so every time: nothing is kept of such tests.
            return self._each(scope, rows[start:end])
        if verdicts is None or not verdicts.follow(scope, rows):
            verdicts = _Verdicts(scope.now, self._columns)
            verdicts.follow(scope, rows)
        verdicts.settle(scope, self._later, start)
        self._kept.keep(scope.profile_id, (values, verdicts))
        own, numbers = verdicts.own, verdicts.passing
        first, last = (bisect_left(numbers, own.first + place) for place in (start, end))
        return Chosen(own, numbers[first:last])

    def _each(self, scope: Scope, rows: list[Row]) -> list[Row]:
        later = self._later
        return [row for row in rows if later(Occurrence(row, None, scope))]


def _alike(one: Any, other: Any) -> bool:
    if type(one) is Many and type(other) is Many:
        return len(one) == len(other) and all(map(same, one, other))
    return same(one, other)

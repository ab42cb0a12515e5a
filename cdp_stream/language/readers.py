"""A definition's values as functions of a scope: traits, and reductions over what the profile has kept."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final, TypeVar

import orjson
from msgspec import Struct, field

from cdp_stream.language.aggregations import ROWS, Aggregation, Shape, aggregation_of, kind_name, shape_of
from cdp_stream.language.conditions import Read, Test, compile_condition
from cdp_stream.language.nodes import (
    Between,
    ContextRef,
    KeyPath,
    Literal,
    PropertyRef,
    Reduction,
    Scalar,
    Session,
    TraitRef,
    Within,
)
from cdp_stream.language.scope import Occurrence, Scope
from cdp_stream.language.values import ELEMENT, Many, lookup, lookup_each
from cdp_stream.model.time import Duration, Instant

Row = list[Any]
Places = dict[PropertyRef | ContextRef, int]
"""Where in a row the value of a property stands."""
World = TypeVar("World")
_TIME: Final = itemgetter(0)


class Compiler(Struct, frozen=True):
    """Makes readers, and notes on the way which aggregations they need."""

    trait_keys: frozenset[str]
    audience_keys: frozenset[str]
    """A declared key beats a custom trait of the same key."""
    since: Instant | None = None
    found: dict[str, Aggregation] = field(default_factory=dict)

    def operand(self, scalar: Scalar) -> Read[Scope]:
        """Inside a condition a count of nothing is 0, so that "did not" can be said; elsewhere it is no value."""
        return _at_least_zero(scalar, self.scalar(scalar))

    def scalar(self, scalar: Scalar) -> Read[Scope]:
        """The reader of a value."""
        match scalar:
            case Literal(value):
                return lambda _scope: value
            case Reduction():
                return self._reduction(scalar)
            case TraitRef(path):
                return self._trait(path)
            case _:
                raise AssertionError(scalar)  # the parser keeps property() inside where()

    def _trait(self, path: KeyPath) -> Read[Scope]:
        key, rest = path[0], path[1:]
        find: Callable[[Any, KeyPath], Any] = lookup_each if ELEMENT in rest else lookup
        if key in self.audience_keys:
            return lambda scope: find(scope.memberships.get(key, False), rest)
        if key in self.trait_keys:
            return lambda scope: find(scope.computed.get(key), rest)

        def custom(scope: Scope) -> Any:
            trait = scope.custom.get(key)
            return None if trait is None else find(trait.value, rest)

        return custom

    def _shape(self, reduction: Reduction, horizon: Duration | None = None, *, nested: bool = False) -> Shape:
        shape = shape_of(reduction, nested=nested, horizon=horizon, since=self.since)
        if shape.key not in self.found:
            self.found[shape.key] = aggregation_of(reduction, shape, self.since)
        return shape

    def _reduction(self, reduction: Reduction) -> Read[Scope]:
        shape = self._shape(reduction)
        finish = _finisher(reduction)
        key, kind = shape.key, shape.kind
        if kind == ROWS:
            return self._candidates(reduction, shape)
        if isinstance(reduction.window, Session):
            return _latest_session(key, kind_name(reduction), reduction.window.gap, finish, _nothing(reduction))

        def running(scope: Scope) -> Any:
            state = scope.states.get(key)
            return None if state is None else finish(scope.kind_of(kind).read(state))

        return running

    def _candidates(self, reduction: Reduction, shape: Shape) -> Read[Scope]:
        """A reduction over candidates at the top of a definition."""
        key, window, reach = shape.key, reduction.window, shape.horizon
        near = window.near if isinstance(window, Between) else 0
        gap = window.gap if isinstance(window, Session) else None
        later = self._later(shape, {})
        reduce, nothing = _reducing(reduction), _nothing(reduction)
        has_value = reduction.path is not None

        def read(scope: Scope) -> Any:
            state = scope.states.get(key)
            if state is None:
                return None
            seen, rows = state
            chosen = rows if reach is None else _in_window(rows, reach, near, scope)
            if later is not None:
                chosen = [row for row in chosen if later(Occurrence(row, None, scope))]
            if gap is not None:
                chosen = _latest_run(chosen, gap, scope)
                if has_value:
                    chosen = [row for row in chosen if row[-1] is not None]
            if chosen:
                return reduce(chosen, scope)
            return nothing if seen + near <= scope.now else None

        return read

    def _child(self, reduction: Reduction, horizon: Duration | None, around: Places) -> Read[Occurrence]:
        """A reduction over the events after the one in hand: a funnel's next step."""
        shape = self._shape(reduction, horizon, nested=True)
        key, window, limit = shape.key, reduction.window, reduction.within_parent
        near = window.near if isinstance(window, Between) else 0
        later = self._later(shape, around)
        reduce, nothing = _reducing(reduction), _nothing(reduction)

        def read(parent: Occurrence) -> Any:
            scope = parent.scope
            state = scope.states.get(key)
            if state is None:
                return None
            rows, began = state[1], parent.row[0]
            start = bisect_right(rows, began, key=_TIME)
            end = len(rows) if limit is None else bisect_left(rows, began + limit, lo=start, key=_TIME)
            chosen = rows[start:end]
            if chosen and isinstance(window, Within | Between):
                chosen = _in_window(chosen, window.far, near, scope)
            if later is not None:
                chosen = [row for row in chosen if later(Occurrence(row, parent, scope))]
            return reduce(chosen, scope) if chosen else nothing

        return read

    def _later(self, shape: Shape, around: Places) -> Test[Occurrence] | None:
        """The test that is made anew at each evaluation; `around`: columns of the event around this one."""
        if shape.later is None:
            return None
        places: Places = {column: place for place, column in enumerate(shape.columns, start=2)}

        def read(scalar: Scalar) -> Read[Occurrence]:
            match scalar:
                case Literal(value):
                    return lambda _occurrence: value
                case TraitRef(path):
                    trait = self._trait(path)
                    return lambda occurrence: trait(occurrence.scope)
                case Reduction():
                    return _at_least_zero(scalar, self._child(scalar, shape.horizon, places))
                case PropertyRef(path, parent=True):
                    place = around[PropertyRef(path)]
                    return lambda occurrence: _column(_parent(occurrence).row[place], path)
                case _:
                    place = places[scalar]
                    return lambda occurrence: _column(occurrence.row[place], scalar.path)

        return compile_condition(shape.later, read, lambda occurrence: occurrence.scope)


def _parent(occurrence: Occurrence) -> Occurrence:
    assert occurrence.parent is not None
    return occurrence.parent


def _column(value: Any, path: KeyPath) -> Any:
    return Many(value) if ELEMENT in path and value is not None else value


def _at_least_zero(scalar: Scalar, read: Read[World]) -> Read[World]:
    if isinstance(scalar, Reduction) and (scalar.reducer == "count" or scalar.counted):
        return lambda world: read(world) or 0
    return read


def _in_window(rows: list[Row], far: Duration, near: Duration, scope: Scope) -> list[Row]:
    """The rows with times in (now - far, now - near]; takes down when one of the rows enters or leaves."""
    start = bisect_right(rows, scope.now - far, key=_TIME)
    end = bisect_right(rows, scope.now - near, lo=start, key=_TIME) if near else len(rows)
    if start < len(rows):
        scope.lower(rows[start][0] + far)
    if end < len(rows):
        scope.lower(rows[end][0] + near)
    return rows if start == 0 and end == len(rows) else rows[start:end]


def _latest_run(rows: list[Row], gap: Duration, scope: Scope) -> list[Row]:
    """The latest burst of rows, or none when the gap has passed since its last."""
    if not rows or rows[-1][0] + gap <= scope.now:
        return []
    scope.lower(rows[-1][0] + gap)
    start = len(rows) - 1
    while start and rows[start][0] - rows[start - 1][0] < gap:
        start -= 1
    return rows[start:]


def _latest_session(key: str, kind: str, gap: Duration, finish: Callable[[Any], Any], nothing: Any) -> Read[Scope]:
    """The latest of the sessions kept, or nothing when it has expired."""

    def read(scope: Scope) -> Any:
        sessions = scope.states.get(key)
        if sessions is None:
            return None
        _, end, state = sessions[-1]
        if end + gap <= scope.now:
            return nothing
        scope.lower(end + gap)
        value = scope.kind_of(kind).read(state)
        return nothing if value is None else finish(value)

    return read


def _reducing(reduction: Reduction) -> Callable[[list[Row], Scope], Any]:
    """Brings candidates, at least one, down to the reduction's value."""
    match reduction.reducer:
        case "count":
            return lambda rows, _scope: len(rows)
        case "first":
            return lambda rows, _scope: rows[0][-1]
        case "last":
            return lambda rows, _scope: rows[-1][-1]
    kind_key, finish = kind_name(reduction), _finisher(reduction)
    many = reduction.path is not None and ELEMENT in reduction.path and reduction.value_type != "array"

    def reduce(rows: list[Row], scope: Scope) -> Any:
        kind = scope.kind_of(kind_key)
        values = ((value, row[0], row[1]) for row in rows for value in (row[-1] if many else (row[-1],)))
        return finish(kind.read(kind.of(values)))

    return reduce


def _nothing(reduction: Reduction) -> Any:
    """The value when every event has left the window: 0 of a count, an empty list, else none."""
    if reduction.reducer == "count" or reduction.counted:
        return 0
    return [] if reduction.reducer == "unique" else None


def _finisher(reduction: Reduction) -> Callable[[Any], Any]:
    """From what a kind reads to the value: most kinds read the value itself."""
    if reduction.reducer == "mode":
        assert reduction.minimum is not None
        return _most_frequent(reduction.minimum, as_json=reduction.value_type in ("number", "array"))
    return len if reduction.counted else lambda value: value


def _most_frequent(minimum: int, *, as_json: bool) -> Callable[[Any], Any]:
    def most_frequent(counts: dict[str, int]) -> Any:
        greatest = max(counts.values())
        if greatest < minimum:
            return None
        text = min(text for text, count in counts.items() if count == greatest)
        return orjson.loads(text) if as_json else text

    return most_frequent

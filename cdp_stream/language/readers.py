"""A definition's values as functions of a scope: traits, and reductions over what the profile has kept."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, TypeVar

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
    reductions_of,
    scalars_of,
)
from cdp_stream.language.numbered import Row
from cdp_stream.language.ranks import Ranks, ranked
from cdp_stream.language.reducing import (
    adding,
    finisher,
    latest_run,
    latest_session,
    nothing_of,
    places_in_window,
    reading,
    reducing,
    reducing_in_blocks,
)
from cdp_stream.language.scope import Notes, Occurrence, Scope
from cdp_stream.language.values import ELEMENT, Many, lookup, lookup_each
from cdp_stream.language.verdicts import (
    Judge,
    events_until_news,
    is_lasting,
    limits_of,
    looked_for,
    traits_in,
)
from cdp_stream.model.time import Duration, Instant

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

    def value(self, scalar: Scalar) -> Read[Scope]:
        """The reader of what a trait computes: several values are an array; where there are none, it has no value."""
        read = self.scalar(scalar)
        if not isinstance(scalar, TraitRef) or ELEMENT not in scalar.path[1:]:
            return read
        return lambda scope: list(read(scope) or ()) or None

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
        finish = finisher(reduction)
        key, kind = shape.key, shape.kind
        if kind == ROWS:
            return self._candidates(reduction, shape)
        if isinstance(reduction.window, Session):
            return latest_session(key, kind_name(reduction), reduction.window.gap, finish, nothing_of(reduction))

        def running(scope: Scope) -> Any:
            state = scope.states.get(key)
            return None if state is None else finish(scope.kind_of(kind).read(state))

        return running

    def _candidates(self, reduction: Reduction, shape: Shape) -> Read[Scope]:
        """A reduction over candidates at the top of a definition."""
        key, reach = shape.key, shape.horizon
        near = reduction.window.near if isinstance(reduction.window, Between) else 0
        choose = self._chooser(reduction, shape)
        reduce, nothing = reducing(reduction), nothing_of(reduction)
        is_plain = shape.later is None and not isinstance(reduction.window, Session)
        in_blocks = reducing_in_blocks(reduction) if is_plain else None

        def read(scope: Scope) -> Any:
            state = scope.states.get(key)
            if state is None:
                return None
            seen, rows = state
            start, end = (0, len(rows)) if reach is None else places_in_window(rows, reach, near, scope)
            if in_blocks is not None and start < end:
                return in_blocks(rows, (start, end), scope)
            chosen = choose(scope, rows, start, end)
            if chosen:
                return reduce(chosen, scope)
            return nothing if seen + near <= scope.now else None

        return read

    def _chooser(self, reduction: Reduction, shape: Shape) -> Callable[[Scope, list[Row], int, int], Sequence[Any]]:
        """Which of the rows between two places count: the rows, or of a mere count something as long."""
        later, window = self._later(shape, {}), reduction.window
        if isinstance(window, Session):
            return _latest_of_session(window.gap, later, has_value=reduction.path is not None)
        if later is None:
            return lambda _scope, rows, start, end: rows if end - start == len(rows) else rows[start:end]
        ranks = self._ranks(reduction, shape)
        if ranks is not None:
            return lambda scope, rows, start, end: range(ranks.count(scope, rows, start, end))
        judge = self._judge(shape, later)
        if judge is not None:
            return judge.passing
        return lambda scope, rows, start, end: [row for row in rows[start:end] if later(Occurrence(row, None, scope))]

    def _ranks(self, reduction: Reduction, shape: Shape) -> Ranks | None:
        """The one who counts candidates that are more, or less, than a trait, where that is all."""
        found = ranked(shape.later) if reduction.reducer == "count" else None
        if found is None:
            return None
        own, operator, trait = found
        return Ranks(_places(shape)[own], operator, self._trait(trait.path))

    def _judge(self, shape: Shape, later: Test[Occurrence]) -> Judge | None:
        """The one who keeps which candidates pass, where that lasts."""
        if shape.later is None or not is_lasting(shape.later):
            return None
        columns: dict[str, int | None] = {}
        for inner in reductions_of(shape.later):
            child = self._shape(inner, shape.horizon, nested=True)
            columns[child.key] = None
            if inner in scalars_of(shape.later) and _adds_up(inner, child) and (pair := looked_for(child.later)):
                columns[child.key] = _places(child)[pair[0]]
        return Judge(later, columns, map(self._trait, traits_in(shape.later)))

    def _child(
        self, reduction: Reduction, horizon: Duration | None, around: Places, limits: tuple[float, ...] | None
    ) -> Read[Occurrence]:
        """A reduction over the events after the one in hand: a funnel's next step.

        `limits`: the numbers that its count is compared with, where it is nothing but compared.
        """
        shape = self._shape(reduction, horizon, nested=True)
        key, limit = shape.key, reduction.within_parent
        later = self._later(shape, around)
        reduced = _reduced_child(reduction, later)
        counts = reduction.reducer == "count" and reduction.window is None
        is_rank = counts and later is None
        added = _added_child(reduction, shape, later, around) if _adds_up(reduction, shape) and not is_rank else None

        def read(parent: Occurrence) -> Any:
            notes, state = parent.scope.notes, parent.scope.states.get(key)
            if state is None:
                if notes is not None:
                    notes.wait(key, 1)
                return None
            rows, began = state[1], parent.row[0]
            start = bisect_right(rows, began, key=_TIME)
            end = len(rows) if limit is None else bisect_left(rows, began + limit, lo=start, key=_TIME)
            if notes is None:
                return reduced(parent, rows, start, end)
            if added is None or parent.parent is not None:
                value, wanted = reduced(parent, rows, start, end), None
            else:
                value, wanted = added(parent, notes, start, end)
            ahead = events_until_news(value, limits) if counts else 1
            if ahead is not None and end == len(rows):
                # Later ones are more than the limit after it, otherwise.
                notes.wait(key, ahead) if wanted is None else notes.wait_for(key, wanted)
            return value

        return read

    def _later(self, shape: Shape, around: Places) -> Test[Occurrence] | None:
        """The test that is made anew at each evaluation; `around`: columns of the event around this one."""
        if shape.later is None:
            return None
        places = _places(shape)

        def read(scalar: Scalar) -> Read[Occurrence]:
            match scalar:
                case Literal(value):
                    return lambda _occurrence: value
                case TraitRef(path):
                    trait = self._trait(path)
                    return lambda occurrence: trait(occurrence.scope)
                case Reduction():
                    limits = None if shape.later is None else limits_of(shape.later, scalar)
                    return _at_least_zero(scalar, self._child(scalar, shape.horizon, places, limits))
                case PropertyRef(path, parent=True):
                    place = around[PropertyRef(path)]
                    return lambda occurrence: _column(_parent(occurrence).row[place], path)
                case _:
                    place = places[scalar]
                    return lambda occurrence: _column(occurrence.row[place], scalar.path)

        return compile_condition(shape.later, read, lambda occurrence: occurrence.scope)


def _latest_of_session(
    gap: Duration, later: Test[Occurrence] | None, *, has_value: bool
) -> Callable[[Scope, list[Row], int, int], Sequence[Row]]:
    """The rows of the latest session of those that pass; without those that have no value to reduce."""

    def choose(scope: Scope, rows: list[Row], start: int, end: int) -> Sequence[Row]:
        chosen = rows[start:end]
        if later is not None:
            chosen = [row for row in chosen if later(Occurrence(row, None, scope))]
        run = latest_run(chosen, gap, scope)
        return [row for row in run if row[-1] is not None] if has_value else run

    return choose


def _reduced_child(
    reduction: Reduction, later: Test[Occurrence] | None
) -> Callable[[Occurrence, list[Row], int, int], Any]:
    """The value of the rows between two places, for the event in hand."""
    window = reduction.window
    near = window.near if isinstance(window, Between) else 0
    reduce, nothing = reducing(reduction), nothing_of(reduction)
    plain = later is None and window is None and reduction.reducer == "count"

    def reduced(parent: Occurrence, rows: list[Row], start: int, end: int) -> Any:
        if plain:
            return end - start
        scope, chosen = parent.scope, rows[start:end]
        if chosen and isinstance(window, Within | Between):
            first, last = places_in_window(chosen, window.far, near, scope)
            chosen = chosen[first:last]
        if later is not None:
            chosen = [row for row in chosen if later(Occurrence(row, parent, scope))]
        return reduce(chosen, scope) if chosen else nothing

    return reduced


def _added_child(
    reduction: Reduction, shape: Shape, later: Test[Occurrence] | None, around: Places
) -> Callable[[Occurrence, Notes, int, int], tuple[Any, Any]]:
    """The same, from what was made of the first of these rows before; and which value further ones must have, if any."""
    key, pair = shape.key, looked_for(shape.later)
    place = None if pair is None else around[PropertyRef(pair[1].path)]
    add, read, nothing = adding(reduction), reading(reduction), nothing_of(reduction)

    def added(parent: Occurrence, notes: Notes, start: int, end: int) -> tuple[Any, Any]:
        wanted = None if place is None else parent.row[place]
        if place is not None and wanted is None:
            return nothing, None
        scope = parent.scope

        def take(state: Any, rows: Sequence[Row]) -> Any:
            if later is not None:
                rows = [row for row in rows if later(Occurrence(row, parent, scope))]
            return add(state, rows, scope) if rows else state

        state = notes.fold(key, (start, end), take, wanted)
        return nothing if state is None else read(state, scope), wanted

    return added


def _places(shape: Shape) -> Places:
    """Where a row of this shape has its columns, behind time and message id."""
    return {column: place for place, column in enumerate(shape.columns, start=2)}


def _adds_up(reduction: Reduction, shape: Shape) -> bool:
    """Does every event pass or not, once and for all?"""
    return reduction.window is None and (shape.later is None or not reductions_of(shape.later))


def _parent(occurrence: Occurrence) -> Occurrence:
    assert occurrence.parent is not None
    return occurrence.parent


def _column(value: Any, path: KeyPath) -> Any:
    return Many(value) if ELEMENT in path and value is not None else value


def _at_least_zero(scalar: Scalar, read: Read[World]) -> Read[World]:
    if isinstance(scalar, Reduction) and (scalar.reducer == "count" or scalar.counted):
        return lambda world: read(world) or 0
    return read

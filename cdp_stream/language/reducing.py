"""How candidates of a profile are brought down to a value: which of them a window or a session takes, and what is made of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

import orjson

from cdp_stream.language.aggregations import kind_name
from cdp_stream.language.blocks import Blocks, Values
from cdp_stream.language.conditions import Read
from cdp_stream.language.nodes import Reduction
from cdp_stream.language.numbered import Row
from cdp_stream.language.scope import Scope
from cdp_stream.language.values import ELEMENT
from cdp_stream.model.time import Duration

_TIME: Final = itemgetter(0)


def places_in_window(rows: list[Row], far: Duration, near: Duration, scope: Scope) -> tuple[int, int]:
    """Which rows have times in (now - far, now - near]; takes down when one of the rows enters or leaves."""
    start = bisect_right(rows, scope.now - far, key=_TIME)
    end = bisect_right(rows, scope.now - near, lo=start, key=_TIME) if near else len(rows)
    if start < len(rows):
        scope.lower(rows[start][0] + far)
    if end < len(rows):
        scope.lower(rows[end][0] + near)
    return start, end


def latest_run(rows: Sequence[Row], gap: Duration, scope: Scope) -> Sequence[Row]:
    """The latest burst of rows, or none when the gap has passed since its last."""
    if not rows or rows[-1][0] + gap <= scope.now:
        return []
    scope.lower(rows[-1][0] + gap)
    start = len(rows) - 1
    while start and rows[start][0] - rows[start - 1][0] < gap:
        start -= 1
    return rows[start:]


def latest_session(key: str, kind: str, gap: Duration, finish: Callable[[Any], Any], nothing: Any) -> Read[Scope]:
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


def reducing(reduction: Reduction) -> Callable[[Sequence[Row], Scope], Any]:
    """Brings candidates, at least one, down to the reduction's value."""
    match reduction.reducer:
        case "count":
            return lambda rows, _scope: len(rows)
        case "first":
            return lambda rows, _scope: rows[0][-1]
        case "last":
            return lambda rows, _scope: rows[-1][-1]
    kind_key, finish, values = kind_name(reduction), finisher(reduction), _values(reduction)

    def reduce(rows: Sequence[Row], scope: Scope) -> Any:
        kind = scope.kind_of(kind_key)
        return finish(kind.read(kind.of(values(rows))))

    return reduce


def adding(reduction: Reduction) -> Callable[[Any, Sequence[Row], Scope], Any]:
    """Adds candidates, at least one, later than those before, to a state that `reading` reads; None: none so far."""
    match reduction.reducer:
        case "count":
            return lambda state, rows, _scope: (state or 0) + len(rows)
        case "first":
            return lambda state, rows, _scope: rows[0] if state is None else state
        case "last":
            return lambda _state, rows, _scope: rows[-1]
    kind_key, values = kind_name(reduction), _values(reduction)

    def add(state: Any, rows: Sequence[Row], scope: Scope) -> Any:
        kind = scope.kind_of(kind_key)
        more = kind.of(values(rows))
        return more if state is None else kind.merge(state, more)

    return add


def reading(reduction: Reduction) -> Callable[[Any, Scope], Any]:
    """The value of what `adding` has made."""
    match reduction.reducer:
        case "count":
            return lambda state, _scope: state
        case "first" | "last":
            return lambda state, _scope: state[-1]
    kind_key, finish = kind_name(reduction), finisher(reduction)
    return lambda state, scope: finish(scope.kind_of(kind_key).read(state))


def reducing_in_blocks(reduction: Reduction) -> Callable[[list[Row], tuple[int, int], Scope], Any] | None:
    """The same of the candidates between two places, for reducers that have to look at each of them."""
    if reduction.reducer in ("count", "first", "last"):
        return None
    kind_key, finish, blocks = kind_name(reduction), finisher(reduction), Blocks(_values(reduction))

    def reduce(rows: list[Row], places: tuple[int, int], scope: Scope) -> Any:
        kind = scope.kind_of(kind_key)
        return finish(kind.read(blocks.state(kind, scope, rows, places)))

    return reduce


def _values(reduction: Reduction) -> Values:
    """What a kind folds of candidates."""
    if reduction.path is not None and ELEMENT in reduction.path and reduction.value_type != "array":
        return lambda rows: ((value, row[0], row[1]) for row in rows for value in row[-1])
    return lambda rows: ((row[-1], row[0], row[1]) for row in rows)


def nothing_of(reduction: Reduction) -> Any:
    """The value when every event has left the window: 0 of a count, an empty list, else none."""
    if reduction.reducer == "count" or reduction.counted:
        return 0
    return [] if reduction.reducer == "unique" else None


def finisher(reduction: Reduction) -> Callable[[Any], Any]:
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

"""What is kept of a profile's events for each reduction: one running state, sessions, or the candidate events.

Conditions are cut in two. What depends on the event alone is tested once, when the event arrives. What depends on
traits, on now, or on other events (funnels) is tested anew at each evaluation, over candidates kept with the few
values that it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from msgspec import Struct

from cdp_stream.language.conditions import Read, Test, compile_condition
from cdp_stream.language.nodes import (
    And,
    Between,
    Condition,
    ContextRef,
    KeyPath,
    Literal,
    PropertyRef,
    Reduction,
    Scalar,
    Session,
    SpanTest,
    TraitRef,
    Within,
    scalars_of,
    tests_of,
)
from cdp_stream.language.printer import format_node
from cdp_stream.language.values import ELEMENT, Many, canonical, lookup, lookup_each, measure, number_of, text_of
from cdp_stream.model.change import SOURCE_KEY, ProfileEvent
from cdp_stream.model.ids import base62, derive
from cdp_stream.model.time import Duration, Instant

_KEY_DIGITS: Final = 12
"""Base 62; 71 bits tell the aggregations of a topology apart."""

PAGE_NAME_KEYS: Final = {"Page Viewed": "page_name", "Screen Viewed": "screen_name"}
"""The name of a page or a screen is kept once, under the key that it has among its properties."""

ROWS: Final = "rows"
SESSION: Final = "session"
Column = PropertyRef | ContextRef


class Shape(Struct, frozen=True):
    """How one reduction is kept: what is tested when an event arrives, what is kept of it, what is tested later."""

    key: str
    """Key of its state on a profile: the kind's name and a hash of its canonical text, such as `sum:3kQ…`."""
    kind: str
    arrival: Condition | None
    """Tested when an event arrives."""
    later: Condition | None
    """Tested at each evaluation."""
    columns: tuple[Column, ...]
    """Values of a candidate that `later` needs, in the order they are kept in."""
    horizon: Duration | None
    """Candidates that are older than this can say nothing any more."""


class Aggregation(Struct, frozen=True):
    """One distinct reduction as folding needs it, shared by all definitions that use it."""

    key: str
    event: str
    kind: str
    matches: Test[ProfileEvent] | None
    """A test of the event; None when every event of that name counts."""
    value: Read[ProfileEvent] | None
    """What is folded: a value, `Many` for one by one, None to skip the event; no reader where nothing is needed."""
    horizon: Duration | None
    keeps_ids: bool
    """Whether message ids matter, for the order of events of one instant."""
    since: Instant | None
    """Older events do not count (`historical`)."""


def shape_of(
    reduction: Reduction, *, nested: bool = False, horizon: Duration | None = None, since: Instant | None = None
) -> Shape:
    """How a reduction is kept. `nested`: inside a `where()`, whose events reach back no further than `horizon`."""
    arrival, later = _cut(reduction.where)
    kind = kind_name(reduction)
    window = reduction.window
    own = window.far if isinstance(window, Within | Between) else None
    spans = [span for span in (own, horizon) if span is not None]
    reach = min(spans) if spans else None
    if nested or later is not None or isinstance(window, Within | Between):
        kind = ROWS
    elif isinstance(window, Session):
        kind = f"{SESSION}.{window.gap}.{kind}"
    text = format_node(reduction)
    about = [part for part in (f"reach {reach}" if nested else "", "" if since is None else f"since {since}") if part]
    digest = base62(derive("aggregation", text, *about), _KEY_DIGITS)
    return Shape(f"{kind}:{digest}", kind, arrival, later, _columns(later), reach)


def kind_name(reduction: Reduction) -> str:
    """The name of the trait kind that brings values down to one."""
    if reduction.value_type == "string" and reduction.reducer in ("min", "max"):
        return f"{reduction.reducer}_text"
    return reduction.reducer


def aggregation_of(reduction: Reduction, shape: Shape, since: Instant | None = None) -> Aggregation:
    """The aggregation that folds events as the shape says."""
    is_rows = shape.kind == ROWS
    reducer = reduction.reducer
    value = value_reader(reduction)
    return Aggregation(
        key=shape.key,
        event=reduction.event,
        kind=shape.kind,
        matches=_matching(shape.arrival, reduction),
        value=_row_reader(shape.columns, value, reduction) if is_rows else value,
        horizon=shape.horizon,
        keeps_ids=not is_rows or reducer in ("first", "last"),
        since=since,
    )


def _matching(arrival: Condition | None, reduction: Reduction) -> Test[ProfileEvent] | None:
    """What an event must meet as it arrives; None when every event of the name counts."""
    excluded = reduction.excluded
    holds = None if arrival is None else compile_arrival(arrival, reduction.event)
    if not excluded:
        return holds
    # An event of which no source was kept counts: it may have come from another one.
    return lambda event: lookup(event.context, (SOURCE_KEY,)) not in excluded and (holds is None or holds(event))


def compile_arrival(condition: Condition, event: str) -> Test[ProfileEvent]:
    """A test of an event of this name as it arrives."""
    return compile_condition(condition, partial(_of_event, event))


def value_reader(reduction: Reduction) -> Read[ProfileEvent] | None:
    """What the reducer takes of an event: its value in the reducer's form, `Many` of them, or None to skip it."""
    path = reduction.path
    if path is None:
        return None
    convert = _converter(reduction)
    if reduction.value_type == "array":
        return lambda event: convert(_array_at(event.properties, path))
    if ELEMENT not in path:
        read = _property(reduction.event, path)
        return lambda event: None if (value := read(event)) is None else convert(value)
    reducer = reduction.reducer

    def each(event: ProfileEvent) -> Any:
        values = [one for value in lookup_each(event.properties, path) if (one := convert(value)) is not None]
        if not values or reducer == "first":
            return values[0] if values else None
        return values[-1] if reducer == "last" else Many(values)

    return each


def _converter(reduction: Reduction) -> Callable[[Any], Any]:
    reducer, value_type = reduction.reducer, reduction.value_type
    if reducer in ("first", "last", "unique"):
        return lambda value: value
    if value_type == "array":
        return lambda array: None if array is None else canonical(array).decode()
    if value_type == "number":
        if reducer == "mode":
            return lambda value: None if (number := _as_number(value)) is None else text_of(number)
        return _as_number
    return text_of if reducer == "mode" or value_type == "string" else measure


def _as_number(value: Any) -> int | float | None:
    number = number_of(value)
    return None if number is None else measure(number)


def _array_at(properties: Any, path: KeyPath) -> list[Any] | None:
    if ELEMENT in path:
        return list(lookup_each(properties, path)) or None
    value = lookup(properties, path)
    return value if type(value) is list else None


def _row_reader(
    columns: tuple[Column, ...], value: Read[ProfileEvent] | None, reduction: Reduction
) -> Read[ProfileEvent] | None:
    """Columns and the reducer's value as one list; None when the reducer skips the event.

    A session is of events, with a value or without: there the row stays, and says None for the value.
    """
    reads = tuple(_of_event(reduction.event, column) for column in columns)
    of_session = isinstance(reduction.window, Session)
    if value is None:
        return (lambda event: [_kept(read(event)) for read in reads]) if reads else (lambda _event: [])

    def row(event: ProfileEvent) -> list[Any] | None:
        reduced = value(event)
        if reduced is None and not of_session:
            return None
        return [*(_kept(read(event)) for read in reads), _kept(reduced)]

    return row


def _kept(value: Any) -> Any:
    return list(value) if type(value) is Many else value


def _cut(where: Condition | None) -> tuple[Condition | None, Condition | None]:
    """The part that depends on the event alone, and the rest."""
    if where is None:
        return None, None
    conjuncts = where.operands if isinstance(where, And) else (where,)
    alone = [conjunct for conjunct in conjuncts if _depends_on_event_alone(conjunct)]
    rest = [conjunct for conjunct in conjuncts if not _depends_on_event_alone(conjunct)]
    return _joined(alone), _joined(rest)


def _joined(conjuncts: list[Condition]) -> Condition | None:
    if len(conjuncts) > 1:
        return And(tuple(conjuncts))
    return conjuncts[0] if conjuncts else None


def _depends_on_event_alone(condition: Condition) -> bool:
    if any(isinstance(test, SpanTest) for test in tests_of(condition)):
        return False
    return all(_is_of_event(scalar) for scalar in scalars_of(condition))


def _is_of_event(scalar: Scalar) -> bool:
    if isinstance(scalar, PropertyRef):
        return not scalar.parent
    return not isinstance(scalar, TraitRef | Reduction)


def _columns(later: Condition | None) -> tuple[Column, ...]:
    """What the later condition reads of a candidate itself, also from inside funnels by way of `parent:`."""
    if later is None:
        return ()
    found: dict[Column, None] = {}
    for scalar in scalars_of(later):
        if isinstance(scalar, ContextRef) or (isinstance(scalar, PropertyRef) and not scalar.parent):
            found[scalar] = None
        elif isinstance(scalar, Reduction) and scalar.where is not None:
            for inner in scalars_of(scalar.where):
                if isinstance(inner, PropertyRef) and inner.parent:
                    found[PropertyRef(inner.path)] = None
    return tuple(found)


def _of_event(event_name: str, scalar: Scalar) -> Read[Any]:
    match scalar:
        case Literal(value):
            return lambda _event: value
        case PropertyRef(path):
            if ELEMENT in path:
                return lambda event: lookup_each(event.properties, path)
            return _property(event_name, path)
        case ContextRef(path):
            if ELEMENT in path:
                return lambda event: lookup_each(event.context, path)
            return lambda event: lookup(event.context, path)
        case _:
            raise AssertionError(scalar)  # what depends on more is tested later


def _property(event_name: str, path: KeyPath) -> Read[ProfileEvent]:
    """A property of an event of this name. A page's name is found under `name`, too ("unify/profile-api")."""
    key, also = path[0], PAGE_NAME_KEYS.get(event_name)
    if len(path) > 1:
        return lambda event: lookup(event.properties, path)
    if key != "name" or also is None:
        return lambda event: None if event.properties is None else event.properties.get(key)

    def name(event: ProfileEvent) -> Any:
        given = event.properties or {}
        found = given.get(key)
        return given.get(also) if found is None else found

    return name

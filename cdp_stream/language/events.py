"""The chain behind `event('X')` in a definition: sources, windows, and the reducer that brings it down to a value."""

from __future__ import annotations

from typing import Any, Final, cast

from lark import Token
from msgspec import Struct
from msgspec.structs import replace

from cdp_stream.language.arguments import (
    Refused,
    arguments_of,
    key_path,
    named_argument,
    no_argument,
    number_of,
    one_text,
    positive_span,
    span_of,
)
from cdp_stream.language.nodes import And, Between, Condition, Reducer, Reduction, Session, ValueType, Window, Within
from cdp_stream.model.time import Duration

REDUCERS: Final[tuple[Reducer, ...]] = ("count", "sum", "avg", "min", "max", "first", "last", "mode", "unique")
FILTERS: Final = ("where", "sources", "within", "between", "expires_after")
MODE_MINIMUM: Final = 2
"""How often a value must be seen to be the most frequent one, unless the definition says so."""
MINIMUM_MAX: Final = 1_000_000
VALUE_TYPES: Final[dict[str, tuple[ValueType, ...]]] = {
    "min": ("string", "number"),
    "max": ("string", "number"),
    "mode": ("string", "number", "array"),
}


class Vector(Struct, frozen=True):
    """`event('X').where(...)` that still waits for its reducer."""

    event: str
    where: tuple[Condition, ...] = ()
    window: Window | None = None
    within_parent: Duration | None = None
    excluded: tuple[str, ...] = ()


def filtered(vector: Vector, name: Token, arguments: list[Any], *, inside_where: bool) -> Vector:
    """The events with one more filter; `where()` apart, which holds a condition. Raises Refused."""
    if name == "sources":
        return replace(vector, excluded=tuple(sorted({*vector.excluded, *_excluded(name, arguments)})))
    parent = named_argument(arguments, "parent")
    if name == "within" and parent is not None:
        if not inside_where:
            raise Refused(name, "within(parent: …) has a meaning only inside where()", "within(7 days)")
        if vector.within_parent is not None:
            raise Refused(name, "within(parent: …) is given twice")
        return replace(vector, within_parent=positive_span(name, parent))
    if vector.window is not None:
        raise Refused(name, "the events have a time window already", "one of within(), between(), expires_after()")
    return replace(vector, window=_window(name, arguments, inside_where=inside_where))


def _excluded(name: Token, arguments: list[Any]) -> list[str]:
    """`exclude: ['web', 'app']`: names of sources."""
    listed = named_argument(arguments, "exclude")
    names = [] if listed is None or listed.data != "array" else arguments_of(listed.children)
    if not names or any(one.data != "string" for one in names):
        raise Refused(name, "sources() takes the names of sources to leave out", "sources(exclude: ['web'])")
    return [one_text(name, [one]) for one in names]


def _window(name: Token, arguments: list[Any], *, inside_where: bool) -> Window:
    if name == "between":
        if len(arguments) != 2:
            raise Refused(
                name, f"between() takes two lengths of time, not {len(arguments)}", "between(30 days, 90 days)"
            )
        near, far = span_of(name, arguments[0]), positive_span(name, arguments[1])
        if near >= far:
            raise Refused(arguments[1], "the second length of between() must be the longer one")
        return Between(near, far)
    if len(arguments) != 1:
        raise Refused(name, f"{name}() takes one length of time, not {len(arguments)}", f"{name}(7 days)")
    span = positive_span(name, arguments[0])
    if name == "within":
        return Within(span)
    if inside_where:
        raise Refused(name, "expires_after() cannot stand inside where()", "within(parent: …)")
    return Session(span)


def reduced(vector: Vector, name: Token, arguments: list[Any]) -> Reduction:
    """The value that the reducer makes of the events. Raises Refused."""
    where = None if not vector.where else vector.where[0] if len(vector.where) == 1 else And(vector.where)
    reducer = cast("Reducer", str(name))
    if reducer == "count":
        no_argument(name, arguments, "filter with where() before it")
        return Reduction(
            vector.event, where, reducer, None, vector.window, vector.within_parent, excluded=vector.excluded
        )
    minimum: int | None = None
    if reducer == "mode":
        minimum = MODE_MINIMUM if len(arguments) < 2 else _minimum(arguments[1])
        arguments = [*arguments[:1], *arguments[2:]]
    if len(arguments) != 1:
        raise Refused(name, f"{name}() takes one property, not {len(arguments)}", f"{name}(property('p'))")
    argument, value_type = arguments[0], None
    if argument.data == "typed":
        value_type = _value_type(name, argument.children[1])
        argument = argument.children[0]
    at, inner = name, [argument]
    if argument.data == "call" and argument.children[0] == "property":
        at, inner = argument.children[0], arguments_of(argument.children[1:])
    path = key_path(at, one_text(at, inner))
    return Reduction(
        vector.event, where, reducer, path, vector.window, vector.within_parent, value_type, minimum,
        excluded=vector.excluded,
    )  # fmt: skip


def _minimum(argument: Any) -> int:
    number = number_of(argument.children[0]) if argument.data == "number" else None
    if not isinstance(number, int) or not 1 <= number <= MINIMUM_MAX:
        raise Refused(argument, "mode() takes a whole number above zero as the least frequency", "mode('p', 2)")
    return number


def _value_type(name: Token, word: Token) -> ValueType:
    allowed = VALUE_TYPES.get(str(name), ())
    if str(word) not in allowed:
        hint = f"it knows: {', '.join(f'as {known}' for known in allowed)}" if allowed else None
        raise Refused(word, f"{name}() cannot be taken 'as {word}'", hint)
    return cast("ValueType", str(word))

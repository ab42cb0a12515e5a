"""Definitions in YAML: the form that a topology may have instead of text, to a checked definition.

Each key means what the function or operator of that name means in text; both forms of a condition make the same nodes.
`form_printer.py` writes the form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn, cast

from cdp_stream.config.form import Form, given_in
from cdp_stream.errors import Problem
from cdp_stream.language.arguments import Refused, key_path
from cdp_stream.language.events import MODE_MINIMUM, VALUE_TYPES
from cdp_stream.language.nodes import (
    And,
    Between,
    Comparison,
    Condition,
    ContextRef,
    DateTest,
    Definition,
    Exists,
    Holds,
    KeyPath,
    Literal,
    Membership,
    Node,
    Not,
    Or,
    PropertyRef,
    Reducer,
    Reduction,
    Scalar,
    Session,
    SpanTest,
    TextTest,
    TraitRef,
    ValueType,
    Window,
    Within,
)
from cdp_stream.language.parse import (
    COMPARATORS,
    DATE_TESTS,
    SPAN_TESTS,
    TEXT_TESTS,
    definition_of,
)
from cdp_stream.language.values import date_of, measure

_GROUPS: Final = ("all", "any", "not")
_SUBJECTS: Final = ("trait", "property", "parent", "context", "value", "event")
_WINDOWS: Final = ("within", "between", "expires_after")
_REDUCERS: Final = ("sum", "avg", "min", "max", "first", "last", "mode", "unique", "unique_count")
_OF_EVENTS: Final = ("where", "exclude_sources", *_WINDOWS, "within_parent", *_REDUCERS, "as", "minimum")
_MEMBERSHIPS: Final = ("one_of", "none_of")
_TESTS: Final = (*COMPARATORS, *TEXT_TESTS, *_MEMBERSHIPS, *DATE_TESTS, *SPAN_TESTS, "exists")


class _Wrong(Exception):
    """The form does not make sense here; carries the problem."""

    def __init__(self, path: str, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.problem = Problem(path, message, suggestion)


def read_form(form: Form, path: str) -> Definition | Problem:
    """The definition that a YAML form says, or what is wrong with it. `path` names its place in the topology."""
    try:
        given = given_in(form)
        is_condition = any(key in given for key in (*_GROUPS, *_TESTS))
        body: Node = _condition(form, path, 0) if is_condition else _scalar(form, path, 0)
    except _Wrong as wrong:
        return wrong.problem
    return definition_of(body, path, _places(form, path))


def _places(form: Form, path: str) -> Iterator[str]:
    """Where each primary expression of a form that makes sense stands, in order."""
    given = given_in(form)
    groups = [key for key in given if key in _GROUPS]
    if not groups:
        yield path
        yield from _places_inside(given, path)
    for key in groups:
        for where, one in _listed(given[key], f"{path}.{key}"):
            yield from _places(one, where)


def _places_inside(given: Mapping[str, Any], path: str) -> Iterator[str]:
    """Those in the `where` of an event, and of an event that it is compared with."""
    for where, one in _listed(given.get("where", ()), f"{path}.where"):
        yield from _places(one, where)
    for key in given:
        if key in _TESTS:
            for where, one in _listed(given[key], f"{path}.{key}"):
                if isinstance(one, Form):
                    yield from _places_inside(given_in(one), where)


def _condition(form: Form, path: str, level: int) -> Condition:
    given = given_in(form)
    groups = [key for key in given if key in _GROUPS]
    if groups:
        if len(given) > 1:
            other = next(key for key in given if key != groups[0])
            _wrong(f"{path}.{other}", f"'{other}' cannot stand beside '{groups[0]}'", "nest one in the other")
        return _group(groups[0], given[groups[0]], f"{path}.{groups[0]}", level)
    tests = [key for key in given if key in _TESTS]
    if len(tests) > 1:
        _wrong(f"{path}.{tests[1]}", f"'{tests[1]}' cannot stand beside '{tests[0]}'", "join tests with 'all' or 'any'")
    left = _subject(form, path, level)
    if tests:
        return _tested(left, tests[0], given[tests[0]], f"{path}.{tests[0]}", level)
    if isinstance(left, Literal | Reduction):
        _wrong(path, "this is a value; a condition is expected here", "compare it, such as 'at_least: 1'")
    return Holds(left)


def _group(key: str, held: Any, path: str, level: int) -> Condition:
    if key == "not":
        return Not(_condition(held, path, level))
    kind: type[And | Or] = And if key == "all" else Or
    return _joined(kind, [_condition(one, f"{path}[{place}]", level) for place, one in enumerate(held)])


def _joined(kind: type[And | Or], conditions: list[Condition]) -> Condition:
    flat: list[Condition] = []
    for condition in conditions:
        flat += condition.operands if isinstance(condition, kind) else [condition]
    return kind(tuple(flat)) if len(flat) > 1 else flat[0]


def _tested(left: Scalar, test: str, held: Any, path: str, level: int) -> Condition:
    if test in COMPARATORS:
        return Comparison(left, COMPARATORS[test], _operand(held, path, level))
    if test == "exists":
        return Exists(left, negated=not held)
    if test in SPAN_TESTS:
        return SpanTest(left, cast("Any", test), held)
    if test in DATE_TESTS:
        instant = date_of(held)
        if instant is None:
            _wrong(path, f"{held!r} is not a full ISO-8601 timestamp", "such as '2025-01-31T00:00:00Z'")
        return DateTest(left, cast("Any", test), instant)
    options = []
    for where, one in _listed(held, path):
        option = _operand(one, where, level)
        if isinstance(option, Reduction):
            _wrong(where, f"'{test}' takes constants, traits and properties")
        if test in TEXT_TESTS and isinstance(option, Literal) and not isinstance(option.value, str):
            _wrong(where, f"'{test}' takes texts", f"put it in quotes: '{option.value}'")
        options.append(option)
    if test in TEXT_TESTS:
        return TextTest(left, cast("Any", test), tuple(options))
    return Membership(left, tuple(options), negated=test == "none_of")


def _listed(held: Any, path: str) -> list[tuple[str, Any]]:
    """One or several, each with its path."""
    if isinstance(held, tuple):
        return [(f"{path}[{place}]", one) for place, one in enumerate(held)]
    return [(path, held)]


def _operand(held: Any, path: str, level: int) -> Scalar:
    return _scalar(held, path, level) if isinstance(held, Form) else _constant(held, path)


def _scalar(form: Form, path: str, level: int) -> Scalar:
    given = given_in(form)
    for key in given:
        if key in _GROUPS or key in _TESTS:
            _wrong(f"{path}.{key}", f"'{key}' makes a condition; a value is expected here")
    return _subject(form, path, level)


def _subject(form: Form, path: str, level: int) -> Scalar:
    """The value that a test is made of."""
    given = given_in(form)
    subjects = [key for key in given if key in _SUBJECTS]
    if not subjects:
        _wrong(path, "says nothing of what is meant", f"it needs one of: {', '.join((*_SUBJECTS, *_GROUPS))}")
    if len(subjects) > 1:
        _wrong(f"{path}.{subjects[1]}", f"'{subjects[1]}' cannot stand beside '{subjects[0]}'")
    subject = subjects[0]
    if subject == "event":
        return _reduction(given, path, level)
    for key in given:
        if key in _OF_EVENTS:
            _wrong(f"{path}.{key}", f"'{key}' belongs to an 'event', not to '{subject}'")
    held, where = given[subject], f"{path}.{subject}"
    if subject == "value":
        return _constant(held, where)
    keys = _keys(held, where)
    if subject == "trait":
        return TraitRef(keys)
    if not level:
        _wrong(where, f"'{subject}' has a meaning only inside the 'where' of an event")
    if subject == "parent" and level == 1:
        _wrong(where, "'parent' has a meaning only in a 'where' inside another 'where'")
    return ContextRef(keys) if subject == "context" else PropertyRef(keys, parent=subject == "parent")


def _reduction(given: Mapping[str, Any], path: str, level: int) -> Reduction:
    reducers = [key for key in given if key in _REDUCERS]
    if len(reducers) > 1:
        _wrong(f"{path}.{reducers[1]}", f"'{reducers[1]}' cannot stand beside '{reducers[0]}'")
    reducer = reducers[0] if reducers else "count"
    value_type, minimum = given.get("as"), given.get("minimum")
    if value_type is not None and value_type not in VALUE_TYPES.get(reducer, ()):
        known = ", ".join(VALUE_TYPES.get(reducer, ())) or None
        _wrong(f"{path}.as", f"'{reducer}' cannot be taken as {value_type}", known and f"it knows: {known}")
    if minimum is not None and reducer != "mode":
        _wrong(f"{path}.minimum", "'minimum' belongs to 'mode'")
    if "within_parent" in given and not level:
        _wrong(f"{path}.within_parent", "'within_parent' has a meaning only inside the 'where' of an event", "within")
    where = None
    if "where" in given:
        forms = _listed(given["where"], f"{path}.where")
        where = _joined(And, [_condition(form, place, level + 1) for place, form in forms])
    return Reduction(
        event=given["event"],
        where=where,
        reducer=cast("Reducer", "unique" if reducer == "unique_count" else reducer),
        path=_keys(given[reducer], f"{path}.{reducer}") if reducers else None,
        window=_window(given, path, level),
        within_parent=_positive(given, "within_parent", path),
        value_type=cast("ValueType | None", value_type),
        minimum=(MODE_MINIMUM if minimum is None else minimum) if reducer == "mode" else None,
        counted=reducer == "unique_count",
        excluded=tuple(sorted(set(given.get("exclude_sources", ())))),
    )


def _window(given: Mapping[str, Any], path: str, level: int) -> Window | None:
    windows = [key for key in given if key in _WINDOWS]
    if len(windows) > 1:
        _wrong(f"{path}.{windows[1]}", f"'{windows[1]}' cannot stand beside '{windows[0]}'")
    if not windows:
        return None
    if windows[0] == "between":
        near, far = given["between"]
        if near >= far:
            _wrong(f"{path}.between", "the second length of time must be the longer one", "such as [30d, 90d]")
        return Between(near, far)
    span = _positive(given, windows[0], path)
    assert span is not None
    if windows[0] == "within":
        return Within(span)
    if level:
        _wrong(f"{path}.expires_after", "'expires_after' cannot stand inside 'where'", "within_parent")
    return Session(span)


def _positive(given: Mapping[str, Any], key: str, path: str) -> int | None:
    span: int | None = given.get(key)
    if span == 0:
        _wrong(f"{path}.{key}", f"'{key}' takes a length of time above zero")
    return span


def _constant(held: Any, path: str) -> Literal:
    if isinstance(held, bool | str):
        return Literal(held)
    number = measure(held)
    if number is None:
        _wrong(path, f"{held} is no number that can be compared with")
    return Literal(number)


def _keys(text: str, path: str) -> KeyPath:
    try:
        return key_path(None, text)
    except Refused as refused:
        raise _Wrong(path, str(refused), refused.suggestion) from None


def _wrong(path: str, message: str, suggestion: str | None = None) -> NoReturn:
    raise _Wrong(path, message, suggestion)

"""Definitions back to text: one canonical text per meaning of the parser, which parses to the same definition."""

from __future__ import annotations

from typing import Final, assert_never

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
    Reduction,
    Scalar,
    Session,
    SpanTest,
    TextTest,
    TraitRef,
    Window,
    Within,
)
from cdp_stream.model.time import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Duration, format_instant

_UNITS: Final = (("days", DAY_MS), ("hours", HOUR_MS), ("minutes", MINUTE_MS), ("seconds", SECOND_MS))


def format_definition(definition: Definition) -> str:
    """The definition in one line, keywords in capitals, single quotes, no needless parentheses."""
    return format_node(definition.body)


def format_node(node: Node) -> str:
    """A value or a condition as text."""
    return format_scalar(node) if isinstance(node, Scalar) else _condition(node)


def format_scalar(scalar: Scalar) -> str:
    """A value as text."""
    match scalar:
        case Literal(value):
            return _literal(value)
        case TraitRef(path):
            return f"trait({_path(path)})"
        case PropertyRef(path, parent):
            return f"property({'parent: ' if parent else ''}{_path(path)})"
        case ContextRef(path):
            return f"context({_path(path)})"
        case Reduction():
            return _reduction(scalar)
        case _:
            assert_never(scalar)


def format_span(span: Duration) -> str:
    """`7 days`: a length of time in the largest unit that divides it."""
    return next(f"{span // length} {unit}" for unit, length in _UNITS if span % length == 0)


def _reduction(reduction: Reduction) -> str:
    text = f"event({_quoted(reduction.event)})"
    if reduction.where is not None:
        text += f".where({_condition(reduction.where)})"
    if reduction.excluded:
        text += f".sources(exclude: [{', '.join(map(_quoted, reduction.excluded))}])"
    if reduction.window is not None:
        text += f".{_window(reduction.window)}"
    if reduction.within_parent is not None:
        text += f".within(parent: {format_span(reduction.within_parent)})"
    argument = "" if reduction.path is None else f"property({_path(reduction.path)})"
    if reduction.value_type is not None:
        argument += f" as {reduction.value_type}"
    if reduction.minimum is not None:
        argument += f", {reduction.minimum}"
    text += f".{reduction.reducer}({argument})"
    return text + ".count()" if reduction.counted else text


def _window(window: Window) -> str:
    match window:
        case Within(far):
            return f"within({format_span(far)})"
        case Between(near, far):
            return f"between({format_span(near)}, {format_span(far)})"
        case Session(gap):
            return f"expires_after({format_span(gap)})"
        case _:
            assert_never(window)


def _condition(condition: Condition) -> str:
    match condition:
        case Not(operand):
            return f"NOT {_enclosed(operand, And, Or)}"
        case And(operands):
            return " AND ".join(_enclosed(operand, Or) for operand in operands)
        case Or(operands):
            return " OR ".join(_condition(operand) for operand in operands)
        case Holds(scalar):
            return format_scalar(scalar)
        case Comparison(left, operator, right):
            return f"{format_scalar(left)} {operator} {format_scalar(right)}"
        case _:
            return f"{format_scalar(condition.left)}.{_called(condition)}"


def _called(test: TextTest | Membership | DateTest | SpanTest | Exists) -> str:
    """A test as the method that it is written as."""
    match test:
        case TextTest(_, operator, options):
            return f"{operator}({_listed(options)})"
        case Membership(_, options, negated):
            return f"{'none_of' if negated else 'one_of'}({_listed(options)})"
        case DateTest(_, operator, instant):
            return f"{operator}('{format_instant(instant)}')"
        case SpanTest(_, operator, span):
            return f"{operator}({format_span(span)})"
        case Exists(_, negated):
            return "absent()" if negated else "exists()"
        case _:
            assert_never(test)


def _enclosed(condition: Condition, *kinds: type[And | Or]) -> str:
    text = _condition(condition)
    return f"({text})" if isinstance(condition, kinds) else text


def _listed(options: tuple[Scalar, ...]) -> str:
    return ", ".join(format_scalar(option) for option in options)


def _literal(value: str | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _path(path: KeyPath) -> str:
    return _quoted(".".join(key.replace(".", "\\.") for key in path))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

"""Definitions back to text: one canonical text per meaning of the parser, which parses to the same definition."""

from __future__ import annotations

from typing import assert_never

from cdp_stream.language.nodes import (
    And,
    Comparison,
    Condition,
    Contains,
    Definition,
    Exists,
    Holds,
    KeyPath,
    Literal,
    Node,
    Not,
    Or,
    PropertyRef,
    Reduction,
    Scalar,
    TraitRef,
)


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
        case PropertyRef(path):
            return f"property({_path(path)})"
        case Reduction(event, where, reducer, path):
            kept = "" if where is None else f".where({_condition(where)})"
            argument = "" if path is None else f"property({_path(path)})"
            return f"event({_quoted(event)}){kept}.{reducer}({argument})"
        case _:
            assert_never(scalar)


def _condition(condition: Condition) -> str:
    match condition:
        case Comparison(left, operator, right):
            text = f"{format_scalar(left)} {operator} {format_scalar(right)}"
        case Contains(left, texts):
            text = f"{format_scalar(left)}.contains({', '.join(_quoted(text) for text in texts)})"
        case Exists(left):
            text = f"{format_scalar(left)}.exists()"
        case Holds(scalar):
            text = format_scalar(scalar)
        case Not(operand):
            text = f"NOT {_enclosed(operand, And, Or)}"
        case And(operands):
            text = " AND ".join(_enclosed(operand, Or) for operand in operands)
        case Or(operands):
            text = " OR ".join(_condition(operand) for operand in operands)
        case _:
            assert_never(condition)
    return text


def _enclosed(condition: Condition, *kinds: type[And | Or]) -> str:
    text = _condition(condition)
    return f"({text})" if isinstance(condition, kinds) else text


def _literal(value: str | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _path(path: KeyPath) -> str:
    return _quoted(".".join(key.replace(".", "\\.") for key in path))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

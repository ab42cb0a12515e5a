"""A checked definition as the YAML form that `forms.py` reads back."""

from __future__ import annotations

from typing import Any, Final, assert_never

from cdp_stream.config.fields import format_duration
from cdp_stream.language.events import MODE_MINIMUM
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
from cdp_stream.language.parse import COMPARATORS
from cdp_stream.model.time import format_instant

_SYMBOLS: Final = {operator: word for word, operator in COMPARATORS.items()}


def form_of(definition: Definition) -> dict[str, Any]:
    """The YAML form of a definition, as plain values."""
    body = definition.body
    return _scalar_form(body) if isinstance(body, Scalar) else _condition_form(body)


def _condition_form(condition: Condition) -> dict[str, Any]:
    match condition:
        case And(operands) | Or(operands):
            return {"all" if isinstance(condition, And) else "any": [_condition_form(operand) for operand in operands]}
        case Not(operand):
            return {"not": _condition_form(operand)}
        case Holds(scalar):
            return _scalar_form(scalar)
        case _:
            key, held = _test_form(condition)
            return {**_scalar_form(condition.left), key: held}


def _test_form(test: Comparison | TextTest | Membership | DateTest | SpanTest | Exists) -> tuple[str, Any]:
    """A test as the key that it is written under, and what stands there."""
    held: Any
    match test:
        case Comparison(_, operator, right):
            key, held = _SYMBOLS[operator], _operand_form(right)
        case TextTest(_, key, options):
            held = [_operand_form(option) for option in options]
        case Membership(_, options, negated):
            key, held = "none_of" if negated else "one_of", [_operand_form(option) for option in options]
        case DateTest(_, key, instant):
            held = format_instant(instant)
        case SpanTest(_, key, span):
            held = format_duration(span)
        case Exists(_, negated):
            key, held = "exists", not negated
        case _:
            assert_never(test)
    return key, held


def _operand_form(scalar: Scalar) -> Any:
    return scalar.value if isinstance(scalar, Literal) else _scalar_form(scalar)


def _scalar_form(scalar: Scalar) -> dict[str, Any]:
    match scalar:
        case Literal(value):
            return {"value": value}
        case TraitRef(path):
            return {"trait": _path_text(path)}
        case PropertyRef(path, parent):
            return {"parent" if parent else "property": _path_text(path)}
        case ContextRef(path):
            return {"context": _path_text(path)}
        case Reduction():
            return _reduction_form(scalar)
        case _:
            assert_never(scalar)


def _reduction_form(reduction: Reduction) -> dict[str, Any]:
    form: dict[str, Any] = {"event": reduction.event}
    where = reduction.where
    if isinstance(where, And):
        form["where"] = [_condition_form(operand) for operand in where.operands]
    elif where is not None:
        form["where"] = _condition_form(where)
    if reduction.excluded:
        form["exclude_sources"] = list(reduction.excluded)
    form |= _window_form(reduction.window)
    if reduction.within_parent is not None:
        form["within_parent"] = format_duration(reduction.within_parent)
    if reduction.path is not None:
        form["unique_count" if reduction.counted else reduction.reducer] = _path_text(reduction.path)
    if reduction.value_type is not None:
        form["as"] = reduction.value_type
    if reduction.minimum is not None and reduction.minimum != MODE_MINIMUM:
        form["minimum"] = reduction.minimum
    return form


def _window_form(window: Window | None) -> dict[str, Any]:
    match window:
        case Within(far):
            return {"within": format_duration(far)}
        case Between(near, far):
            return {"between": [format_duration(near), format_duration(far)]}
        case Session(gap):
            return {"expires_after": format_duration(gap)}
        case _:
            return {}


def _path_text(path: KeyPath) -> str:
    return ".".join(key.replace(".", "\\.") for key in path)

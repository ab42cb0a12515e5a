"""Definitions printed and parsed again are the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.language.nodes import (
    And,
    Comparison,
    Contains,
    Definition,
    Exists,
    Holds,
    Literal,
    Not,
    Or,
    PropertyRef,
    Reduction,
    TraitRef,
)
from cdp_stream.language.parse import parse_definition
from cdp_stream.language.printer import format_definition
from cdp_stream.language.values import measure

texts = st.text(st.characters(codec="utf-8"), max_size=5)
keys = st.text("ab.' \"é", min_size=1, max_size=4)
paths = st.lists(keys, min_size=1, max_size=3).map(tuple)
numbers = (st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)).map(measure)
literals = st.builds(Literal, texts | numbers | st.booleans())


def _conditions(values: st.SearchStrategy[Any], refs: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    operators = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
    leaves = (
        st.builds(Comparison, values, operators, values)
        | st.builds(Contains, values, st.lists(texts, min_size=1, max_size=2).map(tuple))
        | st.builds(Exists, values)
        | st.builds(Holds, refs)
    )

    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        def joined(kind: type[And | Or]) -> st.SearchStrategy[Any]:
            operands = inner.filter(lambda operand: not isinstance(operand, kind))
            return st.lists(operands, min_size=2, max_size=3).map(lambda some: kind(tuple(some)))

        return joined(And) | joined(Or) | st.builds(Not, inner)

    return st.recursive(leaves, grow, max_leaves=5)


property_refs = st.builds(PropertyRef, paths)
wheres = st.none() | _conditions(literals | property_refs, property_refs)
events = texts.filter(bool)
reductions = st.builds(
    Reduction, events, wheres, st.sampled_from(["sum", "avg", "min", "max", "first", "last"]), paths
) | st.builds(Reduction, events, wheres, st.just("count"), st.none())
trait_refs = st.builds(TraitRef, paths)
scalars = literals | trait_refs | reductions
definitions = (scalars | _conditions(scalars, trait_refs)).map(Definition)


def _as_alone(definition: Definition) -> Definition:
    """A trait alone is a value or a condition by where it stands, not by its text."""
    return Definition(definition.body.scalar) if isinstance(definition.body, Holds) else definition


@given(definitions)
def test_a_printed_definition_parses_to_itself(definition: Definition) -> None:
    assert _as_alone(definition) == parse_definition(format_definition(definition), "here")


def test_the_printed_form_is_canonical() -> None:
    one = """ (event("X").where( property("a\\.b").at_least(2.0) ).where(NOT(property('c'))).sum('p') = 'it\\'s') or trait('k')"""
    definition = parse_definition(one, "here")
    assert isinstance(definition, Definition)
    expected = (
        "event('X').where(property('a\\\\.b') >= 2 AND NOT property('c')).sum(property('p')) = 'it\\'s' OR trait('k')"
    )
    assert expected == format_definition(definition)

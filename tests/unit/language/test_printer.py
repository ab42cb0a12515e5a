"""Definitions printed and parsed again are the same."""

from __future__ import annotations

from definitions import definitions
from hypothesis import given

from cdp_stream.language.nodes import Definition, Holds
from cdp_stream.language.parse import parse_definition
from cdp_stream.language.printer import format_definition


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

"""The page about the query language shows what works and lists what does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from definitions import definitions
from hypothesis import given
from lark import Lark, UnexpectedInput

from cdp_stream.errors import Problem
from cdp_stream.language.nodes import Definition
from cdp_stream.language.parse import UNSUPPORTED, parse_definition
from cdp_stream.language.printer import format_definition

PAGE = (Path(__file__).parents[3] / "docs" / "query-language.md").read_text("utf-8")
GRAMMAR = Lark(PAGE.partition("```lark\n")[2].partition("```")[0], parser="earley")


def test_every_example_of_the_page_parses() -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    examples = [line for kind, block in blocks if not kind for line in block.splitlines() if line]
    assert 5 == len(examples)
    assert [] == [found for found in (parse_definition(line, line) for line in examples) if isinstance(found, Problem)]


def test_every_name_that_must_wait_is_listed() -> None:
    later = PAGE.partition("## Not supported")[2]
    assert [] == [name for name in sorted(UNSUPPORTED) if f"`{name}`" not in later]


@given(definitions)
def test_the_published_grammar_takes_every_definition(definition: Definition) -> None:
    GRAMMAR.parse(format_definition(definition))


@pytest.mark.parametrize(
    "text",
    [
        "event('X')",
        "event('X').where(trait('a')) >= 1",
        "event('X').count() >=",
        "event('X').count() 1",
        "trait(a)",
        "trait('a') AND",
        "(trait('a') = 1",
        "trait('a').one_of()",
        "event('X').within(7).count() = 0",
        "event('X').within(7 weeks).count() = 0",
        "event('X').sum() > 1",
        "event('X').first('p' as string) = 'a'",
        "event('X').unique('p').count",
        "trait('a') == 1",
        "trait('a').exists('b')",
        "sources('a')",
        "event('X').sources('a').count() > 1",
        "event('X').sources(exclude: []).count() > 1",
        "event('X').sources(exclude: [1]).count() > 1",
        "NOT",
        "event('X).count()",
    ],
)
def test_the_published_grammar_refuses_what_the_parser_refuses(text: str) -> None:
    assert isinstance(parse_definition(text, "here"), Problem)
    with pytest.raises(UnexpectedInput):
        GRAMMAR.parse(text)

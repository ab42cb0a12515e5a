"""The page about the query language shows what works and lists what does not."""

from __future__ import annotations

import re
from pathlib import Path

from cdp_stream.errors import Problem
from cdp_stream.language.parse import UNSUPPORTED, parse_definition

PAGE = (Path(__file__).parents[3] / "docs" / "query-language.md").read_text("utf-8")


def test_every_example_of_the_page_parses() -> None:
    examples = [line for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if line]
    assert 5 == len(examples)
    assert [] == [found for found in (parse_definition(line, line) for line in examples) if isinstance(found, Problem)]


def test_every_name_that_must_wait_is_listed() -> None:
    later = PAGE.partition("## Not supported")[2]
    assert [] == [name for name in sorted(UNSUPPORTED) if f"`{name}`" not in later]

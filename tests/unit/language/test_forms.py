"""The YAML form of definitions says what the text says, and both make one canonical text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from definitions import definitions
from hypothesis import given

from cdp_stream.config.form import Form
from cdp_stream.config.topology import parse_topology
from cdp_stream.errors import Problem, TopologyError
from cdp_stream.language.form_printer import form_of
from cdp_stream.language.forms import read_form
from cdp_stream.language.nodes import Definition, Holds
from cdp_stream.language.parse import parse_definition
from cdp_stream.language.printer import format_definition
from cdp_stream.pipeline import compile_topology

PAGE = (Path(__file__).parents[3] / "docs" / "query-language.md").read_text("utf-8")


def read(plain: Any, path: str = "where") -> Definition | Problem:
    return read_form(Form.model_validate(plain), path)


@given(definitions)
def test_a_form_that_was_made_of_a_definition_reads_as_it(definition: Definition) -> None:
    alone = Definition(definition.body.scalar) if isinstance(definition.body, Holds) else definition
    plain = json.loads(json.dumps(form_of(definition)))
    assert alone == read(plain)
    assert alone == read(yaml.safe_load(yaml.safe_dump(plain)))


def test_the_table_of_the_page_says_the_same_twice() -> None:
    table = PAGE.partition("## In YAML")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) >= 12
    for text, form in rows:
        said = parse_definition(text.strip("`"), "here")
        assert isinstance(said, Definition), text
        assert said == read(yaml.safe_load(form.strip("`"))), text


def test_the_example_of_the_page_is_valid() -> None:
    block = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
    plain = {"space": "s", "sources": [{"name": "w", "topic": "w"}], **yaml.safe_load(block)}
    plain["audiences"][0].pop("destinations", None)
    compiled = compile_topology(parse_topology(plain))
    assert "event('Cart Viewed').where(" in str(compiled.topology.audiences[0].definition)


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({}, "where: says nothing of what is meant; it needs one of: trait, property, parent, context, value, event, all, any, not"),
        ({"at_least": 1}, "where: says nothing of what is meant; it needs one of: trait, property, parent, context, value, event, all, any, not"),
        ({"trait": "a", "event": "b", "at_least": 1}, "where.event: 'event' cannot stand beside 'trait'"),
        ({"trait": "a", "within": "1d"}, "where.within: 'within' belongs to an 'event', not to 'trait'"),
        ({"all": [{"event": "b"}]}, "where.all[0]: this is a value; a condition is expected here; compare it, such as 'at_least: 1'"),
        ({"all": [{"trait": "a"}], "trait": "b"}, "where.trait: 'trait' cannot stand beside 'all'; nest one in the other"),
        ({"trait": "a", "equals": 1, "differs": 2}, "where.differs: 'differs' cannot stand beside 'equals'; join tests with 'all' or 'any'"),
        ({"trait": "a", "equals": {"trait": "b", "equals": 1}}, "where.equals.equals: 'equals' makes a condition; a value is expected here"),
        ({"property": "a", "equals": 1}, "where.property: 'property' has a meaning only inside the 'where' of an event"),
        ({"event": "X", "where": {"parent": "a", "equals": 1}}, "where.where.parent: 'parent' has a meaning only in a 'where' inside another 'where'"),
        ({"event": "X", "sum": "a", "avg": "b"}, "where.avg: 'avg' cannot stand beside 'sum'"),
        ({"event": "X", "sum": "a", "as": "string"}, "where.as: 'sum' cannot be taken as string"),
        ({"event": "X", "min": "a", "as": "array"}, "where.as: 'min' cannot be taken as array; it knows: string, number"),
        ({"event": "X", "minimum": 3}, "where.minimum: 'minimum' belongs to 'mode'"),
        ({"event": "X", "within": "1d", "between": ["1d", "2d"]}, "where.between: 'between' cannot stand beside 'within'"),
        ({"event": "X", "between": ["2d", "1d"]}, "where.between: the second length of time must be the longer one; such as [30d, 90d]"),
        ({"event": "X", "within": "0s"}, "where.within: 'within' takes a length of time above zero"),
        ({"event": "X", "within_parent": "1d"}, "where.within_parent: 'within_parent' has a meaning only inside the 'where' of an event; within"),
        ({"event": "X", "where": [{"trait": "a"}, {"event": "Y", "expires_after": "1d", "at_least": 1}]}, "where.where[1].expires_after: 'expires_after' cannot stand inside 'where'; within_parent"),
        ({"trait": "a", "contains": ["x", 5]}, "where.contains[1]: 'contains' takes texts; put it in quotes: '5'"),
        ({"trait": "a", "one_of": [{"event": "X"}]}, "where.one_of[0]: 'one_of' takes constants, traits and properties"),
        ({"trait": "a", "before_date": "2025-01-31"}, "where.before_date: '2025-01-31' is not a full ISO-8601 timestamp; such as '2025-01-31T00:00:00Z'"),
        ({"trait": "a..b"}, "where.trait: 'a..b' has an empty key between its dots; a dot inside a key is written \\."),
        ({"trait": "a", "equals": float("inf")}, "where.equals: inf is no number that can be compared with"),
        ({"any": [{"trait": f"t{n}"} for n in range(51)]}, "where.any[50]: the definition has 51 primary expressions; at most 50 are allowed, up to here; move a part of it to an audience or trait of its own, and refer to that: trait('its_key')"),
        ({"event": "X", "where": [{"property": f"p{n}"} for n in range(50)]}, "where.where[49]: the definition has 51 primary expressions; at most 50 are allowed, up to here; move a part of it to an audience or trait of its own, and refer to that: trait('its_key')"),
        ({"all": [{"trait": "a", "equals": {"event": "X", "where": {"any": [{"property": f"p{n}"} for n in range(49)]}}}, {"not": {"trait": "b"}}]}, "where.all[1].not: the definition has 51 primary expressions; at most 50 are allowed, up to here; move a part of it to an audience or trait of its own, and refer to that: trait('its_key')"),
        ({"trait": "a" * 10_001}, "where: as a text this has 10010 characters; at most 10000 are allowed"),
    ],
)  # fmt: skip
def test_a_form_that_makes_no_sense_says_where_and_why(plain: Any, said: str) -> None:
    assert said == str(read(plain))


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"event": "X", "wher": {"trait": "a"}}, "audiences[0].where.wher: unknown key 'wher'; did you mean 'where'?"),
        ({"trait": "a", "equals": {"trat": "b"}}, "audiences[0].where.equals.trat: unknown key 'trat'; did you mean 'trait'?"),
        ({"not": {"trait": "a", "equls": 1}}, "audiences[0].where.not.equls: unknown key 'equls'; did you mean 'equals'?"),
        ({"trait": "a", "equals": [1]}, "audiences[0].where.equals: a list should be a number, a text, true or false"),
        ({"trait": "a", "within_last": "7 days"}, "audiences[0].where.within_last: '7 days' should be a number with a unit: 30d, 12h, 15m or 10s"),
        ({"trait": "a", "exists": "yes"}, "audiences[0].where.exists: 'yes' should be true or false"),
        ({"event": "X", "where": {"propert": "a"}, "at_least": 1}, "audiences[0].where.where.propert: unknown key 'propert'; did you mean 'property'?"),
        ({"event": "X", "where": [{"propert": "a"}], "at_least": 1}, "audiences[0].where.where[0].propert: unknown key 'propert'; did you mean 'property'?"),
        ({"trait": "a", "one_of": [1, None]}, "audiences[0].where.one_of[1]: an empty value should be a number, a text, true or false"),
        *(
            ({"trait": "a", key: None}, f"audiences[0].where.{key}: an empty value says nothing; leave the key out, or test with 'exists'")
            for key in ("equals", "one_of", "exists", "before_date", "within_last")
        ),
        ({"event": "X", "where": None, "at_least": 1}, "audiences[0].where.where: an empty value says nothing; leave the key out, or test with 'exists'"),
        ({"event": "X", "between": ["30d"], "at_least": 1}, "audiences[0].where.between: a list should have at least 2 items"),
        ({"event": "X", "between": [], "at_least": 1}, "audiences[0].where.between: a list should not be empty"),
        ({"trait": "plan"}, None),
        ({"event": "X"}, "audiences[0].where: an audience needs a condition, and this is a value; compare it, such as `… >= 1`"),
    ],
)  # fmt: skip
def test_errors_in_a_topology_name_the_path_and_the_nearest_key(where: Any, said: str | None) -> None:
    plain = {"space": "s", "sources": [{"name": "w", "topic": "w"}], "audiences": [{"key": "a", "where": where}]}
    problems = []
    try:
        compile_topology(parse_topology(plain))
    except TopologyError as error:
        problems = [str(problem) for problem in error.problems]
    assert ([] if said is None else [said]) == problems


def test_an_unquoted_timestamp_is_one_to_yaml_and_here() -> None:
    plain = yaml.safe_load("{trait: renewal, before_date: 2025-01-31T02:00:00+02:00}")
    assert parse_definition("trait('renewal').before_date('2025-01-31T00:00:00Z')", "here") == read(plain)


def test_neither_form_nor_layout_makes_another_version() -> None:
    def version(**defined: Any) -> str:
        plain = {"space": "s", "sources": [{"name": "w", "topic": "w"}], "audiences": [{"key": "a", **defined}]}
        return compile_topology(parse_topology(plain)).version

    text = version(definition="event('X').within(7 days).count() >= 2 AND trait('b')")
    assert text == version(
        definition=""" (event("X").within(168 hours).count().at_least(2.0)) and trait('b')=true """.replace("=true", "")
    )
    assert text == version(where={"all": [{"event": "X", "within": "7d", "at_least": 2}, {"trait": "b"}]})
    assert text != version(where={"any": [{"event": "X", "within": "7d", "at_least": 2}, {"trait": "b"}]})


def test_what_was_written_twice_or_not_at_all_is_refused() -> None:
    plain = {"space": "s", "sources": [{"name": "w", "topic": "w"}]}
    listed = [
        {"key": "a"},
        {"key": "b", "definition": "trait('x')", "where": {"trait": "x"}},
        {"key": "c", "definition": None},
    ]
    with pytest.raises(TopologyError) as found:
        parse_topology({**plain, "audiences": listed})
    assert [
        "audiences[0].definition: 'definition' is missing; or say it in YAML, as 'where'",
        "audiences[1].where: 'where' says again what 'definition' says; keep one of them",
        "audiences[2].definition: an empty value should be text",
    ] == [str(problem) for problem in found.value.problems]


def test_a_definition_says_the_same_as_its_form() -> None:
    definition = parse_definition("event('X').unique('a').count() > 2", "here")
    assert isinstance(definition, Definition)
    assert {"event": "X", "unique_count": "a", "greater_than": 2} == form_of(definition)
    assert "event('X').unique(property('a')).count() > 2" == format_definition(definition)

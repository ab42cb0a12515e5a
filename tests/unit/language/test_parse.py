"""Definitions as text: what they mean, and how wrong ones are refused."""

from __future__ import annotations

import pytest

from cdp_stream.errors import Problem
from cdp_stream.language.nodes import (
    And,
    Comparison,
    Contains,
    Definition,
    Exists,
    Holds,
    Literal,
    Node,
    Not,
    Or,
    PropertyRef,
    Reduction,
    TraitRef,
)
from cdp_stream.language.parse import NOT_YET, PRIMARY_EXPRESSIONS_MAX, parse_definition

A, B, C = (Holds(TraitRef((key,))) for key in "abc")
ORDERS = Reduction("Order Completed", None, "count", None)


def meaning(text: str) -> Node:
    """The parsed body; fails with the problem if there is one."""
    definition = parse_definition(text, "here")
    assert isinstance(definition, Definition), definition
    return definition.body


def refusal(text: str) -> str:
    """What is said of a wrong definition, with path, place, message and suggestion."""
    problem = parse_definition(text, "audiences[2].definition")
    assert isinstance(problem, Problem), problem
    assert problem.path == "audiences[2].definition"
    return str(problem).removeprefix("audiences[2].definition: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event('Order Completed').count()", ORDERS),
        ("""event("Order Completed").count()""", ORDERS),
        ("event('X').sum(property('total'))", Reduction("X", None, "sum", ("total",))),
        ("event('X').sum('total')", Reduction("X", None, "sum", ("total",))),
        ("event('X').last('cart.total')", Reduction("X", None, "last", ("cart", "total"))),
        ("trait('a.b.c')", TraitRef(("a", "b", "c"))),
        (r"trait('a\.b.c')", TraitRef(("a.b", "c"))),
        (r"trait('a\\.b.c')", TraitRef(("a.b", "c"))),
        (r"trait('a\\\\.b.c')", TraitRef(("a.b", "c"))),
        (r"'it\'s'", Literal("it's")),
        ("-5", Literal(-5)),
        ("2.50", Literal(2.5)),
        ("2e2", Literal(200)),
        ("18446744073709551615", Literal(2**64 - 1)),
        ("(((1)))", Literal(1)),
        ("trait('a') = true", Comparison(TraitRef(("a",)), "=", Literal(value=True))),
        ("trait('a') != FALSE", Comparison(TraitRef(("a",)), "!=", Literal(value=False))),
        ("trait('a').exists()", Exists(TraitRef(("a",)))),
        ("trait('a').contains('x', 'y')", Contains(TraitRef(("a",)), ("x", "y"))),
        (
            "event('Order Completed').count() > trait('a')",
            Comparison(ORDERS, ">", TraitRef(("a",))),
        ),
    ],
)
def test_values_and_comparisons_mean_what_they_say(text: str, expected: Node) -> None:
    assert expected == meaning(text)


@pytest.mark.parametrize(
    ("named", "operator"),
    [
        ("equals", "="),
        ("differs", "!="),
        ("less_than", "<"),
        ("at_most", "<="),
        ("greater_than", ">"),
        ("at_least", ">="),
    ],
)
def test_a_named_comparison_is_the_same_as_its_sign(named: str, operator: str) -> None:
    assert meaning(f"trait('a') {operator} 5") == meaning(f"trait('a').{named}(5)")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trait('a') OR trait('b') AND trait('c')", Or((A, And((B, C))))),
        ("(trait('a') OR trait('b')) AND trait('c')", And((Or((A, B)), C))),
        ("NOT trait('a') AND trait('b')", And((Not(A), B))),
        ("NOT (trait('a') AND trait('b'))", Not(And((A, B)))),
        ("NOT trait('a') = 1", Not(Comparison(TraitRef(("a",)), "=", Literal(1)))),
        ("trait('a') and not trait('b') Or trait('c')", Or((And((A, Not(B))), C))),
        ("trait('a') AND (trait('b') AND trait('c'))", And((A, B, C))),
        ("trait('a')\n  OR\ttrait('b')", Or((A, B))),
        ("NOT(trait('a'))", Not(A)),
    ],
)
def test_and_binds_tighter_than_or_and_not_tightest(text: str, expected: Node) -> None:
    assert expected == meaning(text)


def test_filters_one_after_another_are_joined_with_and() -> None:
    split = "event('X').where(property('a') = 1).where(property('b') = 2 AND property('c')).count()"
    joined = "event('X').where(property('a') = 1 AND property('b') = 2 AND property('c')).count()"
    expected = And(
        (
            Comparison(PropertyRef(("a",)), "=", Literal(1)),
            Comparison(PropertyRef(("b",)), "=", Literal(2)),
            Holds(PropertyRef(("c",))),
        )
    )
    assert Reduction("X", expected, "count", None) == meaning(split) == meaning(joined)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event('X').within(30 days).count()", "line 1, column 12: within() is not supported yet"),
        ("event('X').between(30 days, 90 days).count()", "line 1, column 12: between() is not supported yet"),
        ("event('X').expires_after(1 hours).sum('a')", "line 1, column 12: expires_after() is not supported yet"),
        ("event('X').sources(exclude: ['a']).count()", "line 1, column 12: sources() is not supported yet"),
        ("event('X').mode(property('a') as string, 2)", "line 1, column 12: mode() is not supported yet"),
        ("event('X').unique(property('a')).count()", "line 1, column 12: unique() is not supported yet"),
        ("event('X').min(property('a') as string)", "line 1, column 16: min(… as string) is not supported yet"),
        ("trait('a').one_of('x', 'y')", "line 1, column 12: one_of() is not supported yet"),
        ("trait('a').within_last(7 days)", "line 1, column 12: within_last() is not supported yet"),
        ("entity('slug').count()", "line 1, column 1: entity() is not supported yet"),
        ("context('page.url') = 'x'", "line 1, column 1: context() is not supported yet"),
        ("ANY (trait('a'))", "line 1, column 1: ANY is not supported yet; it is for account audiences"),
        ("all not trait('a')", "line 1, column 1: ALL is not supported yet; it is for account audiences"),
        ("trait('a$.b.$')", "line 1, column 1: '$' (each element of an array) is not supported yet"),
        (
            "event('X').where(property(parent: 'p') = 1).count()",
            "line 1, column 27: property(parent: …) is not supported yet",
        ),
        (
            "event('X').where(property('total') > trait('avg')).count()",
            "line 1, column 38: trait() inside where() is not supported yet",
        ),
        (
            "event('X').where(NOT (event('Y').count() >= 1)).count()",
            "line 1, column 23: event() inside where() is not supported yet",
        ),
    ],
)
def test_what_is_not_supported_yet_is_refused_by_name(text: str, expected: str) -> None:
    assert expected == refusal(text)


@pytest.mark.parametrize("name", sorted(NOT_YET - {"ANY", "ALL"}))
def test_every_known_name_that_must_wait_is_refused_wherever_it_stands(name: str) -> None:
    for text in (f"{name}('a') = 1", f"event('X').{name}('a').count()", f"trait('a').{name}('a')"):
        assert f"{name}() is not supported yet" in refusal(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event('X').cuont()", "line 1, column 12: unknown name 'cuont'; did you mean count()?"),
        ("event('X').witin(3 days).count()", "line 1, column 12: unknown name 'witin'; did you mean within()?"),
        ("Trait('a')", "line 1, column 1: unknown name 'Trait'; did you mean trait()?"),
        ("frobnicate('a')", "line 1, column 1: unknown name 'frobnicate'; here are known: event, trait, property"),
        ("trait('a') == 1", "line 1, column 12: unknown comparison '=='; use ="),
        ("trait('a') =! 1", "line 1, column 12: unknown comparison '=!'; known are = != < <= > >="),
        ("count('a')", "line 1, column 1: count() cannot stand here; here are known: event, trait, property"),
        ("trait('a').count()", "line 1, column 12: count() applies to event('…')"),
        ("trait('a').where(1)", "line 1, column 12: where() applies to event('…')"),
        (
            "event('X').exists()",
            "line 1, column 12: exists() needs a value; reduce the events first, such as .count().exists(…)",
        ),
        ("event('X')", "line 1, column 1: event('X') alone is no value; end it with a reducer, such as .count()"),
        ("property('a') = 1", "line 1, column 1: property() has a meaning only inside where() or a reducer"),
        ("trait(a)", "line 1, column 1: trait() takes one text in quotes; trait('…')"),
        ("trait('')", "line 1, column 1: trait('') names nothing"),
        (
            "trait('a..b')",
            "line 1, column 1: 'a..b' has an empty key between its dots; a dot inside a key is written \\.",
        ),
        ("trait('a') = gold", "line 1, column 14: unexpected word 'gold'; write 'gold' in quotes, or gold(…)"),
        ("trait('a') = null", "line 1, column 14: null cannot be compared with; use .exists() or NOT ….exists()"),
        ("trait('a').exists(1)", "line 1, column 12: exists() takes no argument"),
        ("trait('a').contains()", "line 1, column 12: contains() takes texts in quotes; contains('…', '…')"),
        ("trait('a').equals(1, 2)", "line 1, column 12: equals() takes one value, not 2"),
        (
            "event('X').where(1 = 1, 2 = 2).count()",
            "line 1, column 12: where() takes one condition, not 2; join them with AND",
        ),
        (
            "event('X').where(1).count()",
            "line 1, column 18: this is a value; a condition is expected here; compare it, such as `… >= 1`",
        ),
        (
            "event('X').count('a')",
            "line 1, column 12: count() takes no argument; filter with where() before it",
        ),
        ("event('X').sum()", "line 1, column 12: sum() takes one property, not 0; sum(property('p'))"),
        (
            "trait('a').exists().exists()",
            "line 1, column 21: exists() applies to a value, and this is a condition; join conditions with AND, OR",
        ),
        (
            "(trait('a') = 1) = 2",
            "line 1, column 2: this is a condition; a value is expected here; a number, a text, trait('k') …",
        ),
        (
            "(trait('a') OR trait('b')).exists()",
            "line 1, column 28: exists() applies to a value, and this is a condition; join conditions with AND, OR",
        ),
        ("[1] = 1", "line 1, column 1: this cannot stand here; a value is expected"),
        ("trait('a') = 1e999", "line 1, column 14: 1e999 is too long or too large a number"),
        ("trait('a') = 'x", "line 1, column 14: this text in quotes does not end; close it with '"),
        ("trait('a') = #", "line 1, column 14: unexpected '#'"),
        ("trait('a')\n  trait('b')", "line 2, column 3: unexpected 'trait'; expected '.' or AND or OR or a comparison or the end"),
        ("trait('a') AND\n", "line 1, column 15: the definition ends too early; expected '(' or a name or a value"),
        ("  ", "the definition is empty"),
        ("x" * 10_001, "the definition has 10001 characters; at most 10000 are allowed"),
        ("NOT " * 100 + "trait('a')", "line 1, column 401: the definition is nested more than 100 deep"),
    ],
)  # fmt: skip
def test_a_wrong_definition_is_explained_with_its_place(text: str, expected: str) -> None:
    assert expected == refusal(text)


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    assert "is too long or too large a number" in refusal("trait('a') = " + "9" * 5_000)


def test_fifty_primary_expressions_are_allowed_and_not_one_more() -> None:
    outside = " OR ".join(["trait('a') = 1"] * (PRIMARY_EXPRESSIONS_MAX - 2))
    inside = "event('X').where(property('p') = 1).count() = 1"
    assert isinstance(parse_definition(f"{outside} OR {inside}", "here"), Definition)
    assert (
        "the definition has 51 primary expressions; at most 50 are allowed; "
        "split it into audiences that refer to one another"
    ) == refusal(f"{outside} OR {inside} OR NOT trait('b')")

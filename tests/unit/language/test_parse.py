"""Definitions as text: what they mean, and how wrong ones are refused."""

from __future__ import annotations

import pytest

from cdp_stream.errors import Problem
from cdp_stream.language.nodes import (
    And,
    Between,
    Comparison,
    DateTest,
    Definition,
    Exists,
    Holds,
    Literal,
    Membership,
    Node,
    Not,
    Or,
    PropertyRef,
    Reduction,
    Session,
    SpanTest,
    TextTest,
    TraitRef,
    Within,
)
from cdp_stream.language.parse import PRIMARY_EXPRESSIONS_MAX, UNSUPPORTED, parse_definition
from cdp_stream.model.time import DAY_MS, HOUR_MS

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
        ("trait('a').contains('x', 'y')", TextTest(TraitRef(("a",)), "contains", (Literal("x"), Literal("y")))),
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


ONE = Reduction("X", None, "count", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event('X').within(30 days).count()", Reduction("X", None, "count", None, Within(30 * DAY_MS))),
        ("event('X').within(1 hour).count()", Reduction("X", None, "count", None, Within(HOUR_MS))),
        (
            "event('X').between(30 days, 90 days).first('a')",
            Reduction("X", None, "first", ("a",), Between(30 * DAY_MS, 90 * DAY_MS)),
        ),
        ("event('X').between(0 days, 1 days).count()", Reduction("X", None, "count", None, Between(0, DAY_MS))),
        ("event('X').expires_after(1800 seconds).sum('a')", Reduction("X", None, "sum", ("a",), Session(HOUR_MS // 2))),
        ("event('X').mode('a')", Reduction("X", None, "mode", ("a",), minimum=2)),
        (
            "event('X').mode(property('a.$') as array, 3)",
            Reduction("X", None, "mode", ("a", "$"), value_type="array", minimum=3),
        ),
        ("event('X').unique(property('a'))", Reduction("X", None, "unique", ("a",))),
        ("event('X').unique('a').count()", Reduction("X", None, "unique", ("a",), counted=True)),
        ("event('X').min('a' as string)", Reduction("X", None, "min", ("a",), value_type="string")),
        ("trait('a').omits('x')", TextTest(TraitRef(("a",)), "omits", (Literal("x"),))),
        ("trait('a').starts_with(trait('b'))", TextTest(TraitRef(("a",)), "starts_with", (TraitRef(("b",)),))),
        ("trait('a').one_of('x', 5)", Membership(TraitRef(("a",)), (Literal("x"), Literal(5)))),
        ("trait('a').none_of(['x', true])", Membership(TraitRef(("a",)), (Literal("x"), Literal(value=True)), negated=True)),
        ("trait('a').absent()", Exists(TraitRef(("a",)), negated=True)),
        ("trait('a').within_last(7 days)", SpanTest(TraitRef(("a",)), "within_last", 7 * DAY_MS)),
        ("trait('a').after_next(0 hours)", SpanTest(TraitRef(("a",)), "after_next", 0)),
        ("trait('a').before_date('1970-01-01T00:00:01Z')", DateTest(TraitRef(("a",)), "before_date", 1000)),
        ("trait('a').after_date('1970-01-01T02:00:00+02:00')", DateTest(TraitRef(("a",)), "after_date", 0)),
        ("trait('a$.b.$')", TraitRef(("a$", "b", "$"))),
    ],
)  # fmt: skip
def test_windows_reducers_and_operators_mean_what_they_say(text: str, expected: Node) -> None:
    assert expected == meaning(text)


def test_a_funnel_is_a_condition_on_later_events() -> None:
    child = Reduction(
        "Ordered", Comparison(PropertyRef(("sku",)), "=", PropertyRef(("sku",), parent=True)), "count", None,
        within_parent=7 * DAY_MS,
    )  # fmt: skip
    expected = Reduction("Added", Comparison(child, "=", Literal(0)), "count", None, Within(30 * DAY_MS))
    assert expected == meaning(
        "event('Added').where(event('Ordered').where(property('sku') = property(parent: 'sku'))"
        ".within(parent: 7 days).count() = 0).within(30 days).count()"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ANY (trait('a'))", "line 1, column 1: ANY stands in definitions of accounts only; leave it out for users"),
        ("all not trait('a')", "line 1, column 1: ALL stands in definitions of accounts only; leave it out for users"),
        ("event('X').within(30 dais).count()", "line 1, column 22: unknown unit 'dais'; did you mean days?"),
        ("event('X').within(30).count()", "line 1, column 19: within() takes a number and a unit; within(7 days)"),
        ("event('X').within(0 days).count()", "line 1, column 19: within() takes a length of time above zero"),
        ("event('X').within(1.5 days).count()", "line 1, column 19: 1.5 is not a whole number of days"),
        ("event('X').within(40000 days).count()", "line 1, column 19: 40000 days is too long; at most 36500 days"),
        (
            "event('X').between(9 days, 3 days).count()",
            "line 1, column 28: the second length of between() must be the longer one",
        ),
        (
            "event('X').within(3 days).within(9 days).count()",
            "line 1, column 27: the events have a time window already; one of within(), between(), expires_after()",
        ),
        (
            "event('X').within(parent: 3 days).count()",
            "line 1, column 12: within(parent: …) has a meaning only inside where(); within(7 days)",
        ),
        (
            "event('X').where(property(parent: 'a') = 1).count()",
            "line 1, column 18: property(parent: …) has a meaning only in a where() inside another where()",
        ),
        (
            "event('X').where(event('Y').expires_after(1 days).count() = 1).count()",
            "line 1, column 29: expires_after() cannot stand inside where(); within(parent: …)",
        ),
        ("event('X').sum('a' as string)", "line 1, column 23: sum() cannot be taken 'as string'"),
        ("event('X').min('a' as text)", "line 1, column 23: min() cannot be taken 'as text'; it knows: as string, as number"),
        (
            "event('X').mode('a', 0)",
            "line 1, column 22: mode() takes a whole number above zero as the least frequency; mode('p', 2)",
        ),
        (
            "trait('a').before_date('2025-01-01T00:00:00')",
            "line 1, column 24: '2025-01-01T00:00:00' is not a full ISO-8601 timestamp; end it with Z: '2025-01-01T00:00:00Z'",
        ),
        (
            "trait('a').after_date('2025-01-01')",
            "line 1, column 23: '2025-01-01' is not a full ISO-8601 timestamp; such as '2025-01-31T00:00:00Z'",
        ),
        ("trait('a').starts_with(5)", "line 1, column 24: starts_with() takes texts in quotes; starts_with('…', '…')"),
        (
            "trait('a').one_of(event('X').count())",
            "line 1, column 19: one_of() takes constants, trait() and property()",
        ),
        ("trait('$.a')", "line 1, column 1: '$' stands for the elements of an array, and comes after its key; such as 'items.$.name'"),
        ("event('X').unique('a').count(1)", "line 1, column 24: count() takes no argument"),
        ("event('X').unique('a').count().count()", "line 1, column 32: count() applies to event('…')"),
    ],
)  # fmt: skip
def test_what_windows_and_operators_cannot_take_is_explained(text: str, expected: str) -> None:
    assert expected == refusal(text)


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_every_known_name_that_is_not_supported_is_refused_wherever_it_stands(name: str) -> None:
    for text in (f"{name}('a') = 1", f"event('X').{name}('a').count()", f"trait('a').{name}('a')"):
        assert f"{name}() is not supported" in refusal(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event('X').cuont()", "line 1, column 12: unknown name 'cuont'; did you mean count()?"),
        ("event('X').witin(3 days).count()", "line 1, column 12: unknown name 'witin'; did you mean within()?"),
        ("Trait('a')", "line 1, column 1: unknown name 'Trait'; did you mean trait()?"),
        ("frobnicate('a')", "line 1, column 1: unknown name 'frobnicate'; here are known: event, trait, property, context"),
        ("trait('a') == 1", "line 1, column 12: unknown comparison '=='; use ="),
        ("trait('a') =! 1", "line 1, column 12: unknown comparison '=!'; known are = != < <= > >="),
        ("count('a')", "line 1, column 1: count() cannot stand here; here are known: event, trait, property, context"),
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
        ("trait('a').contains()", "line 1, column 12: contains() takes one value or more; contains('…', '…')"),
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
        "line 2, column 9: the definition has 51 primary expressions; at most 50 are allowed, up to here; "
        "move a part of it to an audience or trait of its own, and refer to that: trait('its_key')"
    ) == refusal(f"{outside} OR {inside}\n OR NOT trait('b')")


MANY = " AND ".join(["property('p') = 1"] * (PRIMARY_EXPRESSIONS_MAX - 1))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        # The comparison around is the first of them, though it ends last.
        (f"event('X').where(\n{MANY}\nAND property('p').contains('x')).count() = 1", "line 3, column 5"),
        (f"event('X').where(\n{MANY}\nAND property('p') AND property('q')).count()", "line 3, column 5"),
        (f"event('X').where({MANY}\n).count() = 1 AND\n(trait('b').one_of(1, 2) OR trait('c'))", "line 3, column 2"),
        (f"trait('a') = event('X').where({MANY}).count()\nOR trait('d').exists() AND trait('e')", "line 2, column 4"),
    ],
)
def test_the_first_primary_expression_too_many_is_shown(text: str, place: str) -> None:
    assert refusal(text).startswith(f"{place}: the definition has 5"), refusal(text)

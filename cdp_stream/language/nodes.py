"""Definitions, step 2 of 4: what a definition says, as frozen values. Positions stay behind in the parser."""

from __future__ import annotations

from typing import Literal as OneOf

from msgspec import Struct

from cdp_stream.model.change import SOURCE_KEY
from cdp_stream.model.time import Duration, Instant

KeyPath = tuple[str, ...]
"""Keys from the outside in; `page.url` is `("page", "url")`. `$` stands for each element of an array."""

Reducer = OneOf["count", "sum", "avg", "min", "max", "first", "last", "mode", "unique"]
Operator = OneOf["=", "!=", "<", "<=", ">", ">="]
ValueType = OneOf["string", "number", "array"]
TextOperator = OneOf["contains", "omits", "starts_with", "ends_with"]
DateOperator = OneOf["before_date", "after_date"]
SpanOperator = OneOf["within_last", "within_next", "before_last", "after_next"]


class Literal(Struct, frozen=True):
    """A constant. Numbers are canonical: `200`, `200.0` and `2e2` are the same one."""

    value: str | int | float | bool


class TraitRef(Struct, frozen=True):
    """`trait('k')`: a computed trait, a membership or a custom trait; further keys look into its value."""

    path: KeyPath


class PropertyRef(Struct, frozen=True):
    """`property('p')` of the event in hand, or `property(parent: 'p')` of the one around; only inside `where()`."""

    path: KeyPath
    parent: bool = False


class ContextRef(Struct, frozen=True):
    """`context('page.url')` of the event in hand; only inside `where()`."""

    path: KeyPath


class Within(Struct, frozen=True, tag="within"):
    """`within(30 days)`: event times in (now - far, now]."""

    far: Duration


class Between(Struct, frozen=True, tag="between"):
    """`between(30 days, 90 days)`: event times in (now - far, now - near]."""

    near: Duration
    far: Duration


class Session(Struct, frozen=True, tag="session"):
    """`expires_after(1 hours)`: the latest burst of events, each less than the gap after the one before, until the
    gap has passed since its last.
    """

    gap: Duration


Window = Within | Between | Session


class Reduction(Struct, frozen=True):
    """`event('X').where(...).within(...).sum(property('p'))`: matching events brought down to one value."""

    event: str
    where: Condition | None
    reducer: Reducer
    path: KeyPath | None
    """The property that is reduced; None for `count()`."""
    window: Window | None = None
    within_parent: Duration | None = None
    """Inside a `where()`: how long after the event around it these may come; None for any time after it."""
    value_type: ValueType | None = None
    """`as …` of min, max and mode."""
    minimum: int | None = None
    """Of mode: how often a value must be seen."""
    counted: bool = False
    """`unique(…).count()`."""
    excluded: tuple[str, ...] = ()
    """Names of the sources whose events do not count, in alphabetical order."""


Scalar = Literal | TraitRef | PropertyRef | ContextRef | Reduction


class Comparison(Struct, frozen=True):
    """`left operator right`; false when either side has no value."""

    left: Scalar
    operator: Operator
    right: Scalar


class TextTest(Struct, frozen=True):
    """`left.contains('a', 'b')`, `starts_with`, `ends_with`: true of any of the options; `omits`: of none."""

    left: Scalar
    operator: TextOperator
    options: tuple[Scalar, ...]


class Membership(Struct, frozen=True):
    """`left.one_of(…)`: equal to one of the options; negated, `none_of`: to none, also when there is no value."""

    left: Scalar
    options: tuple[Scalar, ...]
    negated: bool = False


class DateTest(Struct, frozen=True):
    """`left.before_date('…Z')` or `after_date`."""

    left: Scalar
    operator: DateOperator
    instant: Instant


class SpanTest(Struct, frozen=True):
    """`left.within_last(7 days)` and its like: a date compared with now."""

    left: Scalar
    operator: SpanOperator
    span: Duration


class Exists(Struct, frozen=True):
    """`left.exists()`: there is a value, be it an empty text; negated, `absent()`: there is none."""

    left: Scalar
    negated: bool = False


class Holds(Struct, frozen=True):
    """A value standing alone as a condition: it is `true`."""

    scalar: TraitRef | PropertyRef | ContextRef


class Not(Struct, frozen=True):
    """The opposite; of a comparison with a missing value it is true."""

    operand: Condition


class And(Struct, frozen=True):
    """Every operand holds. Never directly inside another And."""

    operands: tuple[Condition, ...]


class Or(Struct, frozen=True):
    """Some operand holds. Never directly inside another Or."""

    operands: tuple[Condition, ...]


Condition = Comparison | TextTest | Membership | DateTest | SpanTest | Exists | Holds | Not | And | Or
Node = Scalar | Condition
Test = Comparison | TextTest | Membership | DateTest | SpanTest | Exists | Holds


class Definition(Struct, frozen=True):
    """A parsed definition: a value (for a trait) or a condition (for an audience)."""

    body: Node


def tests_of(condition: Condition) -> list[Test]:
    """The tests that a condition is made of, from left to right; not those inside `where()`."""
    match condition:
        case And(operands) | Or(operands):
            return [test for operand in operands for test in tests_of(operand)]
        case Not(operand):
            return tests_of(operand)
        case _:
            return [condition]


def scalars_of(node: Node) -> list[Scalar]:
    """The values that a value or a condition is made of, from left to right; not those inside `where()`."""
    if isinstance(node, Scalar):
        return [node]
    found: list[Scalar] = []
    for test in tests_of(node):
        match test:
            case Comparison(left, _, right):
                found += [left, right]
            case TextTest(left, _, options) | Membership(left, options):
                found += [left, *options]
            case Holds(scalar):
                found.append(scalar)
            case _:
                found.append(test.left)
    return found


def reductions_of(node: Node) -> list[Reduction]:
    """Every reduction in a value or condition, those inside `where()` after the one around them."""
    found: list[Reduction] = []
    for scalar in scalars_of(node):
        if isinstance(scalar, Reduction):
            found.append(scalar)
            if scalar.where is not None:
                found += reductions_of(scalar.where)
    return found


def wheres_of(node: Node) -> list[Condition]:
    """The conditions inside the `where()` of a value or condition, those inside others after them."""
    return [reduction.where for reduction in reductions_of(node) if reduction.where is not None]


def trait_keys_of(node: Node) -> list[str]:
    """Keys of the traits that a value or condition reads, also inside `where()`; in order, each once."""
    found: dict[str, None] = {}
    for scalar in scalars_of(node):
        if isinstance(scalar, TraitRef):
            found[scalar.path[0]] = None
        elif isinstance(scalar, Reduction) and scalar.where is not None:
            found.update(dict.fromkeys(trait_keys_of(scalar.where)))
    return list(found)


def context_keys_of(node: Node) -> list[str]:
    """Outermost keys of the context that a value or condition reads, that of the source included; in order, each once."""
    refs = [scalar for where in wheres_of(node) for scalar in scalars_of(where) if isinstance(scalar, ContextRef)]
    source = [SOURCE_KEY] if any(reduction.excluded for reduction in reductions_of(node)) else []
    return list(dict.fromkeys([*(ref.path[0] for ref in refs), *source]))

"""Definitions, step 2 of 4: what a definition says, as frozen values. Positions stay behind in the parser."""

from __future__ import annotations

from typing import Literal as OneOf

from msgspec import Struct

KeyPath = tuple[str, ...]
"""Keys from the outside in; `page.url` is `("page", "url")`."""

Reducer = OneOf["count", "sum", "avg", "min", "max", "first", "last"]
Operator = OneOf["=", "!=", "<", "<=", ">", ">="]


class Literal(Struct, frozen=True):
    """A constant. Numbers are canonical: `200`, `200.0` and `2e2` are the same one."""

    value: str | int | float | bool


class TraitRef(Struct, frozen=True):
    """`trait('k')`: a computed trait, a membership or a custom trait; further keys look into its value."""

    path: KeyPath


class PropertyRef(Struct, frozen=True):
    """`property('p')` of the event in hand; only inside `where()`."""

    path: KeyPath


class Reduction(Struct, frozen=True):
    """`event('X').where(...).sum(property('p'))`: matching events brought down to one value."""

    event: str
    where: Condition | None
    reducer: Reducer
    path: KeyPath | None
    """The property that is reduced; None for `count()`."""


Scalar = Literal | TraitRef | PropertyRef | Reduction


class Comparison(Struct, frozen=True):
    """`left operator right`; false when either side has no value."""

    left: Scalar
    operator: Operator
    right: Scalar


class Contains(Struct, frozen=True):
    """`left.contains('a', 'b')`: any of the texts is part of it."""

    left: Scalar
    texts: tuple[str, ...]


class Exists(Struct, frozen=True):
    """`left.exists()`: there is a value, be it an empty text."""

    left: Scalar


class Holds(Struct, frozen=True):
    """A value standing alone as a condition: it is `true`."""

    scalar: TraitRef | PropertyRef


class Not(Struct, frozen=True):
    """The opposite; of a comparison with a missing value it is true."""

    operand: Condition


class And(Struct, frozen=True):
    """Every operand holds. Never directly inside another And."""

    operands: tuple[Condition, ...]


class Or(Struct, frozen=True):
    """Some operand holds. Never directly inside another Or."""

    operands: tuple[Condition, ...]


Condition = Comparison | Contains | Exists | Holds | Not | And | Or
Node = Scalar | Condition


class Definition(Struct, frozen=True):
    """A parsed definition: a value (for a trait) or a condition (for an audience)."""

    body: Node

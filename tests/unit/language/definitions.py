"""Every shape that a definition can have, as strategies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from cdp_stream.language.nodes import (
    And,
    Between,
    Comparison,
    ContextRef,
    DateTest,
    Definition,
    Exists,
    Holds,
    Literal,
    Membership,
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
from cdp_stream.language.values import measure
from cdp_stream.model.time import INSTANT_MAX, SECOND_MS

texts = st.text(st.characters(codec="utf-8"), max_size=5)
keys = st.text("ab.' \"é", min_size=1, max_size=4)
paths = st.builds(lambda first, rest: (first, *rest), keys, st.lists(keys | st.just("$"), max_size=2))
spans = st.integers(0, 4_000_000).map(lambda seconds: seconds * SECOND_MS)
lengths = spans.filter(bool)
numbers = (st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)).map(measure)
text_literals = st.builds(Literal, texts)
literals = st.builds(Literal, texts | numbers | st.booleans())


def _unnamed(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The same; its text, which hypothesis asks for, would be pages long."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Any:
        return draw(strategy)

    return drawn()


def _some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, min_size=1, max_size=2).map(tuple)


def _conditions(values: st.SearchStrategy[Any], refs: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    operators = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
    leaves = _unnamed(
        st.builds(Comparison, values, operators, values)
        | st.builds(
            TextTest,
            values,
            st.sampled_from(["contains", "omits", "starts_with", "ends_with"]),
            _some(text_literals | refs),
        )
        | st.builds(Membership, values, _some(literals | refs), st.booleans())
        | st.builds(DateTest, values, st.sampled_from(["before_date", "after_date"]), st.integers(0, INSTANT_MAX))
        | st.builds(
            SpanTest, values, st.sampled_from(["within_last", "within_next", "before_last", "after_next"]), spans
        )
        | st.builds(Exists, values, st.booleans())
        | st.builds(Holds, refs)
    )

    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        def joined(kind: type[And | Or]) -> st.SearchStrategy[Any]:
            operands = inner.filter(lambda operand: not isinstance(operand, kind))
            return st.lists(operands, min_size=2, max_size=3).map(lambda some: kind(tuple(some)))

        return joined(And) | joined(Or) | st.builds(Not, inner)

    return _unnamed(st.recursive(leaves, grow, max_leaves=5))


events = texts.filter(bool)
windows = (
    st.none() | st.builds(Within, lengths) | st.builds(lambda near, more: Between(near, near + more), spans, lengths)
)


def _reductions(wheres: st.SearchStrategy[Any], *, nested: bool = False) -> st.SearchStrategy[Any]:
    """Every shape a reduction can have, over these conditions."""
    over = windows if nested else windows | st.builds(Session, lengths)
    parents = st.none() | lengths if nested else st.none()
    plain = st.sampled_from(["sum", "avg", "min", "max", "first", "last", "unique"])
    excluded = st.lists(events, unique=True, min_size=1, max_size=2).map(lambda names: tuple(sorted(names)))
    return (
        st.builds(Reduction, events, wheres, plain, paths, over, parents, excluded=excluded)
        | st.builds(Reduction, events, wheres, plain, paths, over, parents)
        | st.builds(Reduction, events, wheres, st.just("count"), st.none(), over, parents)
        | st.builds(Reduction, events, wheres, st.sampled_from(["min", "max"]), paths, over, parents, st.sampled_from(["string", "number"]))
        | st.builds(Reduction, events, wheres, st.just("mode"), paths, over, parents, st.sampled_from([None, "string", "number", "array"]), st.integers(1, 9))
        | st.builds(Reduction, events, wheres, st.just("unique"), paths, over, parents, counted=st.just(True))
    )  # fmt: skip


own_refs = st.builds(PropertyRef, paths) | st.builds(ContextRef, paths) | st.builds(TraitRef, paths)
inner_refs = own_refs | st.builds(PropertyRef, paths, st.just(True))
inner_wheres = st.none() | _conditions(literals | inner_refs, inner_refs)
children = _unnamed(_reductions(inner_wheres, nested=True))
wheres = st.none() | _conditions(literals | own_refs | children, own_refs)
reductions = _unnamed(_reductions(wheres))
trait_refs = st.builds(TraitRef, paths)
scalars = literals | trait_refs | reductions
definitions = (scalars | _conditions(scalars, trait_refs)).map(Definition)

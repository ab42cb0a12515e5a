"""Laws of every trait kind: any order, any split, any merge gives the same canonical state."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.language.events import REDUCERS
from cdp_stream.traits.algebra import TraitKind
from cdp_stream.traits.kinds import KINDS, kind_of
from cdp_stream.traits.kinds.rows import Candidates

Event = tuple[Any, int, str]

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3)
values = st.none() | st.booleans() | numbers | st.sampled_from(["5", "x", [1], [True], {"a": 1, "b": [2]}])
event_lists = st.lists(st.tuples(values, st.integers(0, 3), st.sampled_from("abc")), max_size=12)

ALL_KINDS = {**KINDS, **{name: kind_of(name) for name in ("session.2.sum", "session.1.first", "session.2.unique")}}
every_kind = pytest.mark.parametrize("kind", ALL_KINDS.values(), ids=ALL_KINDS)


def folded(kind: TraitKind, events: list[Event]) -> Any:
    return reduce(lambda state, event: kind.add(state, *given_to(kind, event)), events, kind.zero())


def given_to(kind: TraitKind, event: Event) -> Event:
    """Candidates are kept with a list of values."""
    value, time, message_id = event
    return ([value], time, message_id) if isinstance(kind, Candidates) else event


def exactly(state: Any) -> bytes:
    return orjson.dumps(state, option=orjson.OPT_SORT_KEYS)


def test_every_reducer_of_the_language_has_a_kind() -> None:
    assert set(REDUCERS) < set(KINDS)


@every_kind
@given(data=st.data(), events=event_lists)
def test_the_order_of_events_does_not_matter(kind: TraitKind, data: st.DataObject, events: list[Event]) -> None:
    shuffled = data.draw(st.permutations(events))
    assert exactly(folded(kind, events)) == exactly(folded(kind, shuffled))


@every_kind
@given(events=event_lists)
def test_all_at_once_is_one_after_the_other(kind: TraitKind, events: list[Event]) -> None:
    assert exactly(folded(kind, events)) == exactly(kind.of(given_to(kind, event) for event in events))


@every_kind
@given(events=event_lists, cut=st.integers(0, 12))
def test_merging_two_folds_equals_folding_all(kind: TraitKind, events: list[Event], cut: int) -> None:
    merged = kind.merge(folded(kind, events[:cut]), folded(kind, events[cut:]))
    assert exactly(folded(kind, events)) == exactly(merged)


@every_kind
@given(one=event_lists, two=event_lists, three=event_lists)
def test_merge_is_associative_and_commutative(
    kind: TraitKind, one: list[Event], two: list[Event], three: list[Event]
) -> None:
    a, b, c = folded(kind, one), folded(kind, two), folded(kind, three)
    assert exactly(kind.merge(kind.merge(a, b), c)) == exactly(kind.merge(a, kind.merge(b, c)))
    assert exactly(kind.merge(a, b)) == exactly(kind.merge(b, a))


@every_kind
@given(events=event_lists)
def test_zero_is_neutral_and_has_no_value(kind: TraitKind, events: list[Event]) -> None:
    state = folded(kind, events)
    assert exactly(state) == exactly(kind.merge(kind.zero(), state)) == exactly(kind.merge(state, kind.zero()))
    assert kind.read(kind.zero()) is None


@every_kind
@given(events=event_lists)
def test_a_state_survives_json_and_messagepack(kind: TraitKind, events: list[Event]) -> None:
    state = folded(kind, events)
    for back in (orjson.loads(orjson.dumps(state)), msgspec.msgpack.decode(msgspec.msgpack.encode(state))):
        assert exactly(state) == exactly(back)
        assert exactly(kind.read(state)) == exactly(kind.read(back))
        assert exactly(kind.merge(state, state)) == exactly(kind.merge(back, back))


@every_kind
@given(events=event_lists, event=st.tuples(values, st.integers(0, 3), st.just("z")))
def test_adding_never_changes_the_state_it_was_given(kind: TraitKind, events: list[Event], event: Event) -> None:
    state = folded(kind, events)
    before = exactly(state)
    kind.merge(kind.add(state, *given_to(kind, event)), state)
    assert before == exactly(state)


@given(st.lists(st.integers(-(2**53), 2**53) | st.floats(-1e15, 1e15), min_size=1, max_size=10))
def test_sum_and_average_are_rounded_once_from_the_exact_decimal(some: list[float]) -> None:
    exact = sum((Fraction(repr(number)) for number in some), Fraction(0))
    events: list[Event] = [(number, 0, "m") for number in some]
    assert float(exact) == float(KINDS["sum"].read(folded(KINDS["sum"], events)))
    assert float(exact / len(some)) == float(KINDS["avg"].read(folded(KINDS["avg"], events)))

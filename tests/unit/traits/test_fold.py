"""Folding events into a profile: custom traits and their clock, aggregation states, and what a merge makes of both."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.config.topology import parse_topology
from cdp_stream.language.computations import Computations, compile_computations
from cdp_stream.language.values import canonical
from cdp_stream.model.change import ProfileEvent
from cdp_stream.model.ids import USERS, ProfileId
from cdp_stream.model.profile import CustomTrait, ProfileState
from cdp_stream.traits.fold import fold_custom, fold_states, merge_custom, merge_states
from cdp_stream.traits.kinds import kind_of

EMPTY = ProfileState(id=ProfileId("use_1"), collection=USERS, created=0)


def event_of(time: int, message_id: str = "m", **about: Any) -> ProfileEvent:
    kind = "identify" if "traits" in about else "track"
    return ProfileEvent(
        index=0, record=0, now=100, profile_id=EMPTY.id, collection=USERS, type=kind, message_id=message_id, time=time,
        **about,
    )  # fmt: skip


def fold_all(*events: ProfileEvent) -> tuple[dict[str, CustomTrait], list[tuple[str, Any, Any]]]:
    """Custom traits in the end, and all changes on the way."""
    profile, told = EMPTY, []
    for event in events:
        custom, changed = fold_custom(profile, event)
        profile = msgspec.structs.replace(profile, custom=custom)
        told += changed
    return profile.custom, told


def test_new_traits_are_told_in_order_of_key() -> None:
    custom, told = fold_all(event_of(1, traits={"b": 1, "a": {"x": [1]}}))
    assert {"a": CustomTrait({"x": [1]}, 1, "m"), "b": CustomTrait(1, 1, "m")} == custom
    assert [("a", None, {"x": [1]}), ("b", None, 1)] == told


def test_an_older_event_does_not_overwrite() -> None:
    custom, told = fold_all(event_of(5, traits={"plan": "gold"}), event_of(4, traits={"plan": "free", "city": "Rome"}))
    assert {"plan": "gold", "city": "Rome"} == {key: trait.value for key, trait in custom.items()}
    assert [("plan", None, "gold"), ("city", None, "Rome")] == told


def test_of_one_instant_the_greater_message_id_wins() -> None:
    one, other = event_of(5, "m1", traits={"plan": "a"}), event_of(5, "m2", traits={"plan": "b"})
    assert {"plan": CustomTrait("b", 5, "m2")} == fold_all(one, other)[0] == fold_all(other, one)[0]


def test_null_removes_a_trait_and_keeps_its_time() -> None:
    custom, told = fold_all(
        event_of(5, traits={"plan": "gold"}), event_of(7, traits={"plan": None}), event_of(6, traits={"plan": "late"})
    )
    assert {"plan": CustomTrait(None, 7, "m")} == custom
    assert [("plan", None, "gold"), ("plan", "gold", None)] == told


def test_a_null_for_a_trait_that_never_was_is_kept_but_not_told() -> None:
    custom, told = fold_all(event_of(5, traits={"plan": None}), event_of(4, traits={"plan": "late"}))
    assert ({"plan": CustomTrait(None, 5, "m")}, []) == (custom, told)


def test_an_equal_value_moves_the_clock_on_and_tells_nothing() -> None:
    custom, told = fold_all(
        event_of(5, traits={"plan": {"a": 1, "b": 2}}),
        event_of(7, traits={"plan": {"b": 2, "a": 1}}),
        event_of(6, traits={"plan": "late"}),
    )
    assert 7 == custom["plan"].time
    assert [("plan", None, {"a": 1, "b": 2})] == told


def test_true_is_not_one() -> None:
    assert [("a", None, 1), ("a", 1, True)] == fold_all(event_of(1, traits={"a": 1}), event_of(2, traits={"a": True}))[
        1
    ]
    nested = fold_all(event_of(1, traits={"a": [1]}), event_of(2, traits={"a": [True]}))[1]
    assert [("a", None, [1]), ("a", [1], [True])] == nested


def test_an_empty_text_is_a_value() -> None:
    assert [("a", "x", "")] == fold_all(event_of(1, traits={"a": "x"}), event_of(2, traits={"a": ""}))[1][1:]


def test_the_dict_stays_the_profiles_own_when_nothing_moved() -> None:
    profile = msgspec.structs.replace(EMPTY, custom={"plan": CustomTrait("gold", 5, "m")})
    for event in (event_of(9, name="Order"), event_of(4, traits={"plan": "late"})):
        assert profile.custom is fold_custom(profile, event)[0]


def _computations() -> Computations:
    definitions = {
        "orders": "event('Order').count()",
        "big_orders": "event('Order').where(property('total') >= 100).count()",
        "spend": "event('Order').sum('total')",
        "first_city": "event('Order').first('ship.city')",
        "pages": "event('Page Viewed').count()",
    }
    traits = [{"key": key, "definition": text} for key, text in definitions.items()]
    sources = [{"name": "web", "topic": "shop.events"}]
    computations, problems = compile_computations(parse_topology({"space": "s", "sources": sources, "traits": traits}))
    assert [] == problems
    return computations


COMPUTATIONS = _computations()


def test_an_event_touches_the_aggregations_of_its_name_whose_conditions_hold() -> None:
    states: dict[str, Any] = {}
    for time, properties in enumerate([{"total": 100, "ship": {"city": "Rome"}}, {"total": 0.5}, None]):
        states = fold_states(states, event_of(time, name="Order", properties=properties), COMPUTATIONS)
    aggregations = COMPUTATIONS.aggregations_by_event["Order"]
    assert [3, 1, 100.5, "Rome"] == [kind_of(it.kind).read(states[it.key]) for it in aggregations]
    assert 4 == len(states)


def test_states_stay_the_same_dict_when_an_event_touches_none() -> None:
    states = fold_states({}, event_of(1, name="Order", properties={"total": 1}), COMPUTATIONS)
    before = dict(states)
    for event in (event_of(2, name="Other"), event_of(2, traits={"a": 1})):
        assert states is fold_states(states, event, COMPUTATIONS)
    assert states is not fold_states(states, event_of(2, name="Order"), COMPUTATIONS)
    assert before == states


def test_a_merge_keeps_the_states_that_only_one_side_has() -> None:
    assert {"count:a": 3, "count:b": 1, "min:c": 2} == merge_states(
        {"count:a": 1, "count:b": 1}, {"count:a": 2, "min:c": 2}
    )


def test_a_merge_takes_the_newest_custom_trait_and_the_tombstone_with_it() -> None:
    survivor = {"a": CustomTrait("old", 1, "m1"), "b": CustomTrait("new", 9, "m1"), "c": CustomTrait(1, 1, "m1")}
    absorbed = {"a": CustomTrait(None, 2, "m2"), "b": CustomTrait("old", 1, "m2"), "d": CustomTrait(2, 1, "m2")}
    expected = {"a": absorbed["a"], "b": survivor["b"], "c": survivor["c"], "d": absorbed["d"]}
    assert expected == merge_custom(survivor, absorbed) == merge_custom(absorbed, survivor)


_values = st.none() | st.sampled_from([1, True, "x", [1]])
_traits = st.dictionaries(st.sampled_from("abc"), _values, min_size=1)
_properties = st.none() | st.fixed_dictionaries(
    {}, optional={"total": st.integers(0, 200) | st.just("x"), "ship": st.just({"city": "Rome"})}
)


@st.composite
def _histories(draw: st.DrawFn) -> list[ProfileEvent]:
    """Events with message ids of their own, in some order of arrival."""
    events = []
    for number in range(draw(st.integers(0, 10))):
        time = draw(st.integers(0, 3))
        about = draw(
            st.builds(lambda traits: {"traits": traits}, _traits)
            | st.builds(
                lambda name, properties: {"name": name, "properties": properties},
                st.sampled_from(["Order", "Page Viewed", "Other"]),
                _properties,
            )
        )
        events.append(event_of(time, f"m{number}", **about))
    return draw(st.permutations(events))


def _state_after(events: list[ProfileEvent]) -> tuple[bytes, bytes, dict[str, CustomTrait], dict[str, Any]]:
    custom = fold_all(*events)[0]
    states: dict[str, Any] = {}
    for event in events:
        states = fold_states(states, event, COMPUTATIONS)
    return _exactly(custom), canonical(states), custom, states


def _exactly(custom: dict[str, CustomTrait]) -> bytes:
    return canonical({key: [trait.value, trait.time, trait.message_id] for key, trait in custom.items()})


@given(events=_histories(), data=st.data())
def test_profiles_merged_equal_one_profile_that_had_every_event(
    events: list[ProfileEvent], data: st.DataObject
) -> None:
    mine = data.draw(st.lists(st.booleans(), min_size=len(events), max_size=len(events)))
    _, _, custom, states = _state_after([event for event, is_mine in zip(events, mine, strict=True) if is_mine])
    _, _, others, other_states = _state_after(
        [event for event, is_mine in zip(events, mine, strict=True) if not is_mine]
    )
    whole = _state_after(data.draw(st.permutations(events)))
    assert whole[:2] == (_exactly(merge_custom(custom, others)), canonical(merge_states(states, other_states)))

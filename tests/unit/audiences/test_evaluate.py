"""Evaluation: values of traits, memberships, eligibility; and that little by little equals all at once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.audiences.evaluate import evaluate
from cdp_stream.config.topology import parse_topology
from cdp_stream.language.computations import Computations, affected, compile_computations
from cdp_stream.model.change import NewExternalId, ProfileEvent
from cdp_stream.model.ids import USERS, ProfileId
from cdp_stream.model.profile import CustomTrait, KnownId, ProfileState
from cdp_stream.traits.fold import fold_custom, fold_states
from cdp_stream.traits.kinds import kind_of

NOW = 100
USER = (KnownId("user_id", "u1", 0),)
VISITOR = (KnownId("anonymous_id", "a1", 0), KnownId("phone", "1", 0))


def compiled(traits: dict[str, Any], audiences: dict[str, Any]) -> Computations:
    """Key to definition, or to all settings."""

    def listed(declared: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"key": key, **(it if isinstance(it, dict) else {"definition": it})} for key, it in declared.items()]

    plain = {
        "space": "shop",
        "sources": [{"name": "web", "topic": "shop.events"}],
        "traits": listed(traits),
        "audiences": listed(audiences),
    }
    computations, problems = compile_computations(parse_topology(plain))
    assert [] == problems
    return computations


def profile_of(external_ids: tuple[KnownId, ...] = USER, **about: Any) -> ProfileState:
    return ProfileState(id=ProfileId("use_1"), collection=USERS, created=0, external_ids=external_ids, **about)


def event_of(number: int, **about: Any) -> ProfileEvent:
    return ProfileEvent(
        index=0, record=0, now=100, profile_id=ProfileId("use_1"), collection=USERS, type="track",
        message_id=f"m{number}", time=number, **about,
    )  # fmt: skip


def fold(profile: ProfileState, event: ProfileEvent, computations: Computations) -> ProfileState:
    """The profile after the event, not evaluated."""
    return msgspec.structs.replace(
        profile,
        custom=fold_custom(profile, event)[0],
        states=fold_states(profile.states, event, computations),
        external_ids=profile.external_ids + tuple(KnownId(new.type, new.id, 0) for new in event.external_ids),
    )


def settled(profile: ProfileState, computations: Computations) -> ProfileState:
    evaluation = evaluate(profile, computations, kind_of, NOW)
    return msgspec.structs.replace(profile, computed=evaluation.computed, memberships=evaluation.memberships)


def member(definition: str, *events: tuple[str, Any], **custom: Any) -> bool:
    """Whether a user with these events and custom traits is in the audience."""
    computations = compiled(
        {"spend": "event('Order').sum('total')"}, {"it": definition, "rich": "trait('spend') >= 10"}
    )
    profile = profile_of(custom={key: CustomTrait(value, 0, "m") for key, value in custom.items()})
    for number, (name, properties) in enumerate(events):
        profile = fold(profile, event_of(number, name=name, properties=properties), computations)
    return evaluate(profile, computations, kind_of, NOW).memberships.get("it", False)


ORDER = ("Order", {"total": 10})


@pytest.mark.parametrize(
    ("definition", "events", "custom", "expected"),
    [
        ("event('Order').count() >= 1", [], {}, False),
        ("event('Order').count() >= 1", [ORDER], {}, True),
        ("event('Order').count() = 0", [], {}, True),
        ("event('Order').count() <= 0", [ORDER], {}, False),
        ("event('Order').count() < event('Page').count()", [("Page", None)], {}, True),
        ("event('Order').where(property('total') > 10).count() = 0", [ORDER], {}, True),
        ("event('Order').sum('total') = 0", [], {}, False),
        ("event('Order').sum('total') != 5", [], {}, False),
        ("event('Order').sum('total') != 5", [ORDER], {}, True),
        ("event('Order').last('total').exists()", [], {}, False),
        ("event('Order').last('total').exists()", [ORDER], {}, True),
        ("trait('spend') >= 10", [ORDER], {}, True),
        ("trait('spend') >= 10", [], {}, False),
        ("trait('spend') >= 10", [], {"spend": 50}, False),
        ("trait('rich')", [ORDER], {}, True),
        ("NOT trait('rich')", [], {}, True),
        ("trait('rich') = false", [], {}, True),
        ("trait('rich').exists()", [], {}, True),
        ("trait('rich.deeper').exists()", [ORDER], {}, False),
        ("trait('plan') = 'gold'", [], {}, False),
        ("trait('plan') = 'gold'", [], {"plan": "gold"}, True),
        ("trait('plan') != 'gold'", [], {}, False),
        ("trait('plan') != 'gold'", [], {"plan": None}, False),
        ("trait('plan') != 'gold'", [], {"plan": ""}, True),
        ("NOT trait('plan').contains('gold')", [], {}, True),
        ("trait('address.city') = 'Rome'", [], {"address": {"city": "Rome"}}, True),
        ("trait('flag')", [], {"flag": True}, True),
        ("trait('flag')", [], {"flag": "yes"}, False),
        ("trait('goal') <= trait('spend')", [ORDER], {"goal": 10}, True),
        ("1 = 1 AND (trait('rich') OR trait('plan') = 'gold')", [], {"plan": "gold"}, True),
    ],
)  # fmt: skip
def test_who_is_in(definition: str, events: list[Any], custom: dict[str, Any], expected: bool) -> None:
    assert expected == member(definition, *events, **custom)


def test_a_trait_has_no_value_before_its_first_match_and_keeps_its_key_for_ever() -> None:
    computations = compiled({"orders": "event('Order').count()", "plan_copy": "trait('plan')", "five": "5"}, {})
    profile = profile_of()
    assert {"five": 5} == evaluate(profile, computations, kind_of, NOW).computed
    folded = settled(fold(profile, event_of(1, name="Order", traits={"plan": "gold"}), computations), computations)
    assert {"five": 5, "orders": 1, "plan_copy": "gold"} == folded.computed
    removed = settled(fold(folded, event_of(2, traits={"plan": None}), computations), computations)
    assert {"five": 5, "orders": 1, "plan_copy": None} == removed.computed


def test_a_membership_is_kept_from_the_first_true_on() -> None:
    computations = compiled({}, {"gold": "trait('plan') = 'gold'", "free": "trait('plan') = 'free'"})
    profile = settled(profile_of(), computations)
    assert {} == profile.memberships
    profile = settled(fold(profile, event_of(1, traits={"plan": "gold"}), computations), computations)
    assert {"gold": True} == profile.memberships
    profile = settled(fold(profile, event_of(2, traits={"plan": "none"}), computations), computations)
    assert {"gold": False} == profile.memberships


@pytest.mark.parametrize(
    ("external_ids", "known_only", "with_anonymous"),
    [
        ((), False, True),
        (VISITOR, False, True),
        (USER, True, True),
        ((*VISITOR, KnownId("email", "a@b.c", 0)), True, True),
        ((KnownId("ios.idfa", "i", 0),), True, True),
        ((KnownId("android.idfa", "i", 0),), True, True),
        ((KnownId("android.id", "i", 0),), False, True),
    ],
)
def test_anonymous_profiles_count_only_where_they_are_included(
    external_ids: tuple[KnownId, ...], known_only: bool, with_anonymous: bool
) -> None:
    def settings(definition: str, include: bool) -> dict[str, Any]:
        return {"definition": definition, "include_anonymous": include}

    computations = compiled(
        {"t_no": settings("'x'", False), "t_yes": settings("'x'", True)},
        {"a_no": settings("1 = 1", False), "a_yes": settings("1 = 1", True)},
    )
    evaluation = evaluate(profile_of(external_ids), computations, kind_of, NOW)
    assert [known_only, with_anonymous] == [evaluation.memberships.get(key, False) for key in ("a_no", "a_yes")]
    assert [known_only, with_anonymous] == [key in evaluation.computed for key in ("t_no", "t_yes")]


def test_evaluation_changes_nothing_in_the_profile_it_is_given() -> None:
    computations = compiled({"five": "5"}, {"all": "1 = 1"})
    profile = profile_of()
    evaluate(profile, computations, kind_of, NOW)
    assert ({}, {}) == (profile.computed, profile.memberships)


def test_values_of_keys_that_are_declared_no_more_stay_as_they_are() -> None:
    profile = profile_of(computed={"gone": 1}, memberships={"left": True})
    evaluation = evaluate(profile, compiled({"five": "5"}, {}), kind_of, NOW)
    assert ({"gone": 1, "five": 5}, {"left": True}) == (evaluation.computed, evaluation.memberships)


EVERYTHING = compiled(
    {
        "orders": "event('Order').count()",
        "big": "event('Order').where(property('total') >= 5 AND NOT property('gift')).count()",
        "spend": "event('Order').sum('total')",
        "mean": "event('Order').avg('total')",
        "least": "event('Order').min('total')",
        "most": "event('Order').max('total')",
        "first": "event('Order').first('city')",
        "last": {"definition": "event('Order').last('city')", "include_anonymous": False},
        "loyal": "trait('member')",
    },
    {
        "member": "trait('orders') >= 2 OR trait('plan') = 'gold'",
        "roman": {"definition": "trait('last') = 'Rome' AND NOT trait('silent')", "include_anonymous": True},
        "silent": "event('Page Viewed').count() = 0",
        "steady": "trait('least') = trait('most')",
    },
)


def _by_the_book(history: list[ProfileEvent]) -> tuple[dict[str, Any], dict[str, bool]]:
    """Every value from the raw events, slowly and plainly, without states."""
    orders = [event for event in history if event.name == "Order"]
    known = any(new.type == "user_id" for event in history for new in event.external_ids)

    def numbers() -> list[int]:
        return [event.properties["total"] for event in orders if type(event.properties["total"]) is int]

    def cities() -> list[str]:
        return [it.properties["city"] for it in sorted(orders, key=lambda it: it.time) if it.properties["city"]]

    plans = [event.traits["plan"] for event in sorted(history, key=lambda it: it.time) if event.traits]
    # In a condition the text "7" is a number; true meets 5 as text, and stands after it.
    five_or_more = [event for event in orders if event.properties["total"] in ("7", 5, 9)]
    five_or_more += [event for event in orders if event.properties["total"] is True]
    big = sum(not event.properties["gift"] for event in five_or_more)
    mean = sum(numbers()) / len(numbers()) if numbers() else None
    traits: dict[str, Any] = {
        "orders": len(orders) or None,
        "big": big or None,
        "spend": sum(numbers()) if numbers() else None,
        "mean": mean,
        "least": min(numbers(), default=None),
        "most": max(numbers(), default=None),
        "first": next(iter(cities()), None),
        "last": next(reversed(cities()), None) if known else None,
    }
    audiences = {
        "member": known and (len(orders) >= 2 or plans[-1:] == ["gold"]),
        "silent": known and not any(event.name == "Page Viewed" for event in history),
        "steady": known and bool(numbers()) and min(numbers()) == max(numbers()),
    }
    audiences["roman"] = traits["last"] == "Rome" and not audiences["silent"]
    traits["loyal"] = audiences["member"]
    return traits, audiences


@st.composite
def _histories(draw: st.DrawFn) -> list[ProfileEvent]:
    """Events with times and message ids of their own, in any order of arrival."""
    properties = st.fixed_dictionaries(
        {
            "total": st.sampled_from([None, "7", True, 1, 5, 9]),
            "gift": st.booleans(),
            "city": st.sampled_from([None, "Rome", "Oslo"]),
        }
    )
    abouts = (
        st.builds(lambda them: {"name": "Order", "properties": them}, properties)
        | st.just({"name": "Page Viewed"})
        | st.sampled_from([{"traits": {"plan": "gold"}}, {"traits": {"plan": None}}])
        | st.just({"name": "Other", "external_ids": (NewExternalId("user_id", "u1", 0),)})
    )
    events = [event_of(number, **about) for number, about in enumerate(draw(st.lists(abouts, max_size=9)))]
    return draw(st.permutations(events))


@given(_histories())
def test_event_by_event_equals_everything_from_scratch(history: list[ProfileEvent]) -> None:
    profile = settled(profile_of(VISITOR), EVERYTHING)
    for past, event in enumerate(history, start=1):
        folded = fold(profile, event, EVERYTHING)
        changed = [key for key, _, _ in fold_custom(profile, event)[1]]
        only = affected(EVERYTHING, event.name, changed, [new.type for new in event.external_ids])
        some = evaluate(folded, EVERYTHING, kind_of, NOW, only)
        whole = evaluate(folded, EVERYTHING, kind_of, NOW)
        assert (whole.computed, whole.memberships) == (some.computed, some.memberships)
        profile = msgspec.structs.replace(folded, computed=whole.computed, memberships=whole.memberships)
        traits, audiences = _by_the_book(history[:past])
        assert traits == {key: profile.computed.get(key) for key in traits}
        assert audiences == {key: profile.memberships.get(key, False) for key in audiences}

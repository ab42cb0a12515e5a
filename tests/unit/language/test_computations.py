"""The plan of all traits and audiences: sharing, order, cycles, what an event can touch."""

from __future__ import annotations

from typing import Any

from cdp_stream.config.topology import Topology, parse_topology
from cdp_stream.errors import Problem
from cdp_stream.language.computations import Computations, affected, compile_computations


def topology_of(traits: dict[str, Any], audiences: dict[str, Any]) -> Topology:
    """Key to definition, or to all settings."""

    def listed(declared: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"key": key, **(it if isinstance(it, dict) else {"definition": it})} for key, it in declared.items()]

    sources = [{"name": "web", "topic": "shop.events"}]
    plain = {"space": "shop", "sources": sources, "traits": listed(traits), "audiences": listed(audiences)}
    return parse_topology(plain)


def plan_of(traits: dict[str, Any], audiences: dict[str, Any]) -> Computations:
    computations, problems = compile_computations(topology_of(traits, audiences))
    assert [] == problems
    return computations


def problems_of(traits: dict[str, Any], audiences: dict[str, Any]) -> list[Problem]:
    return compile_computations(topology_of(traits, audiences))[1]


def test_the_same_reduction_is_folded_once_however_it_is_written() -> None:
    computations = plan_of(
        {"orders": "event('Order').where(property('total') >= 5).count()"},
        {
            "buyers": """event("Order").where(property("total").at_least(5.0)).count() >= 1""",
            "fans": "event('Order').count() >= 5 AND event('Order').where(property('total') >= 5).count() = 1",
        },
    )
    assert ["Order"] == list(computations.aggregations_by_event)
    aggregations = computations.aggregations_by_event["Order"]
    assert [("count", True), ("count", False)] == [(it.kind, it.matches is not None) for it in aggregations]


def test_the_key_of_an_aggregation_is_stable() -> None:
    computations = plan_of({"spend": "event('Order').sum('total')"}, {})
    assert ["sum:0smzNdV386wu"] == [it.key for it in computations.aggregations_by_event["Order"]]


def test_everything_comes_after_what_it_reads() -> None:
    computations = plan_of(
        {"label": "trait('top')", "spend": "event('Order').sum('total')"},
        {"top": "trait('rich') AND trait('spend') > 5", "rich": "trait('spend') > 1 OR trait('plan') = 'gold'"},
    )
    assert ["spend", "rich", "top", "label"] == [computation.key for computation in computations.order]
    assert ("label", "spend") == computations.trait_keys
    assert ("top", "rich") == computations.audience_keys


def test_a_cycle_of_audiences_is_refused_in_the_documented_words() -> None:
    words = "The audience would create a cycle by referencing another audience"
    problems = problems_of(
        {},
        {
            "fine": "trait('a') = true",
            "a": "trait('b')",
            "b": "NOT trait('c')",
            "c": "trait('a').exists()",
            "self": "trait('self')",
        },
    )
    assert [Problem(f"audiences[{place}].definition", words) for place in (1, 2, 3, 4)] == problems


def test_a_cycle_of_traits_is_refused() -> None:
    words = "The trait would create a cycle by referencing another trait"
    assert [Problem("traits[0].definition", words), Problem("traits[1].definition", words)] == problems_of(
        {"a": "trait('b')", "b": "trait('a')"}, {}
    )


def test_every_wrong_definition_is_reported_and_the_right_ones_are_planned() -> None:
    computations, problems = compile_computations(
        topology_of(
            {"orders": "event('Order').count()", "many": "event('Order').count() > 5", "bad": "event('Order')"},
            {
                "five": "event('Order').count()",
                "vip": "trait('vip_flag')",
                "late": "event('O').within(1 dais).count() = 1",
            },
        )
    )
    assert [
        "traits[1].definition: a trait needs a value, and this is a condition; make it an audience",
        "traits[2].definition: line 1, column 1: event('Order') alone is no value; "
        "end it with a reducer, such as .count()",
        "audiences[0].definition: an audience needs a condition, and this is a value; compare it, such as `… >= 1`",
        "audiences[2].definition: line 1, column 21: unknown unit 'dais'; did you mean days?",
    ] == [str(problem) for problem in problems]
    assert ["orders", "vip"] == [computation.key for computation in computations.order]


def test_what_an_event_a_trait_or_an_identifier_can_touch_is_closed_over_readers() -> None:
    computations = plan_of(
        {"spend": "event('Order').sum('total')", "city": "trait('address.city')"},
        {
            "rich": {"definition": "trait('spend') > 5", "include_anonymous": True},
            "top": {"definition": "trait('rich') AND trait('plan') = 'gold'", "include_anonymous": True},
            "seen": {"definition": "event('Page Viewed').count() > 0", "include_anonymous": False},
        },
    )

    def keys(event: str | None = None, custom: tuple[str, ...] = (), types: tuple[str, ...] = ()) -> list[str]:
        return [computation.key for computation in affected(computations, event, custom, types)]

    assert ["spend", "rich", "top"] == keys(event="Order")
    assert ["seen"] == keys(event="Page Viewed")
    assert [] == keys(event="Other")
    assert ["city"] == keys(custom=("address", "email"))
    assert ["top"] == keys(custom=("plan",))
    assert ["seen"] == keys(types=("anonymous_id", "user_id"))
    assert [] == keys(types=("anonymous_id", "phone"))
    assert sorted(["seen", "city", "spend", "rich", "top"]) == sorted(keys("Order", ("address",), ("email",)))

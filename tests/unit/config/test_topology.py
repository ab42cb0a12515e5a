"""Reading plain values as a topology: defaults, canonical form, version, and every kind of problem."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cdp_stream.config.topology import Topology, canonical, parse_topology, topology_version
from cdp_stream.errors import TopologyError
from cdp_stream.model.time import DAY_MS

WEB = {"name": "web", "topic": "shop.events"}
CRM = {"name": "crm", "topic": "shop.crm"}


def small(**sections: Any) -> dict[str, Any]:
    return {"space": "shop", "sources": [WEB], **sections}


def problems_of(data: Any) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        parse_topology(data)
    return [str(problem) for problem in caught.value.problems]


def audience(**fields: Any) -> dict[str, Any]:
    return {"key": "buyers", "definition": "trait('orders') >= 1", **fields}


def test_what_is_left_out_has_the_documented_defaults() -> None:
    topology = parse_topology(small(traits=[{"key": "orders", "definition": "event('Order').count()"}]))
    assert [("user_id", 1, "ever"), ("email", 5, "ever")] == [
        (identifier.type, identifier.limit, identifier.period) for identifier in topology.identity.identifiers
    ]
    assert [("^[0-]*$", None), (None, "-1"), (None, "null"), (None, "anonymous")] == [
        (blocked.pattern, blocked.exact) for blocked in topology.identity.blocked_values
    ]
    identity = topology.identity
    assert ("lowest_priority", 100, 1000, 7 * DAY_MS, True) == (
        identity.demotion,
        identity.merges_max,
        identity.mappings_max,
        identity.dedupe_horizon,
        identity.email_from_properties,
    )
    assert 8 == topology.partitions
    assert ("orders", True, ()) == (
        topology.traits[0].name,
        topology.traits[0].include_anonymous,
        topology.traits[0].destinations,
    )


def test_anonymous_profiles_are_in_traits_and_not_in_audiences_unless_asked_for() -> None:
    topology = parse_topology(small(audiences=[audience()], traits=[{"key": "orders", "definition": "x"}]))
    assert (False, True) == (topology.audiences[0].include_anonymous, topology.traits[0].include_anonymous)


def test_a_destination_sends_identify_and_track_under_the_documented_names() -> None:
    destination = parse_topology(small(destinations=[CRM])).destinations[0]
    assert (("identify", "track"), "Audience Entered", "Audience Exited", "Trait Computed", False, "product") == (
        destination.send,
        destination.enter_event,
        destination.exit_event,
        destination.compute_event,
        destination.send_mobile_ids,
        destination.combine,
    )


def test_an_empty_list_of_identifiers_is_no_list() -> None:
    without = parse_topology(small())
    assert without == parse_topology(small(identity={"identifiers": []}))


def test_a_user_id_is_limited_to_one_and_other_types_to_five() -> None:
    identifiers = [{"type": "loyalty_id"}, {"type": "user_id"}, {"type": "ios.id"}]
    topology = parse_topology(small(identity={"identifiers": identifiers}))
    assert [5, 1, 5] == [identifier.limit for identifier in topology.identity.identifiers]


def test_blocked_values_may_be_numbers_in_yaml_and_are_text() -> None:
    topology = parse_topology(small(identity={"blocked_values": [{"exact": -1}, {"exact": 0}]}))
    assert ["-1", "0"] == [blocked.exact for blocked in topology.identity.blocked_values]


def test_no_values_are_blocked_on_request() -> None:
    assert () == parse_topology(small(identity={"blocked_values": "none"})).identity.blocked_values


def test_a_topology_cannot_be_changed() -> None:
    topology = parse_topology(small())
    with pytest.raises(ValidationError):
        topology.space = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (small(adiences=[]), "adiences: unknown key 'adiences'; did you mean 'audiences'?"),
        (
            small(audiences=[audience(), audience(key="b", destination=["crm"])]),
            "audiences[1].destination: unknown key 'destination'; did you mean 'destinations'?",
        ),
        (
            small(identity={"identifiers": [{"type": "email", "limits": 1}]}),
            "identity.identifiers[0].limits: unknown key 'limits'; did you mean 'limit'?",
        ),
        (
            small(identity={"blocked_values": [{"exakt": "x", "exact": "x"}]}),
            "identity.blocked_values[0].exakt: unknown key 'exakt'; did you mean 'exact'?",
        ),
        ({"sources": [WEB]}, "space: 'space' is missing"),
        ({"space": "shop"}, "sources: 'sources' is missing"),
        (small(sources=[]), "sources: a list should not be empty"),
        (
            small(space="My Shop"),
            "space: 'My Shop' should be a name of lower-case letters, digits and '-', at most 63",
        ),
        (
            small(sources=[{"name": "web", "topic": "a b"}]),
            "sources[0].topic: 'a b' should be a topic name of letters, digits, '.', '_' and '-', at most 249",
        ),
        (
            small(sources=[WEB, {"name": "web", "topic": "t"}]),
            "sources[1].name: the name 'web' is used already, at sources[0].name",
        ),
        (
            small(sources=[WEB, {"name": "b", "topic": "shop.events"}]),
            "sources[1].topic: the topic 'shop.events' is used already, at sources[0].topic",
        ),
        (
            small(destinations=[{"name": "crm", "topic": "shop.events"}]),
            "destinations[0].topic: the topic 'shop.events' is used already, at sources[0].topic",
        ),
        (
            small(destinations=[{"name": "crm", "topic": "shop.ledger"}]),
            "destinations[0].topic: the topic 'shop.ledger' is one of the space's own",
        ),
        (
            small(traits=[{"key": "buyers", "definition": "x"}], audiences=[audience()]),
            "audiences[0].key: the key 'buyers' is used already, at traits[0].key",
        ),
        (
            small(destinations=[CRM], audiences=[audience(destinations=["crn"])]),
            "audiences[0].destinations[0]: there is no destination 'crn'; did you mean 'crm'?",
        ),
        (
            small(audiences=[audience(destinations=["crm"])]),
            "audiences[0].destinations[0]: there is no destination 'crm'; no destinations are declared",
        ),
        (
            small(audiences=[audience(key="Big Spenders")]),
            (
                "audiences[0].key: 'Big Spenders' should be a key in snake_case, at most 100 characters; "
                "did you mean 'big_spenders'?"
            ),
        ),
        (
            small(identity={"identifiers": [{"type": "anonymousId"}]}),
            (
                "identity.identifiers[0].type: 'anonymousId' should be a built-in identifier type or a name in snake_case; "
                "did you mean 'anonymous_id'?"
            ),
        ),
        (
            small(identity={"identifiers": [{"type": "email"}, {"type": "email"}]}),
            "identity.identifiers[1].type: the type 'email' is used already, at identity.identifiers[0].type",
        ),
        (
            small(identity={"identifiers": [{"type": "email", "keys": ["mail"]}]}),
            "identity.identifiers[0].keys: the built-in type 'email' has fixed places, no 'keys'",
        ),
        (
            small(identity={"identifiers": [{"type": "email", "limit": 0}]}),
            "identity.identifiers[0].limit: 0 should be greater than or equal to 1",
        ),
        (
            small(identity={"identifiers": [{"type": "email", "limit": True}]}),
            "identity.identifiers[0].limit: true should be a whole number",
        ),
        (
            small(identity={"identifiers": [{"type": "email", "period": "anually"}]}),
            (
                "identity.identifiers[0].period: 'anually' should be 'ever', 'annually', 'monthly', 'weekly' or 'daily'; "
                "did you mean 'annually'?"
            ),
        ),
        (
            small(identity={"blocked_values": "sugested"}),
            "identity.blocked_values: 'sugested' should be 'suggested', 'none' or a list; did you mean 'suggested'?",
        ),
        (
            small(identity={"blocked_values": [{"pattern": "(?=a)"}]}),
            (
                "identity.blocked_values[0].pattern: '(?=a)' is not a linear-time regular expression (RE2): "
                "invalid perl operator: (?="
            ),
        ),
        (
            small(identity={"blocked_values": [{"exact": "a", "pattern": "b"}]}),
            "identity.blocked_values[0]: a mapping needs one of 'exact' and 'pattern'",
        ),
        (
            small(identity={"dedupe_horizon": 7}),
            "identity.dedupe_horizon: 7 should be a number with a unit: 30d, 12h, 15m or 10s",
        ),
        (
            small(identity={"dedupe_horizon": "7 days"}),
            "identity.dedupe_horizon: '7 days' should be a number with a unit: 30d, 12h, 15m or 10s",
        ),
        (small(partitions="8"), "partitions: '8' should be a whole number"),
        (small(space=7), "space: 7 should be text; put it in quotes: '7'"),
        (small(traits=None), "traits: an empty value should be a list"),
        (small(sources=["web"]), "sources[0]: 'web' should be a mapping of keys to values"),
        (
            small(destinations=[{**CRM, "send": ["identify", "trak"]}]),
            "destinations[0].send[1]: 'trak' should be 'identify', 'track' or 'group'; did you mean 'track'?",
        ),
        (small(destinations=[{**CRM, "send": []}]), "destinations[0].send: a list should not be empty"),
        (
            small(destinations=[{**CRM, "kind": "evnt"}]),
            "destinations[0].kind: 'evnt' should be 'event' or 'list'; did you mean 'event'?",
        ),
        ([], "a list should be a mapping of keys to values"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_problem_names_its_path_the_wrong_value_and_the_nearest_right_one(data: Any, expected: str) -> None:
    assert [expected] == problems_of(data)


def test_a_later_key_that_asks_for_nothing_is_harmless() -> None:
    idle = {"kind": "event", "id_sync": None, "enrich": [], "rate_per_second": None, "sync_every": None}
    plain = parse_topology(small(destinations=[CRM], audiences=[audience()]))
    assert plain == parse_topology(small(destinations=[{**CRM, **idle}], audiences=[audience(historical=True)]))


def test_all_problems_are_reported_at_once_in_order_of_their_paths() -> None:
    audiences = [audience(key=f"a{n}") for n in range(11)]
    audiences[10] = audience(key="a10", limit=1)
    audiences[2] = audience(key="a2", limit=1)
    paths = [line.split(":")[0] for line in problems_of({"space": "S", "sources": [WEB], "audiences": audiences})]
    assert ["audiences[2].limit", "audiences[10].limit", "space"] == paths


def test_every_line_of_an_error_names_the_file() -> None:
    with pytest.raises(TopologyError) as caught:
        parse_topology({"space": "S", "sources": []}, "shop/topology.yaml")
    assert [True, True] == [line.startswith("shop/topology.yaml: ") for line in str(caught.value).splitlines()]


def test_a_write_key_is_neither_shown_nor_part_of_the_version() -> None:
    first = parse_topology(small(sources=[{**WEB, "write_key": "hush-1"}]))
    second = parse_topology(small(sources=[{**WEB, "write_key": "hush-2"}]))
    assert "***" == canonical(first)["sources"][0]["write_key"]
    assert topology_version(first) == topology_version(second)
    assert "hush" not in repr(first) + str(canonical(first))
    assert "hush" not in str(problems_of(small(sources=[{**WEB, "write_key": ["hush"]}])))


def test_the_version_is_16_hex_digits_and_differs_with_any_rule() -> None:
    version = topology_version(parse_topology(small()))
    assert 16 == len(version)
    assert int(version, 16) >= 0
    assert version != topology_version(parse_topology(small(identity={"demotion": "minimal"})))


def test_spelling_out_a_default_is_the_same_version() -> None:
    spelled = small(partitions=8, identity={"dedupe_horizon": "168h", "blocked_values": "suggested"})
    assert topology_version(parse_topology(small())) == topology_version(parse_topology(spelled))


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
TOPOLOGIES = st.fixed_dictionaries(
    {
        "space": NAMES,
        "sources": st.lists(
            st.fixed_dictionaries({"name": NAMES}, optional={"identity": st.booleans(), "write_key": NAMES}),
            min_size=1,
            unique_by=lambda source: source["name"],
        ).map(lambda sources: [{**source, "topic": f"in.{source['name']}"} for source in sources]),
        "identity": st.fixed_dictionaries(
            {},
            optional={
                "identifiers": st.lists(
                    st.fixed_dictionaries(
                        {"type": NAMES}, optional={"limit": st.integers(1, 9), "period": st.just("weekly")}
                    ),
                    unique_by=lambda identifier: identifier["type"],
                ),
                "blocked_values": st.sampled_from(["suggested", "none", [{"exact": "a"}, {"pattern": "^b"}]]),
                "dedupe_horizon": st.integers(1, 999_999).map(lambda count: f"{count}s"),
            },
        ),
    },
    optional={
        "traits": st.lists(st.fixed_dictionaries({"key": NAMES, "definition": NAMES}), unique_by=lambda t: t["key"])
    },
)


@given(TOPOLOGIES)
def test_a_canonical_form_read_back_is_the_same_version_and_form(data: dict[str, Any]) -> None:
    topology = parse_topology(data)
    back = Topology.from_canonical(canonical(topology))
    assert canonical(topology) == canonical(back)
    assert topology_version(topology) == topology_version(back)

"""What may be written about destinations, and what is refused, with a place, a reason and a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from cdp_stream.config.topology import Topology, canonical, parse_topology, topology_version
from cdp_stream.errors import TopologyError


def with_destination(*, audience: str = "vip", trait: str = "spend", **settings: Any) -> dict[str, Any]:
    return {
        "space": "shop",
        "sources": [{"name": "web", "topic": "shop.events"}],
        "traits": [{"key": trait, "definition": "event('E').count()"}],
        "audiences": [{"key": audience, "definition": "trait('spend') > 1"}],
        "destinations": [{"name": "crm", "topic": "crm", **settings}],
    }


def problems_of(data: dict[str, Any]) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        parse_topology(data)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"sync_every": "6h"},
            "destinations[0].sync_every: 'sync_every' is for lists; set 'kind: list', or leave it out",
        ),
        (
            {"kind": "list", "enter_event": "Joined"},
            "destinations[0].enter_event: 'enter_event' is for destinations of the kind 'event'; leave it out",
        ),
        (
            {"kind": "list", "sync_every": "500ms"},
            "destinations[0].sync_every: '500ms' should be a second at least: '1s', '15m', '6h'",
        ),
        ({"kind": "set"}, "destinations[0].kind: 'set' should be 'event' or 'list'"),
        (
            {"send": ["group"]},
            "destinations[0].send[0]: 'group' tells of accounts, and no audience or trait here is about accounts; "
            "leave it out",
        ),
        (
            {"id_sync": [{"type": name, "strategy": "all"} for name in ("user_id", "email", "phone", "card")]},
            "destinations[0].id_sync[3]: at most 3 identifiers may have the strategy 'all'; use 'last' or 'first'",
        ),
        (
            {"id_sync": {"user_id": "all", "email": "all", "phone": "all", "card": "all"}},
            "destinations[0].id_sync.card: at most 3 identifiers may have the strategy 'all'; use 'last' or 'first'",
        ),
        (
            {"id_sync": [{"type": "email"}, {"type": "email"}]},
            "destinations[0].id_sync[1]: the type 'email' is used already, at destinations[0].id_sync[0]",
        ),
        (
            {"id_sync": [{"type": "email", "field": "x"}, {"type": "phone", "field": "x"}]},
            "destinations[0].id_sync[1].field: the field 'x' is used already, at destinations[0].id_sync[0].field",
        ),
        (
            {"id_sync": [{"type": "email", "field": "vip"}]},
            "destinations[0].id_sync[0].field: the field 'vip' is the key of a trait or audience",
        ),
        (
            {"id_sync": [{"type": "email", "strategy": "newest"}]},
            "destinations[0].id_sync[0].strategy: 'newest' should be 'last', 'first' or 'all'",
        ),
        (
            {"id_sync": {"email": "lst"}},
            "destinations[0].id_sync[0].strategy: 'lst' should be 'last', 'first' or 'all'; did you mean 'last'?",
        ),
        (
            {"id_sync": {"ios.idfa": "last"}},
            "destinations[0].id_sync.ios.idfa: 'ios.idfa' is an advertising id; set 'send_mobile_ids: true', too",
        ),
        (
            {"id_sync": {"Phone": "last"}},
            "destinations[0].id_sync[0].type: 'Phone' should be a built-in identifier type or a name in snake_case; "
            "did you mean 'phone'?",
        ),
        (
            {"enrich": ["plan", "plan"]},
            "destinations[0].enrich[1]: the trait 'plan' is used already, at destinations[0].enrich[0]",
        ),
        ({"enrich": ["trait_key"]}, "destinations[0].enrich[0]: the key 'trait_key' is a field of outgoing messages"),
        ({"rate_per_second": 0}, "destinations[0].rate_per_second: 0 should be greater than 0"),
        ({"rate_per_second": True}, "destinations[0].rate_per_second: true should be a valid number"),
        (
            {"topic": "shop.webhook.crm"},
            "destinations[0].topic: the topic 'shop.webhook.crm' is one of the space's own",
        ),
        ({"enrich": "plan"}, "destinations[0].enrich: 'plan' should be a list"),
    ],
)
def test_a_wrong_setting_is_refused_at_its_place(settings: dict[str, Any], expected: str):
    assert [expected] == problems_of(with_destination(**settings))


@pytest.mark.parametrize("key", ["email", "audience_key", "trait_key"])
def test_keys_that_messages_use_themselves_are_refused(key: str):
    expected = f": the key '{key}' is a field of outgoing messages; choose another key"
    assert [f"audiences[0].key{expected}"] == problems_of(with_destination(audience=key))
    assert [f"traits[0].key{expected}"] == problems_of(with_destination(trait=key))


def test_a_mapping_of_strategies_is_the_same_as_a_list():
    short = parse_topology(with_destination(id_sync={"user_id": "first", "email": "all"}))
    spelled = [{"type": "user_id", "strategy": "first"}, {"type": "email", "strategy": "all"}]
    assert canonical(parse_topology(with_destination(id_sync=spelled))) == canonical(short)


def test_advertising_ids_may_be_chosen_where_they_are_sent():
    topology = parse_topology(with_destination(id_sync={"ios.idfa": "last"}, send_mobile_ids=True))
    assert topology.destinations[0].id_sync[0].type == "ios.idfa"


def test_settings_survive_the_canonical_form_and_change_the_version():
    settings = {"id_sync": [{"type": "email", "field": "mail"}], "enrich": ["plan"]}
    topology = parse_topology(with_destination(**settings))
    assert canonical(Topology.from_canonical(canonical(topology))) == canonical(topology)
    assert topology_version(topology) != topology_version(parse_topology(with_destination()))


def test_a_list_is_synced_every_hour_unless_set_and_reads_back_as_it_was_written():
    unset = parse_topology(with_destination(kind="list"))
    assert canonical(unset)["destinations"][0]["sync_every"] == "1h"
    every = parse_topology(with_destination(kind="list", sync_every="6h"))
    assert every.destinations[0].sync_every == 6 * 3_600_000
    assert canonical(Topology.from_canonical(canonical(every))) == canonical(every)
    assert {"send", "enter_event"} & set(canonical(every)["destinations"][0]) == set()


def test_a_computed_trait_cannot_go_to_a_list():
    data = with_destination(kind="list")
    data["traits"][0]["destinations"] = ["crm"]
    assert problems_of(data) == [
        "traits[0].destinations[0]: 'crm' is a list, and lists hold members of audiences; name it on an audience"
    ]

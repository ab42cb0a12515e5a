"""What a change of the topology is said to be."""

from __future__ import annotations

from typing import Any

from cdp_stream.config.difference import Difference, differences
from cdp_stream.config.topology import parse_topology

BASE: dict[str, Any] = {
    "space": "shop",
    "sources": [{"name": "web", "topic": "events", "write_key": "${KEY}"}],
    "traits": [{"key": "spend", "definition": "event('Paid').sum(property('amount'))"}],
    "audiences": [{"key": "big", "definition": "trait('spend') >= 500"}],
    "destinations": [{"name": "crm", "topic": "crm.out"}],
}


def between(**changes: Any) -> list[Difference]:
    return differences(parse_topology(BASE), parse_topology({**BASE, **changes}))


def test_the_same_topology_has_none() -> None:
    assert [] == between()


def test_an_entry_that_changed_says_what_in_it() -> None:
    found = between(audiences=[{"key": "big", "definition": "trait('spend') >= 600"}])
    fields = {"definition": ("trait('spend') >= 500", "trait('spend') >= 600")}
    assert [Difference("audiences.big", "changed", fields)] == found


def test_entries_that_come_and_go() -> None:
    found = between(traits=[], audiences=[], destinations=[{"name": "ads", "topic": "ads.out"}])
    assert [("traits.spend", "removed"), ("audiences.big", "removed"), ("destinations.crm", "removed"),
            ("destinations.ads", "added")] == [(difference.path, difference.kind) for difference in found]  # fmt: skip


def test_identifiers_by_type_and_in_their_order() -> None:
    found = between(
        identity={"identifiers": [{"type": "email", "limit": 3}, {"type": "user_id"}], "demotion": "minimal"}
    )
    assert [
        Difference("identity.identifiers.email", "changed", {"limit": (5, 3)}),
        Difference("identity.identifiers", "changed", {"order": (["user_id", "email"], ["email", "user_id"])}),
        Difference("identity.demotion", "changed", {"demotion": ("lowest_priority", "minimal")}),
    ] == found


def test_a_secret_is_compared_as_its_placeholder() -> None:
    found = between(sources=[{"name": "web", "topic": "events", "write_key": "${OTHER}"}])
    assert [Difference("sources.web", "changed", {"write_key": ("${KEY}", "${OTHER}")})] == found


def test_what_is_fixed_is_named_too() -> None:
    assert ["space", "partitions"] == [found.path for found in between(space="other", partitions=4)]

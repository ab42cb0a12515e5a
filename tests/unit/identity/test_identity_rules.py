"""Ranks and limits, as written, as defaults, and for types that arrive later."""

from __future__ import annotations

from typing import Any

import pytest

from cdp_stream.config.topology import parse_topology
from cdp_stream.identity.rules import IdentityRules, Limit, compile_rules
from cdp_stream.model.time import DAY_MS

TAIL = ["android.id", "android.idfa", "android.push_token", "anonymous_id", "braze_id", "cross_domain_id"]
TAIL += ["ga_client_id", "group_id", "ios.id", "ios.idfa", "ios.push_token"]


def rules(*identifiers: dict[str, Any]) -> IdentityRules:
    sources = [{"name": "web", "topic": "web"}]
    topology = {"space": "s", "sources": sources, "identity": {"identifiers": list(identifiers)}}
    return compile_rules("s", parse_topology(topology).identity)


def order(of: IdentityRules, *registered: str) -> list[str]:
    ranks = of.ranks(registered)
    assert list(range(1, len(ranks) + 1)) == sorted(ranks.values())
    return sorted(ranks, key=ranks.__getitem__)


def test_by_default_user_id_and_email_come_first_and_the_rest_alphabetically() -> None:
    assert ["user_id", "email", *TAIL] == order(rules())


def test_a_registered_type_slots_in_alphabetically() -> None:
    assert ["user_id", "email", *sorted([*TAIL, "club", "zebra"])] == order(rules(), "club", "zebra")


def test_listed_types_lead_in_their_order_and_the_others_follow() -> None:
    of = rules({"type": "email"}, {"type": "phone"}, {"type": "ios.id"})
    rest = sorted({*TAIL, "user_id"} - {"ios.id"})
    assert ["email", "phone", "ios.id", *rest] == order(of)


def test_a_type_that_is_switched_off_has_no_rank_even_if_it_was_registered() -> None:
    of = rules({"type": "user_id"}, {"type": "club", "enabled": False}, {"type": "ios.id", "enabled": False})
    assert {"club", "ios.id"} & set(order(of, "club", "zebra")) == set()
    assert "zebra" in order(of, "club", "zebra")


def test_limits_have_documented_defaults() -> None:
    of = rules({"type": "email", "limit": 2, "period": "weekly"}, {"type": "phone"})
    assert Limit(1, None) == of.limit("user_id")
    assert Limit(2, 7 * DAY_MS) == of.limit("email")
    assert Limit(5, None) == of.limit("phone") == of.limit("anonymous_id") == of.limit("registered_later")


@pytest.mark.parametrize(
    ("period", "days"), [("ever", None), ("annually", 365), ("monthly", 30), ("weekly", 7), ("daily", 1)]
)
def test_periods_are_so_many_times_24_hours(period: str, days: int | None) -> None:
    of = rules({"type": "anonymous_id", "limit": 3, "period": period})
    assert Limit(3, None if days is None else days * DAY_MS) == of.limit("anonymous_id")

"""Destinations at the end of the whole walk: events go in, messages come out."""

from __future__ import annotations

from typing import Any

import pytest

from cdp_stream.testing.driver import TopologyDriver

CRM = {"name": "crm", "topic": "crm"}


def driver_with(step_size: int = 100, **settings: Any) -> TopologyDriver:
    return TopologyDriver(
        {
            "space": "shop",
            "sources": [{"name": "web", "topic": "shop.events"}],
            "identity": {"identifiers": [{"type": "user_id"}, {"type": "email"}, {"type": "phone"}]},
            "traits": [
                {"key": "spend", "definition": "event('Bought').sum(property('amount'))", "destinations": ["crm"]}
            ],
            "audiences": [{"key": "vip", "definition": "trait('plan') = 'pro'", "destinations": ["crm"]}],
            "destinations": [CRM | settings],
            "partitions": 4,
        },
        step_size=step_size,
    )


def identify(number: int, **traits: Any) -> dict[str, Any]:
    user_id = traits.pop("user_id", "u1")
    at = f"2025-03-01T10:00:{number:02d}Z"
    return {"type": "identify", "userId": user_id, "messageId": f"m{number}", "timestamp": at, "traits": traits}


def bought(number: int, amount: float, user_id: str = "u1") -> dict[str, Any]:
    at = f"2025-03-01T10:00:{number:02d}Z"
    what = {"event": "Bought", "properties": {"amount": amount}}
    return {"type": "track", "userId": user_id, "messageId": f"m{number}", "timestamp": at, **what}


def lines(driver: TopologyDriver) -> list[str]:
    """Each message as `identify vip=True u1 e1 …`: call, key, value, sender, then identifiers that ride along."""
    told = []
    for payload in driver.take("destinations/crm"):
        key = payload["context"]["personas"]["computation_key"]
        track = payload["type"] == "track"
        values = payload["properties" if track else "traits"]
        riding = payload["context"].get("traits", {}) if track else {k: v for k, v in values.items() if k != key}
        who = [payload.get("userId", "-"), *(f"{name}={value}" for name, value in riding.items())]
        told.append(" ".join([payload["type"], f"{key}={values[key]}", *who]))
    return told


def test_what_one_person_s_messages_are_and_in_which_order():
    driver = driver_with()
    driver.put(identify(1, email="e1", plan="pro"))
    assert lines(driver) == ["identify vip=True u1 email=e1", "track vip=True u1 email=e1"]
    driver.put(bought(2, 10.5))
    assert lines(driver) == ["identify spend=10.5 u1 email=e1", "track spend=10.5 u1 email=e1"]
    driver.put(identify(3, email="e2"))
    assert lines(driver) == [
        "identify spend=10.5 u1 email=e2",
        "track spend=10.5 u1 email=e2",
        "identify vip=True u1 email=e2",
        "track vip=True u1 email=e2",
    ]
    driver.put(identify(4, plan="basic"))
    assert lines(driver) == [
        "identify vip=False u1 email=e1",
        "track vip=False u1 email=e1",
        "identify vip=False u1 email=e2",
        "track vip=False u1 email=e2",
    ]


def test_custom_identifiers_are_sent_with_id_sync_only():
    driver = driver_with(send=["track"])
    driver.put(identify(1, phone="+1", plan="pro"))
    assert lines(driver) == ["track vip=True u1"]
    driver = driver_with(send=["track"], id_sync=[{"type": "phone", "strategy": "last", "field": "mobile"}])
    driver.put(identify(1, phone="+1", email="e1", plan="pro"))
    driver.put(identify(2, phone="+2"))
    driver.put(identify(3, plan="basic"))
    assert lines(driver) == [
        "track vip=True - mobile=+1",
        "track vip=True - mobile=+2",
        "track vip=False - mobile=+1",
        "track vip=False - mobile=+2",
        "track vip=False u1 email=e1 mobile=+1",
        "track vip=False u1 email=e1 mobile=+2",
    ]


def test_enrichment_carries_the_values_at_the_time_of_the_message():
    driver = driver_with(send=["track"], enrich=["plan", "spend"])
    driver.put(bought(1, 5))
    driver.put(identify(2, plan="pro"))
    driver.put(bought(3, 6))
    assert [payload["properties"] for payload in driver.take("destinations/crm")] == [
        {"trait_key": "spend", "spend": 5},
        {"audience_key": "vip", "vip": True, "plan": "pro", "spend": 5},
        {"trait_key": "spend", "spend": 11, "plan": "pro"},
    ]


@pytest.mark.parametrize("step_size", [1, 100])
def test_a_merge_tells_each_combination_what_it_does_not_know(step_size: int):
    driver = driver_with(step_size, send=["track"])
    anonymous = {"type": "identify", "anonymousId": "a1", "messageId": "m1", "timestamp": "2025-03-01T10:00:01Z"}
    driver.put(anonymous | {"traits": {"email": "e1", "plan": "pro"}})
    driver.put(bought(2, 5))
    driver.put(identify(3, email="e1"))
    assert sorted(lines(driver)) == sorted(
        [
            "track vip=True - email=e1",
            "track spend=5 u1",
            "track spend=5 u1 email=e1",
            "track spend=5 -",
            "track vip=True u1 email=e1",
        ]
    )

"""Events in the shapes that the public SDKs send: browser, server, mobile. Each is taken, and read as meant."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from cdp_stream.intake.decode import decode
from cdp_stream.model.event import Event, RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.model.time import parse_instant

RECEIVED = parse_instant("2025-03-04T10:00:06Z")
SOURCE = SourceRef("web", "id", 1, 12)


def taken(payload: dict[str, Any], *, identity: bool = True) -> Event:
    event = decode(RawRecord(SOURCE, RECEIVED, None, orjson.dumps(payload), identity))
    assert isinstance(event, Event), event
    return event


BROWSER = {
    "timestamp": "2025-03-04T10:00:01.250Z",
    "integrations": {"Intercom": {"user_hash": "0f"}, "All": True},
    "anonymousId": "3b8e8f6a-1f3e-4a7a-9c11-7d2a5b1d9e01",
    "userId": None,
    "messageId": "ajs-next-1741082401250-3b8e8f6a-1f3e-4a7a-9c11-7d2a5b1d9e01",
    "context": {
        "page": {"path": "/shoes", "referrer": "", "search": "?q=1", "title": "Shoes", "url": "https://shop.example/"},
        "userAgent": "Mozilla/5.0",
        "userAgentData": {"brands": [{"brand": "Chromium", "version": "133"}], "mobile": False},
        "locale": "pt-PT",
        "library": {"name": "analytics.js", "version": "npm:next-1.77.0"},
        "timezone": "Europe/Lisbon",
        "traits": {},
        "campaign": {"source": "mail"},
    },
    "writeKey": "k",
    "sentAt": "2025-03-04T10:00:01.260Z",
    "_metadata": {"bundled": ["Segment.io"], "unbundled": [], "bundledIds": []},
}
SERVER = {
    "integrations": {},
    "anonymousId": None,
    "timestamp": "2025-03-04T09:59:58.123456+00:00",
    "context": {"library": {"name": "analytics-python", "version": "2.3.3"}},
    "userId": 4711,
    "messageId": "0d3f9e62-3c55-4f7a-9a59-6f1f6e4ed7a5",
    "sentAt": "2025-03-04T10:00:00.123456+00:00",
}
MOBILE = {
    "anonymousId": "8E7C0A52-7F5F-4C63-8F4E-1D6B8D6A1B77",
    "userId": "",
    "messageId": "F3B5",
    "originalTimestamp": "2025-03-04T10:00:00.000Z",
    "integrations": {},
    "context": {
        "app": {"name": "Shop", "version": "4.1", "build": "77", "namespace": "org.example.shop"},
        "device": {
            "id": "D-77", "manufacturer": "Apple", "model": "iPhone16,1", "name": "iPhone", "type": "ios",
            "token": None, "adTrackingEnabled": False,
        },
        "network": {"wifi": True, "cellular": False, "bluetooth": False},
        "os": {"name": "iOS", "version": "18.3"},
        "screen": {"width": 390, "height": 844, "density": 3.0},
        "traits": None,
        "externalIds": None,
        "instanceId": "i-1",
    },
    "_metadata": None,
}  # fmt: skip


def test_a_browser_page_takes_its_name_into_the_properties() -> None:
    event = taken({**BROWSER, "type": "page", "name": "Shoes", "category": "Shop", "properties": {"path": "/shoes"}})
    assert ("Page Viewed", {"path": "/shoes", "page_name": "Shoes"}) == (event.name, event.properties)
    assert (None, BROWSER["anonymousId"]) == (event.user_id, event.anonymous_id)
    assert parse_instant("2025-03-04T10:00:05.990Z") == event.time


@pytest.mark.parametrize("name", [None, "", 7, {}], ids=str)
def test_a_page_without_a_name_keeps_its_properties_as_they_are(name: Any) -> None:
    event = taken({**BROWSER, "type": "page", "name": name, "properties": {"path": "/"}})
    assert ("Page Viewed", {"path": "/"}) == (event.name, event.properties)


def test_a_browser_identify_without_traits_takes_those_of_the_context() -> None:
    context = {**BROWSER["context"], "traits": {"plan": "pro"}}  # type: ignore[dict-item]
    absent = taken({**BROWSER, "type": "identify", "userId": "u1", "context": context})
    null = taken({**BROWSER, "type": "identify", "userId": "u1", "context": context, "traits": None})
    empty = taken({**BROWSER, "type": "identify", "userId": "u1", "context": context, "traits": {}})
    assert [({"plan": "pro"}, True), ({"plan": "pro"}, True), ({}, False)] == [
        (event.traits, event.traits_from_context) for event in (absent, null, empty)
    ]


def test_a_server_track_has_a_number_for_an_id_and_microseconds() -> None:
    event = taken({**SERVER, "type": "track", "event": "Order Completed", "properties": {"revenue": 12.5}})
    assert ("4711", None, "Order Completed", {"revenue": 12.5}) == (
        event.user_id, event.anonymous_id, event.name, event.properties,
    )  # fmt: skip
    assert parse_instant("2025-03-04T10:00:04Z") == event.time


def test_a_server_group_carries_the_traits_of_the_account() -> None:
    traits = {"name": "Acme", "employees": 12, "email": True}
    event = taken({**SERVER, "type": "group", "groupId": 99, "traits": traits})
    assert ("99", traits, {}, None) == (event.group_id, event.traits, event.properties, event.name)


def test_a_server_alias_is_an_event_without_a_name() -> None:
    event = taken({**SERVER, "type": "alias", "previousId": "anon-1"})
    assert ("alias", "4711", None, None) == (event.type, event.user_id, event.name, event.group_id)


def test_a_server_batch_item_without_sent_at_keeps_its_own_time() -> None:
    event = taken({**SERVER, "sentAt": None, "type": "track", "event": "X"})
    assert parse_instant("2025-03-04T09:59:58.123Z") == event.time


def test_a_mobile_screen_has_original_timestamp_only_and_nulls() -> None:
    event = taken({**MOBILE, "type": "screen", "name": "Cart", "properties": {}})
    assert ("Screen Viewed", {"screen_name": "Cart"}) == (event.name, event.properties)
    assert (None, MOBILE["anonymousId"]) == (event.user_id, event.anonymous_id)
    assert (parse_instant("2025-03-04T10:00:00Z"), MOBILE["context"]) == (event.time, event.context)


def test_a_mobile_track_may_leave_its_properties_null() -> None:
    event = taken({**MOBILE, "type": "track", "event": "Application Opened", "properties": None})
    assert {} == event.properties


def test_an_identify_has_no_properties_and_a_track_no_traits() -> None:
    both = {"properties": {"a": 1}, "traits": {"b": 2}}
    identify = taken({**MOBILE, **both, "type": "identify"})
    track = taken({**MOBILE, **both, "type": "track", "event": "X"})
    alias = taken({**MOBILE, **both, "type": "alias", "previousId": "p"})
    assert [({}, {"b": 2}), ({"a": 1}, {}), ({}, {})] == [
        (event.properties, event.traits) for event in (identify, track, alias)
    ]


def test_only_a_group_call_has_a_group_id() -> None:
    calls = ("identify", "track", "page", "screen", "alias")
    events = [taken({**SERVER, "type": call, "event": "X", "previousId": "p", "groupId": "g1"}) for call in calls]
    assert [None] * 5 == [event.group_id for event in events]


def test_an_event_without_user_and_anonymous_id_is_left_to_identity() -> None:
    event = taken({"type": "track", "event": "X", "context": {"traits": {"email": "ana@example.org"}}})
    assert (None, None) == (event.user_id, event.anonymous_id)


@pytest.mark.parametrize("identity", [True, False])
def test_the_place_and_the_kind_of_the_source_go_with_the_event(identity: bool) -> None:
    event = taken({**SERVER, "type": "track", "event": "X"}, identity=identity)
    assert (SOURCE, identity) == (event.source, event.identity)

"""Bytes become an event or a typed dead letter; what real SDKs send is taken; nothing raises."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp_stream.intake.dead_letter import dead_letter_record
from cdp_stream.intake.decode import decode
from cdp_stream.model.event import DeadLetter, Event, RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.model.time import format_instant, parse_instant

RECEIVED = parse_instant("2025-01-02T11:30:06Z")


def read(value: Any, timestamp: int = RECEIVED) -> Event | DeadLetter:
    raw = value if isinstance(value, bytes) or value is None else orjson.dumps(value)
    return decode(RawRecord(SourceRef("web", "id", 0, 7), timestamp, None, raw))


def track(**fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "X", "userId": "u1", **fields}


def nested(levels: int) -> bytes:
    return b'{"type":"track","event":"X","properties":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"


REFUSED = [
    (None, "not_json", None),
    (b"", "not_json", None),
    (b"{", "not_json", None),
    (b"NaN", "not_json", None),
    (b"[1]", "not_object", None),
    (b"null", "not_object", None),
    (b'{"type":"tr\xff"}', "invalid_utf8", None),
    (nested(80), "too_deep", None),
    (b"[" * 20_000, "too_deep", None),
    (b'{"type":"track","event":"X","properties":{"n":1e999}}', "number_out_of_range", None),
    (b'{"type":"track","event":"X","properties":{"n":123456789012345678901234567890}}', "number_out_of_range", None),
    ({"userId": "u1"}, "unknown_type", "type"),
    ({"type": "purchase"}, "unknown_type", "type"),
    ({"type": 3}, "wrong_type", "type"),
    ({"type": "track", "userId": "u1"}, "missing_event", "event"),
    ({"type": "track", "userId": "u1", "event": ""}, "missing_event", "event"),
    ({"type": "track", "userId": "u1", "event": 5}, "wrong_type", "event"),
    ({"type": "group", "userId": "u1"}, "missing_group_id", "groupId"),
    ({"type": "group", "userId": "u1", "groupId": ""}, "missing_group_id", "groupId"),
    (track(context={"groupId": ""}), "missing_group_id", "context.groupId"),
    ({"type": "group", "userId": "u1", "groupId": "g" * 501}, "id_too_long", "groupId"),
    ({"type": "alias", "userId": "u1"}, "missing_previous_id", "previousId"),
    (track(messageId="m" * 101), "message_id_too_long", "messageId"),
    (track(userId=True), "wrong_type", "userId"),
    (track(userId={}), "wrong_type", "userId"),
    (track(anonymousId=["a"]), "wrong_type", "anonymousId"),
    (track(properties=[]), "wrong_type", "properties"),
    (track(context="x"), "wrong_type", "context"),
    (track(context={"device": "x"}), "wrong_type", "context.device"),
    (track(context={"externalIds": {}}), "wrong_type", "context.externalIds"),
    (track(context={"traits": {"email": {}}}), "wrong_type", "context.traits.email"),
    (track(properties={str(n): n for n in range(301)}), "too_many_traits", "properties"),
    ({"type": "identify", "userId": "u1", "traits": {str(n): n for n in range(300)}}, "too_many_traits", "traits"),
    (track(timestamp="yesterday"), "bad_timestamp", "timestamp"),
    (track(timestamp=1735787405), "bad_timestamp", "timestamp"),
    (track(timestamp="1969-12-31T23:59:59Z"), "bad_timestamp", "timestamp"),
    (track(integrations={"Personas": False}), "excluded_by_sender", "integrations.Personas"),
    (track(properties={"a": "x" * 33_000}), "too_large", None),
]


@pytest.mark.parametrize(("value", "reason", "field"), REFUSED, ids=lambda value: str(value)[:40])
def test_an_unusable_record_is_a_dead_letter_with_reason_and_field(value: Any, reason: str, field: str | None) -> None:
    letter = read(value)
    assert isinstance(letter, DeadLetter), letter
    assert (reason, field) == (letter.reason, letter.field)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"originalTimestamp": "2025-01-02T12:00:00Z", "sentAt": "2025-01-02T12:00:05Z"},
            "2025-01-02T11:30:01.000Z",
        ),
        ({"timestamp": "2025-01-02T12:00:00Z", "sentAt": "2025-01-02T12:00:05Z"}, "2025-01-02T11:30:01.000Z"),
        ({"timestamp": "2025-01-02T10:00:00Z"}, "2025-01-02T10:00:00.000Z"),
        ({"originalTimestamp": "2025-01-02T10:00:00+01:00"}, "2025-01-02T09:00:00.000Z"),
        ({}, "2025-01-02T11:30:06.000Z"),
        ({"receivedAt": "2025-01-02T09:00:00Z"}, "2025-01-02T09:00:00.000Z"),
        ({"timestamp": None, "sentAt": None}, "2025-01-02T11:30:06.000Z"),
    ],
)
def test_event_time_takes_the_skew_of_the_sender_out(fields: dict[str, Any], expected: str) -> None:
    event = read(track(**fields))
    assert isinstance(event, Event), event
    assert expected == format_instant(event.time)


def test_what_sdks_send_is_taken() -> None:
    browser = {
        "type": "page", "name": "Home", "anonymousId": "6f0c", "userId": None, "messageId": "ajs-1",
        "properties": {"path": "/", "title": None}, "context": {"page": {"path": "/"}, "library": {"name": "analytics.js"}},
        "integrations": {}, "originalTimestamp": "2025-01-02T11:30:00.123Z",
    }  # fmt: skip
    page = read(browser)
    assert isinstance(page, Event)
    assert ("Page Viewed", {"path": "/", "title": None, "page_name": "Home"}) == (page.name, page.properties)
    server = read({"type": "identify", "userId": 42, "anonymousId": None, "context": {"traits": {"plan": "pro"}}})
    assert isinstance(server, Event)
    assert ("42", {"plan": "pro"}, True) == (server.user_id, server.traits, server.traits_from_context)
    mobile = read(
        {"type": "screen", "anonymousId": "a", "name": "Cart", "context": {"device": {"id": "d", "token": None}}}
    )
    assert isinstance(mobile, Event)
    assert ("Screen Viewed", "Cart") == (mobile.name, mobile.properties["screen_name"])


@pytest.mark.parametrize(("sent", "expected"), [(1, "1"), (1.0, "1"), (12.5, "12.5"), (1e3, "1000"), (-7, "-7")])
def test_a_number_as_an_id_becomes_canonical_text(sent: float, expected: str) -> None:
    event = read(track(userId=sent))
    assert isinstance(event, Event)
    assert expected == event.user_id


def test_a_missing_message_id_is_derived_from_the_place_and_grows_with_it() -> None:
    first, second = (
        decode(RawRecord(SourceRef("web", "id", 0, offset), RECEIVED, None, orjson.dumps(track())))
        for offset in (9, 10)
    )
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert first.message_id < second.message_id


def test_a_dead_letter_keeps_the_bytes_and_the_place() -> None:
    record = RawRecord(SourceRef("web", "id", 2, 7), RECEIVED, None, b"{" * 70_000)
    letter = decode(record)
    assert isinstance(letter, DeadLetter)
    row = dead_letter_record(letter, record, RECEIVED)
    assert ("too_large", 70_000, True) == (row["reason"], row["size"], row["truncated"])
    assert {"topic": "web", "partition": 2, "offset": 7, "timestamp": "2025-01-02T11:30:06.000Z"} == row["source"]


@given(st.binary(max_size=200))
def test_no_bytes_raise(raw: bytes) -> None:
    assert isinstance(read(raw), Event | DeadLetter)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
events = st.fixed_dictionaries(
    {"type": st.sampled_from(["identify", "track", "page", "screen", "group", "alias"])},
    optional={
        name: json_values | st.just("x")
        for name in ("event", "userId", "anonymousId", "groupId", "previousId", "messageId", "properties", "traits",
                     "context", "integrations", "timestamp", "sentAt", "originalTimestamp", "name")
    },
)  # fmt: skip


@given(events)
def test_no_object_raises_and_every_event_can_be_encoded(event: dict[str, Any]) -> None:
    decoded = read(event)
    if isinstance(decoded, Event):
        orjson.dumps([decoded.name, decoded.properties, decoded.traits, decoded.context, decoded.user_id])


@given(events, st.randoms(use_true_random=False))
def test_the_order_of_keys_never_matters(event: dict[str, Any], draw: Any) -> None:
    keys = list(event)
    draw.shuffle(keys)
    assert read(event) == read({key: event[key] for key in keys})

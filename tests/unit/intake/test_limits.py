"""Every limit of intake at its edge: the last value that is taken, the first that is not, and the field it names."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from cdp_stream.intake.checks import MESSAGE_ID_LENGTH_MAX
from cdp_stream.intake.decode import PROPERTIES_MAX, TRAITS_MAX, decode
from cdp_stream.intake.wire import DEPTH_MAX, RECORD_BYTES_MAX
from cdp_stream.model.event import ID_LENGTH_MAX, DeadLetter, Event, RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.model.time import INSTANT_MAX, parse_instant

RECEIVED = parse_instant("2025-01-02T11:30:06Z")


def read(value: Any, timestamp: int = RECEIVED) -> Event | DeadLetter:
    raw = value if isinstance(value, bytes) else orjson.dumps(value)
    return decode(RawRecord(SourceRef("web", "id", 0, 7), timestamp, None, raw))


def outcome(value: Any) -> tuple[str, str | None] | str:
    """`taken`, or the reason and the field."""
    decoded = read(value)
    return "taken" if isinstance(decoded, Event) else (decoded.reason, decoded.field)


def track(**fields: Any) -> dict[str, Any]:
    return {"type": "track", "event": "X", "userId": "u1", **fields}


def raw_property(value: bytes) -> bytes:
    return b'{"type":"track","event":"X","userId":"u1","properties":{"a":' + value + b"}}"


def unread_field(value: bytes) -> bytes:
    return b'{"type":"track","event":"X","userId":"u1","category":' + value + b"}"


EXTERNAL_ID = {"type": "phone", "collection": "users", "encoding": "none"}
ID_PLACES = {
    "userId": lambda value: track(userId=value),
    "anonymousId": lambda value: track(anonymousId=value),
    "previousId": lambda value: {"type": "alias", "userId": "u1", "previousId": value},
    "groupId": lambda value: {"type": "group", "userId": "u1", "groupId": value},
    "traits.email": lambda value: {"type": "identify", "traits": {"email": value}},
    "properties.email": lambda value: track(properties={"email": value}),
    "context.groupId": lambda value: track(context={"groupId": value}),
    "context.traits.email": lambda value: {"type": "identify", "context": {"traits": {"email": value}}},
    "context.traits.crossDomainId": lambda value: track(context={"traits": {"crossDomainId": value}}),
    "context.traits.cross_domain_id": lambda value: track(context={"traits": {"cross_domain_id": value}}),
    "context.device.id": lambda value: track(context={"device": {"type": "ios", "id": value}}),
    "context.device.token": lambda value: track(context={"device": {"type": "ios", "token": value}}),
    "context.device.advertisingId": lambda value: track(context={"device": {"type": "ios", "advertisingId": value}}),
    "context.integrations.Google Analytics.clientId": lambda value: track(
        context={"integrations": {"Google Analytics": {"clientId": value}}}
    ),
    "context.integrations.Braze.braze_id": lambda value: track(
        context={"integrations": {"Braze": {"braze_id": value}}}
    ),
    "context.Braze.braze_id": lambda value: track(context={"Braze": {"braze_id": value}}),
    "context.externalIds[1].id": lambda value: track(
        context={"externalIds": [{**EXTERNAL_ID, "id": "p1"}, {**EXTERNAL_ID, "id": value}]}
    ),
}


@pytest.mark.parametrize("place", ID_PLACES)
def test_an_id_of_500_characters_is_taken_and_a_longer_one_names_its_place(place: str) -> None:
    event = ID_PLACES[place]
    assert ("taken", ("id_too_long", place)) == (outcome(event("é" * ID_LENGTH_MAX)), outcome(event("é" * 501)))


@pytest.mark.parametrize("value", [True, False, {}, {"id": "x"}, [], ["x"]], ids=str)
@pytest.mark.parametrize("place", ID_PLACES)
def test_a_boolean_an_object_or_an_array_is_no_id_wherever_one_is_read(place: str, value: Any) -> None:
    assert ("wrong_type", place) == outcome(ID_PLACES[place](value))


@pytest.mark.parametrize("value", [None, 7, 12.5, "x"], ids=str)
@pytest.mark.parametrize("place", sorted(ID_PLACES.keys() - {"previousId", "groupId"}))
def test_null_and_numbers_are_taken_wherever_an_id_is_read(place: str, value: Any) -> None:
    assert outcome(ID_PLACES[place](value)) == "taken"


@pytest.mark.parametrize(
    "item",
    [
        "text",
        None,
        {},
        {"id": {}, "type": "phone", "collection": "users"},
        {"id": True, "collection": "users", "encoding": "none"},
        {"id": [], "type": "phone", "encoding": "none"},
        {"type": "phone", "collection": "users", "encoding": "none"},
    ],
    ids=str,
)
def test_an_external_id_without_its_four_keys_is_passed_over(item: Any) -> None:
    assert outcome(track(context={"externalIds": [item]})) == "taken"


@pytest.mark.parametrize("part", ["Google Analytics", "Braze"])
@pytest.mark.parametrize("setting", [True, False, None, "on", []], ids=str)
def test_an_integration_that_is_switched_and_not_described_holds_no_id(part: str, setting: Any) -> None:
    assert outcome(track(context={"integrations": {part: setting}, "Braze": setting})) == "taken"


@pytest.mark.parametrize("field", ["properties", "traits", "context", "integrations"])
@pytest.mark.parametrize("call", ["identify", "track", "page", "screen", "group", "alias"])
def test_an_object_field_may_be_null_or_an_object_on_any_call(call: str, field: str) -> None:
    event = {"type": call, "event": "X", "userId": "u1", "groupId": "g1", "previousId": "p1"}
    assert ["taken", "taken"] == [outcome({**event, field: value}) for value in (None, {})]
    wrong = [outcome({**event, field: value}) for value in (0, "", False, [], "text", 1.5)]
    assert [("wrong_type", field)] * 6 == wrong


@pytest.mark.parametrize("part", ["device", "traits", "integrations"])
def test_the_parts_of_the_context_are_objects_or_null(part: str) -> None:
    assert outcome(track(context={part: None})) == "taken"
    wrong = [outcome(track(context={part: value})) for value in (0, "", False, [])]
    assert [("wrong_type", f"context.{part}")] * 4 == wrong


@pytest.mark.parametrize("value", [0, "", False, {}])
def test_external_ids_are_a_list_or_null(value: Any) -> None:
    assert outcome(track(context={"externalIds": None})) == "taken"
    assert ("wrong_type", "context.externalIds") == outcome(track(context={"externalIds": value}))


@pytest.mark.parametrize("value", [None, "", True, 5, [], {}], ids=str)
def test_a_track_needs_an_event_name_that_is_a_text(value: Any) -> None:
    reason = "missing_event" if value in (None, "") else "wrong_type"
    assert (reason, "event") == outcome({"type": "track", "userId": "u1", "event": value})


@pytest.mark.parametrize("value", [None, ""], ids=str)
@pytest.mark.parametrize(
    ("call", "field", "reason"),
    [("group", "groupId", "missing_group_id"), ("alias", "previousId", "missing_previous_id")],
)
def test_null_and_empty_count_as_missing(call: str, field: str, reason: str, value: Any) -> None:
    assert (reason, field) == outcome({"type": call, "userId": "u1", field: value})


@pytest.mark.parametrize("value", [False, 0, [], {}, True], ids=str)
def test_a_type_that_is_no_text_is_a_wrong_type(value: Any) -> None:
    assert ("wrong_type", "type") == outcome({"type": value, "userId": "u1"})


@pytest.mark.parametrize("value", [None, "", "Track", "purchase", "track "], ids=repr)
def test_only_the_six_calls_are_known(value: Any) -> None:
    assert ("unknown_type", "type") == outcome({"type": value, "userId": "u1", "event": "X"})


def test_an_empty_context_group_id_drops_a_track_only() -> None:
    context = {"groupId": ""}
    assert ("missing_group_id", "context.groupId") == outcome(track(context=context))
    assert ["taken"] * 3 == [
        outcome({"type": call, "userId": "u1", "context": context}) for call in ("identify", "page", "screen")
    ]


def test_traits_stop_one_before_properties() -> None:
    at_most = {str(number): number for number in range(TRAITS_MAX)}
    one_more = {**at_most, "more": 1}
    assert outcome({"type": "identify", "userId": "u1", "traits": at_most}) == "taken"
    assert ("too_many_traits", "traits") == outcome({"type": "identify", "userId": "u1", "traits": one_more})
    assert ("too_many_traits", "traits") == outcome({"type": "group", "groupId": "g1", "traits": one_more})
    in_context = {"type": "identify", "userId": "u1", "context": {"traits": one_more}}
    assert ("too_many_traits", "context.traits") == outcome(in_context)
    assert PROPERTIES_MAX == len(one_more)
    for call in ("track", "page", "screen"):
        event = {"type": call, "event": "X", "name": "N", "userId": "u1"}
        assert outcome({**event, "properties": one_more}) == "taken"
        assert ("too_many_traits", "properties") == outcome({**event, "properties": {**one_more, "yet": 1}})


def test_a_message_id_has_at_most_100_characters() -> None:
    taken = read(track(messageId="m" * MESSAGE_ID_LENGTH_MAX))
    assert isinstance(taken, Event)
    assert "m" * 100 == taken.message_id
    assert ("message_id_too_long", "messageId") == outcome(track(messageId="m" * 101))
    assert ("wrong_type", "messageId") == outcome(track(messageId={}))


@pytest.mark.parametrize("value", [None, ""], ids=str)
def test_a_null_or_empty_message_id_is_derived_like_a_missing_one(value: Any) -> None:
    assert read(track()) == read(track(messageId=value))


def test_a_record_has_at_most_32_kib() -> None:
    empty = raw_property(b'""')
    fill = RECORD_BYTES_MAX - len(empty)
    assert outcome(raw_property(b'"' + b"x" * fill + b'"')) == "taken"
    assert ("too_large", None) == outcome(raw_property(b'"' + b"x" * (fill + 1) + b'"'))


@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}")], ids=["arrays", "objects"])
@pytest.mark.parametrize("core", [b"1", b""], ids=["full", "empty"])
def test_nesting_is_counted_from_the_event_itself(opened: bytes, closed: bytes, core: bytes) -> None:
    core = core or closed.replace(b"}", b"{}").replace(b"]", b"[]")
    levels = DEPTH_MAX - 1 - (core != b"1")

    def nest(count: int) -> bytes:
        return unread_field(opened * count + core + closed * count)

    assert ("taken", ("too_deep", None)) == (outcome(nest(levels)), outcome(nest(levels + 1)))


def test_brackets_in_texts_are_no_nesting() -> None:
    assert outcome(track(properties={"a": "[{" * 500, "b": '\\"[' * 500, "c": [[], {}] * 100})) == "taken"


def test_what_is_too_deep_does_not_hang_on_how_deep_the_caller_stands() -> None:
    def from_below(frames: int, raw: bytes) -> Event | DeadLetter:
        return read(raw) if frames == 0 else from_below(frames - 1, raw)

    for levels in (DEPTH_MAX - 2, DEPTH_MAX + 1, 300, 900, 16_000):
        raw = unread_field(b"[" * levels + b"]" * levels)
        assert from_below(0, raw) == from_below(600, raw)


@pytest.mark.parametrize("place", [raw_property, unread_field], ids=["property", "unread"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"18446744073709551615", "taken"),
        (b"18446744073709551616", ("number_out_of_range", None)),
        (b"-9223372036854775808", "taken"),
        (b"-9223372036854775809", ("number_out_of_range", None)),
        (b'[{}, {"b": [10000000000000000000000]}]', ("number_out_of_range", None)),
        (b"9" * 5_000, ("number_out_of_range", None)),
        (b'"123456789012345678901234567890"', "taken"),
        (b"0." + b"1" * 3_000, "taken"),
        (b"1e308", "taken"),
        (b"1e-999", "taken"),
        (b"1e309", ("number_out_of_range", None)),
        (b"-1E999", ("number_out_of_range", None)),
        (b"9" * 400 + b".5", ("number_out_of_range", None)),
        (b"NaN", ("not_json", None)),
        (b"-Infinity", ("not_json", None)),
        (b"01", ("not_json", None)),
        (b'"\\ud83d\\ude00"', "taken"),
        (b'"\\\\ud800"', "taken"),
        (b'"\\ud800"', ("invalid_utf8", None)),
        (b'"\\uDC00"', ("invalid_utf8", None)),
        (b'"\\ud800\\u0041"', ("invalid_utf8", None)),
        (b'{"\\ud800": 1}', ("invalid_utf8", None)),
        (b'"\\ud800" 1', ("not_json", None)),
        (b'"\xff"', ("invalid_utf8", None)),
        (b'"\xed\xa0\x80"', ("invalid_utf8", None)),
        (b'"\xc0\x80"', ("invalid_utf8", None)),
        (b"\xff", ("invalid_utf8", None)),
        (b'"\x00"', ("not_json", None)),
        (b"[1,]", ("not_json", None)),
    ],
    ids=lambda value: str(value)[:32],
)  # fmt: skip
def test_numbers_and_texts_are_held_to_what_can_be_written_again(place: Any, value: bytes, expected: Any) -> None:
    assert expected == outcome(place(value))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "empty"),
        (b'{"a": }', "the value is not valid JSON"),
        (b'{"a": "\xff"}', "byte 7"),
        (b"[]", "an array"),
        (b'"x"', "a text"),
        (b"true", "a boolean"),
        (b"null", "null"),
        (b"1.5", "a number"),
    ],
)
def test_the_detail_says_where_or_what(raw: bytes, words: str) -> None:
    letter = read(raw)
    assert isinstance(letter, DeadLetter)
    assert words in letter.detail


def test_a_tombstone_is_told_from_an_empty_value() -> None:
    tombstone = decode(RawRecord(SourceRef("web", "id", 0, 7), RECEIVED, b"key", None))
    assert isinstance(tombstone, DeadLetter)
    assert ("not_json", None, True) == (tombstone.reason, tombstone.field, "tombstone" in tombstone.detail)


@pytest.mark.parametrize("field", ["timestamp", "originalTimestamp", "sentAt", "receivedAt"])
@pytest.mark.parametrize(
    "value",
    ["", "soon", 0, 1735787405000, True, [], {}, "2025-13-01", "10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z",
     "2025-01-02T00:00:00." + "0" * 100 + "Z"],
    ids=lambda value: str(value)[:24],
)  # fmt: skip
def test_what_is_no_instant_names_its_field(field: str, value: Any) -> None:
    assert ("bad_timestamp", field) == outcome(track(**{field: value}))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"timestamp": "1970-01-01T00:00:00Z"}, "taken"),
        ({"timestamp": "1969-12-31T23:59:59.999Z"}, ("bad_timestamp", "timestamp")),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, ("bad_timestamp", "timestamp")),
        ({"timestamp": "9999-12-31T23:59:59.999Z"}, "taken"),
        ({"timestamp": "9999-12-31T23:59:59-01:00"}, ("bad_timestamp", "timestamp")),
        ({"originalTimestamp": "1970-01-01", "sentAt": "9999-12-31"}, ("bad_timestamp", "timestamp")),
        ({"originalTimestamp": "9999-12-31", "sentAt": "1970-01-01"}, ("bad_timestamp", "timestamp")),
    ],
    ids=str,
)
def test_event_time_lies_between_1970_and_9999(fields: dict[str, Any], expected: Any) -> None:
    assert expected == outcome(track(**fields))


@pytest.mark.parametrize(("timestamp", "expected"), [(-1, 0), (INSTANT_MAX + 1, INSTANT_MAX)])
def test_a_record_timestamp_out_of_range_is_brought_into_it(timestamp: int, expected: int) -> None:
    event = read(track(), timestamp)
    assert isinstance(event, Event)
    assert expected == event.time


def test_only_personas_false_excludes() -> None:
    assert ("excluded_by_sender", "integrations.Personas") == outcome(track(integrations={"Personas": False}))
    kept = [{"Personas": True}, {"Personas": None}, {"Personas": {}}, {"All": False}, {"personas": False}]
    assert ["taken"] * len(kept) == [outcome(track(integrations=integrations)) for integrations in kept]

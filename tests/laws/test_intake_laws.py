"""Laws of intake: nothing raises, what is taken can be written again, and only the content of a record decides."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdp_stream.intake.dead_letter import dead_letter_record
from cdp_stream.intake.decode import decode
from cdp_stream.model.event import DeadLetter, Event, RawRecord
from cdp_stream.model.ids import SourceRef
from cdp_stream.model.time import INSTANT_MAX, format_instant, parse_instant
from cdp_stream.model.values import canonical_id

RECEIVED = parse_instant("2025-01-02T11:30:06Z")
CALLS = ("identify", "track", "page", "screen", "group", "alias")
PRIVATE = "ana.private"


def record_of(raw: bytes) -> RawRecord:
    return RawRecord(SourceRef("web", "id", 0, 7), RECEIVED, None, raw)


def read(raw: bytes) -> Event | DeadLetter:
    return decode(record_of(raw))


texts = st.text(max_size=8) | st.sampled_from(["", "x", "2025-01-02T12:00:00Z", "1969-01-01", "9999-12-31", "ios"])
numbers = st.integers(-(2**66), 2**66) | st.floats(allow_nan=False, allow_infinity=False)
KEYS = (
    "type", "event", "name", "userId", "anonymousId", "groupId", "previousId", "messageId", "properties", "traits",
    "context", "integrations", "timestamp", "originalTimestamp", "sentAt", "receivedAt", "device", "email",
    "externalIds", "id", "collection", "encoding", "Braze", "braze_id", "Google Analytics", "clientId", "token",
    "crossDomainId", "Personas", "advertisingId",
)  # fmt: skip
keys = st.sampled_from(KEYS) | st.text(max_size=4)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=10,
)


def seldom(odd: st.SearchStrategy[Any], usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what is usual, so that whole events are taken often enough for the laws about them to say something."""
    return st.integers(0, 19).flatmap(lambda draw: odd if draw == 19 else usual)


objects = st.none() | st.dictionaries(st.text(max_size=4) | st.sampled_from(("plan", "id", "name")), values, max_size=4)
ids = seldom(values, st.none() | st.text(max_size=8) | st.integers(-9, 10**17) | st.floats(-1e6, 1e6))
named = seldom(values, st.text(min_size=1, max_size=8) | st.integers(1, 99))
instants = seldom(texts, st.none() | st.integers(10**12, 2 * 10**12).map(format_instant))
external_ids = seldom(
    values, st.fixed_dictionaries({"id": ids, "type": texts, "collection": texts, "encoding": st.just("none")})
)
contexts = st.fixed_dictionaries(
    {},
    optional={
        "traits": seldom(values, st.fixed_dictionaries({}, optional={"email": ids, "crossDomainId": ids, "x": values})),
        "device": seldom(values, st.fixed_dictionaries({}, optional={"id": ids, "token": ids, "type": texts})),
        "integrations": seldom(
            values, st.fixed_dictionaries({}, optional={"Braze": objects, "Google Analytics": objects})
        ),
        "externalIds": seldom(values, st.lists(external_ids, max_size=3)),
        "Braze": seldom(values, st.fixed_dictionaries({"braze_id": ids})),
        "groupId": named,
    },
)
events = st.fixed_dictionaries(
    {
        "type": st.sampled_from(CALLS),
        "event": st.text(min_size=1, max_size=8),
        "groupId": named,
        "previousId": named,
    },
    optional={
        "name": values,
        "userId": ids,
        "anonymousId": ids,
        "messageId": ids,
        "properties": seldom(values, objects),
        "traits": seldom(values, objects),
        "context": seldom(values, contexts),
        "integrations": seldom(values, objects),
        "timestamp": instants,
        "originalTimestamp": instants,
        "sentAt": instants,
        "receivedAt": instants,
        "anything": values,
    },
)


def encoded(value: Any) -> bytes:
    """As JSON; integers may be wider than orjson writes them."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def shuffled(value: Any, draw: Any) -> Any:
    """The same value with the keys of all its objects in another order."""
    if isinstance(value, dict):
        order = list(value)
        draw.shuffle(order)
        return {key: shuffled(value[key], draw) for key in order}
    return [shuffled(item, draw) for item in value] if isinstance(value, list) else value


@given(st.binary(max_size=300))
@example(b"[" * 40_000)
@example(b'"' + b'\\"' * 16_000)
@example(b'{"a":' * 6_000)
@example(b"\\" * 30_000)
def test_no_bytes_raise_and_every_dead_letter_becomes_a_row(raw: bytes) -> None:
    letter = read(raw)
    # Hypothesis also tries the texts that stand in the code, and some of these are events.
    assert isinstance(letter, DeadLetter) or b'"type"' in raw
    if isinstance(letter, DeadLetter):
        row = orjson.loads(orjson.dumps(dead_letter_record(letter, record_of(raw), RECEIVED)))
        assert (letter.reason, len(raw)) == (row["reason"], row["size"])


@given(events, st.data())
def test_a_valid_event_with_some_of_its_bytes_replaced_never_raises(event: dict[str, Any], data: st.DataObject) -> None:
    raw = encoded(event)
    start = data.draw(st.integers(0, len(raw)))
    length = data.draw(st.integers(0, 6))
    broken = raw[:start] + data.draw(st.binary(max_size=6)) + raw[start + length :]
    assert isinstance(read(broken), Event | DeadLetter)


@given(events)
def test_every_event_can_be_written_again_and_says_what_was_sent(event: dict[str, Any]) -> None:
    taken = read(encoded(event))
    if isinstance(taken, DeadLetter):
        return
    parts = [taken.properties, taken.traits, taken.context]
    assert parts == orjson.loads(orjson.dumps(parts))
    for text in (taken.message_id, taken.user_id, taken.anonymous_id, taken.group_id, taken.name):
        assert text is None or text.encode().decode() == text != ""
    assert (event["type"], event.get("context") or {}) == (taken.type, taken.context)
    assert 0 <= taken.time <= INSTANT_MAX


@given(events, st.randoms(use_true_random=False))
def test_the_order_of_keys_never_matters_at_any_depth(event: dict[str, Any], draw: Any) -> None:
    assert read(encoded(event)) == read(encoded(shuffled(event, draw)))


@given(events)
def test_reading_twice_gives_the_same(event: dict[str, Any]) -> None:
    raw = encoded(event)
    assert read(raw) == read(raw)


def with_private_texts(value: Any) -> Any:
    """Every value that is no call type made a secret, long enough to break the limits of ids."""
    if isinstance(value, dict):
        return {key: inner if key == "type" else with_private_texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_private_texts(item) for item in value]
    return PRIVATE * 60 if isinstance(value, str) else value


@given(events)
def test_no_dead_letter_tells_what_the_sender_wrote(event: dict[str, Any]) -> None:
    letter = read(encoded(with_private_texts(event)))
    if isinstance(letter, DeadLetter):
        assert PRIVATE not in f"{letter.field} {letter.detail}"


@given(
    st.integers(10**12, 2 * 10**12),
    st.integers(0, 10**8),
    st.integers(-(10**11), 10**11),
    st.sampled_from(["originalTimestamp", "timestamp"]),
)
def test_a_wrong_clock_of_the_sender_changes_nothing(received: int, delay: int, wrong: int, field: str) -> None:
    """Event time depends on how long an event lay with the sender, not on what the sender's clock showed."""

    def sent_by_clock(ahead: int) -> int:
        wire = {
            "type": "page",
            field: format_instant(received - delay + ahead),
            "sentAt": format_instant(received + ahead),
            "receivedAt": format_instant(received),
        }
        event = read(encoded(wire))
        assert isinstance(event, Event)
        return event.time

    assert received - delay == sent_by_clock(0) == sent_by_clock(wrong)


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(5e-324)
@example(1e-20)
@example(1.5e-7)
@example(-0.0)
def test_a_fraction_as_an_id_is_plain_decimal_text_that_means_the_same_number(value: float) -> None:
    text = canonical_id(value)
    assert text is not None
    assert set(text) <= set("-.0123456789")
    assert not text.endswith(".")
    assert value == float(text)


@given(st.integers(-(2**53), 2**53))
def test_an_integer_is_the_same_id_however_it_is_written(value: int) -> None:
    assert str(value) == canonical_id(value) == canonical_id(float(value)) == canonical_id(str(value))


@pytest.mark.parametrize("value", [True, False, {}, [], {"id": 1}, ["x"]], ids=str)
def test_booleans_objects_and_arrays_are_no_ids(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical_id(value)


@pytest.mark.parametrize("value", [None, ""], ids=repr)
def test_null_and_the_empty_text_are_no_id(value: Any) -> None:
    assert canonical_id(value) is None

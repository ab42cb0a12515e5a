"""Step 1: bytes become an `Event` or a `DeadLetter`. Never raises, whatever the bytes are."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import Struct

from cdp_stream.intake.checks import Refused, check_tree, context_of, id_of, mapping_of, promoted_ids, time_of
from cdp_stream.model.event import DeadLetter, Event, EventType, RawRecord
from cdp_stream.model.ids import derived_message_id

RECORD_BYTES_MAX: Final = 32 * 1024
MESSAGE_ID_LENGTH_MAX: Final = 100
DEPTH_MAX: Final = 64
PROPERTIES_MAX: Final = 300
TRAITS_MAX: Final = 299
_TYPES: Final[dict[str, EventType]] = {
    "identify": "identify",
    "track": "track",
    "page": "page",
    "screen": "screen",
    "group": "group",
    "alias": "alias",
}
_SUSPECT_NUMBER: Final = re.compile(rb"\d{18}|[0-9.][eE]")
_SUSPECT_TEXT: Final = re.compile(rb"\\[uU][dD]")


class _Wire(Struct, gc=False):
    """The fields of an event as they come; everything unchecked but for JSON itself."""

    type: Any = None
    messageId: Any = None
    userId: Any = None
    anonymousId: Any = None
    groupId: Any = None
    previousId: Any = None
    event: Any = None
    name: Any = None
    properties: Any = None
    traits: Any = None
    context: Any = None
    integrations: Any = None
    timestamp: Any = None
    originalTimestamp: Any = None
    sentAt: Any = None
    receivedAt: Any = None


_decode_wire = msgspec.json.Decoder(_Wire).decode
_decode_any = msgspec.json.Decoder().decode


def decode(record: RawRecord) -> Event | DeadLetter:
    """The event in a source record, or why it is none. Fields follow the public tracking spec ("spec/common")."""
    raw = record.value
    if not raw:
        return DeadLetter(
            "not_json", None, "the record is empty (a tombstone)" if raw is None else "the value is empty"
        )
    if len(raw) > RECORD_BYTES_MAX:
        return DeadLetter("too_large", None, f"{len(raw)} bytes; at most {RECORD_BYTES_MAX} are taken")
    try:
        wire = _decode_wire(raw)
        # Depth, huge numbers and lone surrogates are rare: look closely only where the bytes give cause.
        if raw.count(b"{") + raw.count(b"[") > DEPTH_MAX or _SUSPECT_NUMBER.search(raw) or _SUSPECT_TEXT.search(raw):
            check_tree(_decode_any(raw), DEPTH_MAX)
        return _event(wire, record)
    except Refused as refused:
        return refused.letter
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _undecodable(raw, error)


def _undecodable(raw: bytes, error: Exception) -> DeadLetter:  # noqa: PLR0911 - one line a reason
    """Why these bytes are not an event object."""
    if isinstance(error, RecursionError):
        return DeadLetter("too_deep", None, f"nested deeper than {DEPTH_MAX} levels")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as broken:
        return DeadLetter("invalid_utf8", None, f"not UTF-8 at byte {broken.start}")
    try:
        value = _decode_any(raw)
    except RecursionError:
        return DeadLetter("too_deep", None, f"nested deeper than {DEPTH_MAX} levels")
    except msgspec.DecodeError as broken:
        text = str(broken)
        if "out of range" in text.lower():
            return DeadLetter("number_out_of_range", None, text)
        if "recursion" in text.lower():
            return DeadLetter("too_deep", None, f"nested deeper than {DEPTH_MAX} levels")
        return DeadLetter("not_json", None, text)
    kind = {list: "an array", str: "a text", bool: "a boolean", type(None): "null"}.get(type(value), "a number")
    return DeadLetter("not_object", None, f"the record is {kind}; an event is an object")


def _event(wire: _Wire, record: RawRecord) -> Event | DeadLetter:
    if wire.type is not None and not isinstance(wire.type, str):
        return DeadLetter("wrong_type", "type", "must be a text")
    type_ = _TYPES.get(wire.type or "")
    if type_ is None:
        return DeadLetter("unknown_type", "type", "must be identify, track, page, screen, group or alias")
    integrations = mapping_of(wire.integrations, "integrations")
    if integrations.get("Personas") is False:
        return DeadLetter("excluded_by_sender", "integrations.Personas", "the sender excluded this event")
    message_id = id_of(wire.messageId, "messageId", None) or derived_message_id(record.source)
    if len(message_id) > MESSAGE_ID_LENGTH_MAX:
        detail = f"{len(message_id)} characters; at most {MESSAGE_ID_LENGTH_MAX} are taken"
        return DeadLetter("message_id_too_long", "messageId", detail)
    user_id, anonymous_id = id_of(wire.userId, "userId"), id_of(wire.anonymousId, "anonymousId")
    context = context_of(wire.context)
    properties, traits = mapping_of(wire.properties, "properties"), mapping_of(wire.traits, "traits")
    from_context = False
    if type_ == "identify" and wire.traits is None and context.get("traits"):
        traits, from_context = context["traits"], True
    _counts(type_, properties, traits)
    promoted_ids(type_, properties, traits, context)
    name, properties = _name(type_, wire, properties)
    group_id = _group_id(type_, wire, context)
    if type_ == "alias" and id_of(wire.previousId, "previousId") is None:
        return DeadLetter("missing_previous_id", "previousId", "an alias call needs a previousId")
    return Event(
        type=type_,
        message_id=message_id,
        time=time_of(wire, record.timestamp),
        source=record.source,
        user_id=user_id,
        anonymous_id=anonymous_id,
        group_id=group_id,
        name=name,
        properties=properties if type_ in ("track", "page", "screen") else {},
        traits=traits if type_ in ("identify", "group") else {},
        context=context,
        identity=record.identity,
        traits_from_context=from_context,
    )


def _counts(type_: str, properties: dict[str, Any], traits: dict[str, Any]) -> None:
    if type_ in ("identify", "group") and len(traits) > TRAITS_MAX:
        raise Refused("too_many_traits", "traits", f"{len(traits)} traits; fewer than {TRAITS_MAX + 1} are taken")
    if len(properties) > PROPERTIES_MAX:
        detail = f"{len(properties)} properties; at most {PROPERTIES_MAX} are taken"
        raise Refused("too_many_traits", "properties", detail)


def _name(type_: str, wire: _Wire, properties: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    match type_:
        case "track":
            if wire.event is not None and not isinstance(wire.event, str):
                raise Refused("wrong_type", "event", "must be a text")
            if not wire.event:
                raise Refused("missing_event", "event", "a track call needs an event name")
            return wire.event, properties
        case "page" | "screen":
            if isinstance(wire.name, str) and wire.name:
                properties = {**properties, f"{type_}_name": wire.name}
            return ("Page Viewed" if type_ == "page" else "Screen Viewed"), properties
        case _:
            return None, properties


def _group_id(type_: str, wire: _Wire, context: dict[str, Any]) -> str | None:
    if type_ == "group":
        group_id = id_of(wire.groupId, "groupId")
        if group_id is None:
            raise Refused("missing_group_id", "groupId", "a group call needs a groupId that is not empty")
        return group_id
    if type_ == "track" and context.get("groupId") == "":
        raise Refused("missing_group_id", "context.groupId", "must not be empty")
    return None

"""Step 1: bytes become an `Event` or a `DeadLetter`. Never raises, whatever the bytes are."""

from __future__ import annotations

from typing import Any, Final

from cdp_stream.intake.checks import Refused, context_of, id_of, mapping_of, message_id_of, time_of
from cdp_stream.intake.wire import read_object
from cdp_stream.model.event import DeadLetter, Event, EventType, RawRecord
from cdp_stream.model.ids import derived_message_id
from cdp_stream.model.values import kind_of

PROPERTIES_MAX: Final = 300
TRAITS_MAX: Final = 299
"""Two rows of "product-limits" disagree by one: identify and group are refused at 300, the others above 300."""
_TRAIT_CALLS: Final = ("identify", "group")
_TYPES: Final[dict[str, EventType]] = {
    "identify": "identify",
    "track": "track",
    "page": "page",
    "screen": "screen",
    "group": "group",
    "alias": "alias",
}


def decode(record: RawRecord) -> Event | DeadLetter:
    """The event in a source record, or why it is none. Fields follow the public tracking spec ("spec/common")."""
    try:
        return _event(read_object(record.value), record)
    except Refused as refused:
        return refused.letter


def _event(wire: dict[str, Any], record: RawRecord) -> Event:
    """Ids and objects are held to their kind on every call, also where the call has no use for them."""
    type_ = _type(wire.get("type"))
    if mapping_of(wire.get("integrations"), "integrations").get("Personas") is False:
        raise Refused("excluded_by_sender", "integrations.Personas", "the sender excluded this event")
    context = context_of(wire.get("context"))
    properties, traits = mapping_of(wire.get("properties"), "properties"), mapping_of(wire.get("traits"), "traits")
    group_id, previous_id = id_of(wire.get("groupId"), "groupId"), id_of(wire.get("previousId"), "previousId")
    name, from_context = None, False
    match type_:
        case "track" | "page" | "screen":
            _check_properties(properties)
            name, properties = _named(type_, wire, properties)
            if type_ == "track" and context.get("groupId") == "":
                raise Refused("missing_group_id", "context.groupId", "must not be empty")
        case "identify":
            from_context = wire.get("traits") is None and bool(context.get("traits"))
            traits = context["traits"] if from_context else traits
            _check_traits(traits, "context.traits" if from_context else "traits")
            if "email" in traits:
                id_of(traits["email"], "traits.email")
        case "group":
            if group_id is None:
                raise Refused("missing_group_id", "groupId", "a group call needs a groupId that is not empty")
            _check_traits(traits, "traits")
        case "alias":
            if previous_id is None:
                raise Refused("missing_previous_id", "previousId", "an alias call needs a previousId")
    return Event(
        type=type_,
        message_id=message_id_of(wire.get("messageId")) or derived_message_id(record.source),
        time=time_of(wire, record.timestamp),
        source=record.source,
        user_id=id_of(wire.get("userId"), "userId"),
        anonymous_id=id_of(wire.get("anonymousId"), "anonymousId"),
        group_id=group_id if type_ == "group" else None,
        name=name,
        properties=properties if name else {},
        traits=traits if type_ in _TRAIT_CALLS else {},
        context=context,
        identity=record.identity,
        traits_from_context=from_context,
    )


def _type(value: Any) -> EventType:
    if value is not None and type(value) is not str:
        raise Refused("wrong_type", "type", f"must be a text, not {kind_of(value)}")
    type_ = _TYPES.get(value or "")
    if type_ is None:
        raise Refused("unknown_type", "type", "must be identify, track, page, screen, group or alias")
    return type_


def _check_traits(traits: dict[str, Any], field: str) -> None:
    if len(traits) > TRAITS_MAX:
        raise Refused("too_many_traits", field, f"{len(traits)} traits; at most {TRAITS_MAX} are taken")


def _check_properties(properties: dict[str, Any]) -> None:
    if len(properties) > PROPERTIES_MAX:
        detail = f"{len(properties)} properties; at most {PROPERTIES_MAX} are taken"
        raise Refused("too_many_traits", "properties", detail)
    if "email" in properties:
        id_of(properties["email"], "properties.email")


def _named(type_: str, wire: dict[str, Any], properties: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The event's name; that of a page or a screen becomes one of its properties ("engage/audiences")."""
    if type_ == "track":
        return _track_name(wire.get("event")), properties
    name = wire.get("name")
    if type(name) is str and name:
        properties = {**properties, f"{type_}_name": name}
    return ("Page Viewed" if type_ == "page" else "Screen Viewed"), properties


def _track_name(name: Any) -> str:
    if name is not None and type(name) is not str:
        raise Refused("wrong_type", "event", f"must be a text, not {kind_of(name)}")
    if not name:
        raise Refused("missing_event", "event", "a track call needs an event name")
    return name

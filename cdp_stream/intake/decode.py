"""Step 1: bytes become an `Event` or a `DeadLetter`. Never raises, whatever the bytes are."""

from __future__ import annotations

from typing import Any, Final

from cdp_stream.intake.checks import Refused, context_of, id_of, mapping_of, message_id_of, time_of
from cdp_stream.intake.wire import read_object
from cdp_stream.model.event import DeadLetter, Event, EventType, RawRecord
from cdp_stream.model.ids import derived_message_id

PROPERTIES_MAX: Final = 300
TRAITS_MAX: Final = 299
"""Two rows of "product-limits" disagree by one: identify and group are refused at 300, the others above 300."""
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
    type_ = _type(wire.get("type"))
    if mapping_of(wire.get("integrations"), "integrations").get("Personas") is False:
        raise Refused("excluded_by_sender", "integrations.Personas", "the sender excluded this event")
    context = context_of(wire.get("context"))
    name = group_id = None
    properties: dict[str, Any] = {}
    traits: dict[str, Any] = {}
    from_context = False
    match type_:
        case "identify":
            traits, from_context = _identify_traits(wire, context)
        case "group":
            group_id, traits = _group_id(wire), _traits(wire)
        case "alias":
            if id_of(wire.get("previousId"), "previousId") is None:
                raise Refused("missing_previous_id", "previousId", "an alias call needs a previousId")
        case "track":
            name, properties = _track_name(wire), _properties(wire)
            if context.get("groupId") == "":
                raise Refused("missing_group_id", "context.groupId", "must not be empty")
        case "page":
            name, properties = "Page Viewed", _with_name(_properties(wire), "page_name", wire.get("name"))
        case "screen":
            name, properties = "Screen Viewed", _with_name(_properties(wire), "screen_name", wire.get("name"))
    return Event(
        type=type_,
        message_id=message_id_of(wire.get("messageId")) or derived_message_id(record.source),
        time=time_of(wire, record.timestamp),
        source=record.source,
        user_id=id_of(wire.get("userId"), "userId"),
        anonymous_id=id_of(wire.get("anonymousId"), "anonymousId"),
        group_id=group_id,
        name=name,
        properties=properties,
        traits=traits,
        context=context,
        identity=record.identity,
        traits_from_context=from_context,
    )


def _type(value: Any) -> EventType:
    if value is not None and type(value) is not str:
        raise Refused("wrong_type", "type", f"must be a text, not {type(value).__name__}")
    type_ = _TYPES.get(value or "")
    if type_ is None:
        raise Refused("unknown_type", "type", "must be identify, track, page, screen, group or alias")
    return type_


def _identify_traits(wire: dict[str, Any], context: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The user's traits, and whether they stand in the context because the call itself has none."""
    from_context = wire.get("traits") is None and bool(context.get("traits"))
    if from_context:
        traits = context["traits"]
        _check_count(traits, TRAITS_MAX, "context.traits")
    else:
        traits = _traits(wire)
        if "email" in traits:
            id_of(traits["email"], "traits.email")
    return traits, from_context


def _traits(wire: dict[str, Any]) -> dict[str, Any]:
    traits = mapping_of(wire.get("traits"), "traits")
    _check_count(traits, TRAITS_MAX, "traits")
    return traits


def _properties(wire: dict[str, Any]) -> dict[str, Any]:
    properties = mapping_of(wire.get("properties"), "properties")
    _check_count(properties, PROPERTIES_MAX, "properties")
    if "email" in properties:
        id_of(properties["email"], "properties.email")
    return properties


def _check_count(values: dict[str, Any], count_max: int, field: str) -> None:
    if len(values) > count_max:
        raise Refused("too_many_traits", field, f"{len(values)} of them; at most {count_max} are taken")


def _track_name(wire: dict[str, Any]) -> str:
    name = wire.get("event")
    if name is not None and type(name) is not str:
        raise Refused("wrong_type", "event", f"must be a text, not {type(name).__name__}")
    if not name:
        raise Refused("missing_event", "event", "a track call needs an event name")
    return name


def _with_name(properties: dict[str, Any], key: str, name: Any) -> dict[str, Any]:
    """The name of a page or a screen is queried as a property of the event ("engage/audiences")."""
    return {**properties, key: name} if type(name) is str and name else properties


def _group_id(wire: dict[str, Any]) -> str:
    group_id = id_of(wire.get("groupId"), "groupId")
    if group_id is None:
        raise Refused("missing_group_id", "groupId", "a group call needs a groupId that is not empty")
    return group_id

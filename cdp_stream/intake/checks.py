"""Step 1b: checks of single fields: ids, objects, times. What cannot be used raises `Refused`, which `decode` catches.

Details name lengths and kinds, never a value: dead letters are read by people who may not see personal data.
"""

from __future__ import annotations

from typing import Any, Final

from cdp_stream.model.event import ID_LENGTH_MAX, DeadLetter, DeadLetterReason, id_in
from cdp_stream.model.time import INSTANT_MAX, Instant, parse_instant
from cdp_stream.model.values import kind_of

MESSAGE_ID_LENGTH_MAX: Final = 100
INSTANT_TEXT_LENGTH_MAX: Final = 64
"""Longer than any ISO-8601 text of use; fractions of a second may have any number of digits."""

_CONTEXT_TRAITS_IDS: Final = ("email", "crossDomainId", "cross_domain_id")
_DEVICE_IDS: Final = ("id", "token", "advertisingId")
_INTEGRATION_IDS: Final = (("Google Analytics", "clientId"), ("Braze", "braze_id"))
_EXTERNAL_ID_KEYS: Final = frozenset(("id", "type", "collection", "encoding"))


class Refused(Exception):
    """The record becomes this dead letter."""

    def __init__(self, reason: DeadLetterReason, field: str | None, detail: str) -> None:
        self.letter = DeadLetter(reason, field, detail)
        super().__init__(reason)


def id_of(value: Any, field: str) -> str | None:
    """The id in a field, or None; numbers become text."""
    if value is None:
        return None
    if type(value) is str and len(value) <= ID_LENGTH_MAX:
        return value or None
    return _usable(id_in(value, field))


def message_id_of(value: Any) -> str | None:
    """The `messageId`, or None where the event brings none."""
    return _usable(id_in(value, "messageId", MESSAGE_ID_LENGTH_MAX, "message_id_too_long"))


def _usable(found: str | DeadLetter | None) -> str | None:
    if isinstance(found, DeadLetter):
        raise Refused(found.reason, found.field, found.detail)
    return found


def mapping_of(value: Any, field: str) -> dict[str, Any]:
    """The object in a field; null counts as an empty one."""
    if value is None:
        return {}
    if type(value) is not dict:
        raise Refused("wrong_type", field, f"must be an object, not {kind_of(value)}")
    return value


def context_of(value: Any) -> dict[str, Any]:
    """The context, with its parts that are read later checked for their kind, and the ids in it."""
    context = mapping_of(value, "context")
    if not context:
        return context
    if "traits" in context:
        _check_ids(mapping_of(context["traits"], "context.traits"), _CONTEXT_TRAITS_IDS, "context.traits")
    if "device" in context:
        _check_ids(mapping_of(context["device"], "context.device"), _DEVICE_IDS, "context.device")
    if "integrations" in context:
        integrations = mapping_of(context["integrations"], "context.integrations")
        for name, key in _INTEGRATION_IDS:
            _check_ids(integrations.get(name), (key,), f"context.integrations.{name}")
    if "Braze" in context:
        _check_ids(context["Braze"], ("braze_id",), "context.Braze")
    if "groupId" in context:
        id_of(context["groupId"], "context.groupId")
    if context.get("externalIds") is not None:
        _check_external_ids(context["externalIds"])
    return context


def _check_ids(holder: Any, keys: tuple[str, ...], path: str) -> None:
    """The ids under `keys`; settings of an integration may be `true` instead of an object, and hold no id then."""
    if type(holder) is dict:
        for key in keys:
            if key in holder:
                id_of(holder[key], f"{path}.{key}")


def _check_external_ids(listed: Any) -> None:
    """Items with all four keys hold an id; others are none, and ignored ("identity-resolution/externalids")."""
    if type(listed) is not list:
        raise Refused("wrong_type", "context.externalIds", f"must be an array, not {kind_of(listed)}")
    for number, item in enumerate(listed):
        if type(item) is dict and item.keys() >= _EXTERNAL_ID_KEYS:
            id_of(item["id"], f"context.externalIds[{number}].id")


def time_of(wire: dict[str, Any], record_timestamp: Instant) -> Instant:
    """Event time: received − (sent − original); without `sentAt` the time given, without that the time received."""
    received = _instant(wire, "receivedAt")
    if received is None:
        received = min(max(record_timestamp, 0), INSTANT_MAX)
    given, original, sent = _instant(wire, "timestamp"), _instant(wire, "originalTimestamp"), _instant(wire, "sentAt")
    if sent is None:
        time = given if given is not None else original if original is not None else received
    else:
        made = original if original is not None else given
        time = received if made is None else received - (sent - made)
    if not 0 <= time <= INSTANT_MAX:
        raise Refused("bad_timestamp", "timestamp", "lies before 1970 or after 9999")
    return time


def _instant(wire: dict[str, Any], field: str) -> Instant | None:
    value = wire.get(field)
    if value is None:
        return None
    if type(value) is not str:
        raise Refused("bad_timestamp", field, f"must be an ISO-8601 text, not {kind_of(value)}")
    if len(value) > INSTANT_TEXT_LENGTH_MAX:
        raise Refused("bad_timestamp", field, f"{len(value)} characters; at most {INSTANT_TEXT_LENGTH_MAX} are taken")
    try:
        return parse_instant(value)
    except (ValueError, OverflowError):
        raise Refused("bad_timestamp", field, "is not an ISO-8601 instant") from None

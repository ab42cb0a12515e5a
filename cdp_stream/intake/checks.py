"""Checks of single fields: ids, objects, times. A field that cannot be used raises `Refused`, which `decode` catches."""

from __future__ import annotations

import math
from typing import Any, Final

from cdp_stream.model.event import DeadLetter, DeadLetterReason
from cdp_stream.model.time import INSTANT_MAX, Instant, parse_instant
from cdp_stream.model.values import canonical_id

ID_LENGTH_MAX: Final = 500
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_DEVICE_IDS: Final = ("id", "token", "advertisingId")


class Refused(Exception):
    """The record becomes this dead letter."""

    def __init__(self, reason: DeadLetterReason, field: str | None, detail: str) -> None:
        self.letter = DeadLetter(reason, field, detail)
        super().__init__(reason)


def id_of(value: Any, field: str, length_max: int | None = ID_LENGTH_MAX) -> str | None:
    """The id in a field, or None; numbers become text."""
    if value is None:
        return None
    try:
        found = canonical_id(value)
    except TypeError as error:
        raise Refused("wrong_type", field, f"an id must be a text or a number, not {error}") from None
    if found is not None and length_max is not None and len(found) > length_max:
        raise Refused("id_too_long", field, f"{len(found)} characters; at most {length_max} are taken")
    return found


def mapping_of(value: Any, field: str) -> dict[str, Any]:
    """The object in a field; null counts as an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused("wrong_type", field, "must be an object")
    return value


def context_of(value: Any) -> dict[str, Any]:
    """The context, with its parts that are read later checked for their kind."""
    context = mapping_of(value, "context")
    if context:
        for part in ("device", "traits", "integrations"):
            mapping_of(context.get(part), f"context.{part}")
        listed = context.get("externalIds")
        if listed is not None and not isinstance(listed, list):
            raise Refused("wrong_type", "context.externalIds", "must be an array")
    return context


def promoted_ids(type_: str, properties: dict[str, Any], traits: dict[str, Any], context: dict[str, Any]) -> None:
    """Every place from which a built-in identifier is read holds an id of usable kind and length."""
    if type_ == "identify" and "email" in traits:
        id_of(traits["email"], "traits.email")
    if "email" in properties:
        id_of(properties["email"], "properties.email")
    if not context:
        return
    inner = context.get("traits")
    if inner and "email" in inner:
        id_of(inner["email"], "context.traits.email")
    device = context.get("device")
    if device:
        for name in _DEVICE_IDS:
            id_of(device.get(name), f"context.device.{name}")
    for number, item in enumerate(context.get("externalIds") or ()):
        if isinstance(item, dict):
            id_of(item.get("id"), f"context.externalIds[{number}].id")


def time_of(wire: Any, record_timestamp: Instant) -> Instant:
    """Event time: received − (sent − original); without `sentAt` the time given, without that the time received."""
    received = _instant(wire.receivedAt, "receivedAt")
    if received is None:
        received = min(max(record_timestamp, 0), INSTANT_MAX)
    given, original = _instant(wire.timestamp, "timestamp"), _instant(wire.originalTimestamp, "originalTimestamp")
    sent = _instant(wire.sentAt, "sentAt")
    if sent is not None and (original is not None or given is not None):
        made = original if original is not None else given
        assert made is not None
        time = received - (sent - made)
    else:
        time = next(known for known in (given, original, received) if known is not None)
    if not 0 <= time <= INSTANT_MAX:
        raise Refused("bad_timestamp", "timestamp", "lies before 1970 or after 9999")
    return time


def _instant(value: Any, field: str) -> Instant | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise Refused("bad_timestamp", field, "must be an ISO-8601 text")
    try:
        return parse_instant(value)
    except (ValueError, OverflowError):
        raise Refused("bad_timestamp", field, "is not an ISO-8601 instant") from None


def check_tree(value: Any, depth_max: int) -> None:
    """Depth, numbers and texts of a whole record; iterative, so that no nesting can exhaust the stack."""
    level, depth = [value], 0
    while level:
        depth += 1
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(node)
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
            elif isinstance(node, str):
                _text(node)
            elif isinstance(node, float):
                if not math.isfinite(node):
                    raise Refused("number_out_of_range", None, "a number is too large for 64 bits")
            elif isinstance(node, int) and not _INT_MIN <= node <= _INT_MAX:
                raise Refused("number_out_of_range", None, "an integer does not fit 64 bits")
        if below and depth > depth_max:
            raise Refused("too_deep", None, f"nested deeper than {depth_max} levels")
        level = below


def _text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused("invalid_utf8", None, "a text holds half a surrogate pair") from None

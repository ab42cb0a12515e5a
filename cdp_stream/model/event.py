"""What intake makes of a source record: an `Event` or a `DeadLetter`."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from cdp_stream.model.ids import SourceRef
from cdp_stream.model.time import Instant
from cdp_stream.model.values import canonical_id, kind_of

ID_LENGTH_MAX: Final = 500
"""Characters of an id; documented for `groupId` ("product-limits") and applied to every id."""

EventType = Literal["identify", "track", "page", "screen", "group", "alias"]

DeadLetterReason = Literal[
    "not_json",
    "not_object",
    "invalid_utf8",
    "too_deep",
    "number_out_of_range",
    "unknown_type",
    "missing_event",
    "missing_group_id",
    "missing_previous_id",
    "no_identifiers",
    "too_large",
    "too_many_traits",
    "bad_timestamp",
    "wrong_type",
    "id_too_long",
    "message_id_too_long",
    "excluded_by_sender",
]


class RawRecord(Struct, frozen=True, gc=False):
    """One source record as read: its place, the source it belongs to, its Kafka timestamp and its bytes."""

    source: SourceRef
    timestamp: Instant
    key: bytes | None
    value: bytes | None
    identity: bool = True
    """False: the source's events never map or merge identifiers (topology `sources[].identity`)."""


class Event(Struct, frozen=True):
    """A usable event: every field checked, ids as text, times as instants."""

    type: EventType
    message_id: str
    time: Instant
    """Event time after the skew formula (semantics 1.5); the pipeline clamps it to `now`."""
    source: SourceRef
    user_id: str | None = None
    anonymous_id: str | None = None
    group_id: str | None = None
    """`groupId` of a group call."""
    name: str | None = None
    """The event's name: `event` of a track, `Page Viewed`, `Screen Viewed`; none for the others."""
    properties: dict[str, Any] = {}
    """Of track, page and screen; with `page_name` / `screen_name` filled in. Definitions find it as `name`, too."""
    traits: dict[str, Any] = {}
    """Of identify (the user's; `context.traits` where there is no `traits`) and group (the account's)."""
    context: dict[str, Any] = {}
    identity: bool = True
    traits_from_context: bool = False
    """An identify without `traits`, whose `traits` above were taken from `context.traits`."""


class DeadLetter(Struct, frozen=True):
    """An unusable record: the typed reason, the field, and words for a person."""

    reason: DeadLetterReason
    field: str | None
    detail: str


def id_in(
    value: Any, field: str, length_max: int = ID_LENGTH_MAX, too_long: DeadLetterReason = "id_too_long"
) -> str | DeadLetter | None:
    """The id that a field of an event holds: numbers become text; None for none; or why it cannot be one."""
    try:
        text = canonical_id(value)
    except TypeError:
        return DeadLetter("wrong_type", field, f"an id must be a text or a number, not {kind_of(value)}")
    if text is not None and len(text) > length_max:
        return DeadLetter(too_long, field, f"{len(text)} characters; at most {length_max} are taken")
    return text

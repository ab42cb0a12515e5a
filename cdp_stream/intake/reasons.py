"""What each reason of a dead letter means, and what to do about it; in words for the person who looks after a source."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from cdp_stream.model.event import DeadLetterReason


class Explanation(Struct, frozen=True):
    """What is wrong, and the remedy."""

    meaning: str
    remedy: str


_SENDER: Final = "Correct the sender; then send the event anew, with a new message id."

REASONS: Final[dict[DeadLetterReason, Explanation]] = {
    "not_json": Explanation(
        "The value is not JSON.", "Send one JSON object a record; check the producer's serializer."
    ),
    "not_object": Explanation("The value is JSON, but not an object.", "Send one object a record, not a list of them."),
    "invalid_utf8": Explanation("The value is not UTF-8 text.", "Send JSON in UTF-8; no other encoding is taken."),
    "too_deep": Explanation("The value is nested deeper than is read.", "Flatten the properties or traits."),
    "number_out_of_range": Explanation(
        "A number does not fit 64 bits, or is not finite.", "Send large ids as text; leave out NaN and Infinity."
    ),
    "unknown_type": Explanation("`type` is none of identify, track, page, screen, group, alias (spec).", _SENDER),
    "missing_event": Explanation("A track call needs `event`, the name of what happened (spec/track).", _SENDER),
    "missing_group_id": Explanation("A group call needs `groupId` (spec/group).", _SENDER),
    "missing_previous_id": Explanation("An alias call needs `previousId` (spec/alias).", _SENDER),
    "no_identifiers": Explanation(
        "No identifier is left that could say whose event it is: none on the event, or all of them blocked "
        "(identity-resolution-onboarding).",
        "Add an identifier to the event, or the identifier type to the topology, or correct `blocked_values`; after a "
        "change of the topology, `cdp-stream dead-letters replay` puts the record in again.",
    ),
    "too_large": Explanation("The record is larger than an event may be (spec).", "Send less in one event."),
    "too_many_traits": Explanation(
        "The event carries more traits than are taken at once.", "Send fewer traits a call."
    ),
    "bad_timestamp": Explanation("A timestamp is not an ISO 8601 instant (spec/common).", _SENDER),
    "wrong_type": Explanation("A field has another type than the specification gives it (spec/common).", _SENDER),
    "id_too_long": Explanation("An identifier is longer than an id may be.", _SENDER),
    "message_id_too_long": Explanation("`messageId` is longer than an id may be.", _SENDER),
    "excluded_by_sender": Explanation(
        "The event says `integrations: {Personas: false}`: its sender wants no profile made of it.",
        "Nothing, if that is meant; else have the sender leave that out.",
    ),
}

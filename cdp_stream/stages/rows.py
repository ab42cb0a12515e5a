"""Outputs of the profile stage as rows of their topics (trait changes, audience changes, destination messages)."""

from __future__ import annotations

from typing import Any

from cdp_stream.model.profile import AudienceChange, Cause, DestinationMessage, TraitChange
from cdp_stream.model.time import format_instant
from cdp_stream.stages.records import AUDIENCE_CHANGES, DESTINATION_PREFIX, TRAIT_CHANGES, OutputRecord, encode_row


def output_record(output: object, src: str, partition: int) -> tuple[OutputRecord, tuple[str, ...]]:
    """The record of an output, and what to count it as."""
    match output:
        case TraitChange():
            row = _trait_row(output)
            what: tuple[str, ...] = ("trait", output.trait_class)
            topic, key = TRAIT_CHANGES, output.profile_id
        case AudienceChange():
            row = _audience_row(output)
            what = ("audience", output.audience_key, row["change"], row["cause"])
            topic, key = AUDIENCE_CHANGES, output.profile_id
        case DestinationMessage():
            row = output.payload
            what = ("destination", output.destination)
            topic, key = DESTINATION_PREFIX + output.destination, output.profile_id
        case _:
            raise AssertionError(output)
    return OutputRecord(topic, partition, key.encode(), encode_row(row), src), what


def _trait_row(change: TraitChange) -> dict[str, Any]:
    return {
        "profile_id": change.profile_id,
        "collection": change.collection,
        "trait_key": change.trait_key,
        "class": change.trait_class,
        "value": change.value,
        "previous": change.previous,
        **_when(change.cause),
        **_backfill(change.cause),
    }


def _audience_row(change: AudienceChange) -> dict[str, Any]:
    row: dict[str, Any] = {
        "profile_id": change.profile_id,
        "collection": change.collection,
        "audience_key": change.audience_key,
        "change": "entered" if change.entered else "exited",
        "cause": change.cause.kind,
    }
    if change.into is not None:
        row["into"] = change.into
    row.update(_when(change.cause))
    row["external_ids"] = change.external_ids
    row.update(_backfill(change.cause))
    return row


def _backfill(cause: Cause) -> dict[str, Any]:
    """Marks what is told because a topology version has come into force, and not because anything has happened."""
    return {"backfill": True} if cause.kind == "topology" else {}


def _when(cause: Cause) -> dict[str, Any]:
    return {
        "time": format_instant(cause.time),
        "now": format_instant(cause.now),
        "message_id": cause.message_id or None,
        "seq": cause.seq,
    }

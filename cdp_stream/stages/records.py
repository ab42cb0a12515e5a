"""What a step puts out: records for topics, named by role; the stream shell knows the real topic names."""

from __future__ import annotations

import zlib
from typing import Any

import orjson
from msgspec import Struct

from cdp_stream.model.graph import Decision
from cdp_stream.model.ids import SourceRef

LEDGER = "ledger"
TRAIT_CHANGES = "trait-changes"
AUDIENCE_CHANGES = "audience-changes"
DEAD_LETTERS = "dead-letters"
PROFILE_CHANGES = "profile-changes"
SHIPMENTS = "shipments"
DESTINATION_PREFIX = "destinations/"


class OutputRecord(Struct, frozen=True, gc=False):
    """One record of an output topic. `topic` is a role: `ledger`, …, or `destinations/<name>`."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    src: str


def partition_of(profile_id: str, partitions: int) -> int:
    """The partition of a profile: crc32 of its id, modulo P."""
    return zlib.crc32(profile_id.encode()) % partitions


def encode_row(row: dict[str, Any]) -> bytes:
    """A row as JSON; keys in the order they were put."""
    return orjson.dumps(row)


def seq_text(step: int, record: int) -> str:
    """The sortable place of a record in the identity log: entry offset and index in the entry."""
    return f"{step:012d}-{record:09d}"


_SEQ_BITS = 24


def seq_number(step: int, record: int) -> int:
    """The same place as one number, for ordering inside the state."""
    return step << _SEQ_BITS | record


def ledger_row(decision: Decision, seq: str, message_id: str, source: SourceRef | None) -> dict[str, Any]:
    """A decision as a ledger record; absent fields are left out."""
    row: dict[str, Any] = {"seq": seq, "decision": decision.decision}
    if decision.profile_id is not None:
        row["profile_id"] = decision.profile_id
        row["collection"] = decision.collection
    if decision.identifiers:
        row["identifiers"] = [{"type": type_, "id": value} for type_, value in decision.identifiers]
    if decision.absorbed:
        row["absorbed"] = list(decision.absorbed)
    if decision.demoted:
        row["demoted"] = [{"type": type_, "id": value} for type_, value in decision.demoted]
    if decision.violation is not None:
        row["violation"] = decision.violation
    row["message_id"] = message_id
    if source is not None:
        row["source"] = {"topic": source.topic, "partition": source.partition, "offset": source.offset}
    return row

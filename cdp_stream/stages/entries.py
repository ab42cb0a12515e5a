"""The identity log's entries: slices of the sources, controls, clocks. They are the order of everything."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from cdp_stream.model.event import RawRecord
from cdp_stream.model.time import SECOND_MS, Instant
from cdp_stream.stages.native import NATIVE

CLOCK_AHEAD_MAX_MS = 60 * SECOND_MS
"""How far a broker's append time may lie beyond the owner's clock before it is counted as that."""


class SourceSlice(Struct, frozen=True, array_like=True):
    """These records of one source partition come next: consumer positions `start` to `end`."""

    topic: str
    topic_id: str
    partition: int
    start: int
    end: int
    count: int
    crc: int
    identity: bool = True
    """The source's `identity` when the slice was cut; so it is on record, whatever topology comes into force."""


class Slice(Struct, frozen=True, tag_field="entry", tag="slice"):
    """The next step: records of several source partitions, in the order listed."""

    clock: Instant
    """The owner's own clock when it appended the entry."""
    sources: tuple[SourceSlice, ...]


class Control(Struct, frozen=True, tag_field="entry", tag="control"):
    """An order from an operator, by way of the log. `id`: a repeat is ignored."""

    clock: Instant
    control: str
    """`apply`."""
    id: str
    based_on: str | None = None
    """For `apply`: the topology version that must be in force; None for the first."""
    topology: Any = None


class ResyncEntry(Struct, frozen=True, tag_field="entry", tag="resync"):
    """An order from an operator: tell a destination of every present member of an audience again."""

    clock: Instant
    id: str
    """A repeat is ignored."""
    audience: str
    destination: str


class ClockEntry(Struct, frozen=True, tag_field="entry", tag="clock"):
    """Time has passed. `drained`: every source had been read to its end, so `now` may move."""

    clock: Instant
    drained: bool


class AcceptLoss(Struct, frozen=True, tag_field="entry", tag="accept-loss"):
    """An operator's order: go on at `to` in this source partition, what stood before it is given up."""

    clock: Instant
    id: str
    topic: str
    partition: int
    to: int


class SourceReset(Struct, frozen=True, tag_field="entry", tag="source-reset"):
    """An operator's order: this source was made anew; read it from its earliest records."""

    clock: Instant
    id: str
    topic: str


Entry = Slice | Control | ResyncEntry | ClockEntry | AcceptLoss | SourceReset

_decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)


def encode_entry(entry: Entry) -> bytes:
    """The entry as it stands in the identity log."""
    return msgspec.json.encode(entry)


def decode_entry(raw: bytes) -> Entry:
    """The entry in these bytes. Raises msgspec.DecodeError when they are none."""
    return _decoder.decode(raw)


def records_crc(records: Iterable[RawRecord]) -> int:
    """A checksum of the records' keys and values, to notice a source that was changed behind the log."""
    if NATIVE is not None and isinstance(records, NATIVE.Records):
        return int(records.crc())
    # Over one text: a call for each key and value costs more than the sum itself.
    return zlib.crc32(b"".join([part for record in records for part in (record.key, record.value) if part]))


def gives_up(entry: Entry, named: Slice) -> bool:
    """Is this an order to go on without records that the slice names?"""
    match entry:
        case AcceptLoss():
            return any(
                (entry.topic, entry.partition) == (part.topic, part.partition) and entry.to > part.start
                for part in named.sources
            )
        case SourceReset():
            return any(entry.topic == part.topic for part in named.sources)
        case _:
            return False


def entry_time(append_time: Instant, entry: Entry) -> Instant:
    """The append time, held to a minute beyond the owner's clock: a broker's clock may jump ahead."""
    return min(append_time, entry.clock + CLOCK_AHEAD_MAX_MS)

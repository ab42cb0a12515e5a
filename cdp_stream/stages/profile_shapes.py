"""What the profile stage stores, ships and hands on: its barrier, parked changes, shipments, steps."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec
from msgspec import Struct, field

from cdp_stream.model.change import ProfileChange, ProfileChanges
from cdp_stream.model.ids import ProfileId, share_before
from cdp_stream.model.profile import Cause, ProfileState
from cdp_stream.model.time import Duration, Instant
from cdp_stream.stages.history import Entries
from cdp_stream.stages.lists import ListNews, ListsPassed
from cdp_stream.stages.records import OutputRecord, seq_text


class ProfileBarrier(Struct, kw_only=True):
    """Where a partition of the stage stands; written with every step, in the same batch as the step's changes."""

    next_offset: int = 0
    """Next offset of the partition of profile changes."""
    last_offset: int = -1
    """Offset of the last message done; the next one names it as `previous`."""
    shipments_next: int = 0
    cursor: int = 0
    """How many changes of the message at `next_offset` are done: more than 0 only where a step was cut inside it."""
    cursor_index: int = -1
    """The `index` of the last of them."""
    reconsidered: str = ""
    """Where a sweep (a new topology version, or a resync) is on its way through the profiles: the last id done."""
    reconsidered_from: str = ""
    """The version before, as long as the new one is on its way."""
    reconsidered_count: int = 0
    """How many profiles are done."""
    playing: str = ""
    """Where the changes parked by a profile are being played: its id."""
    now: Instant = 0
    topology_version: str | None = None
    outputs: dict[str, dict[int, int]] = field(default_factory=dict)
    changelog: int = 0
    producer_id: int = -1
    parked: int = 0
    """How many profiles wait for shipments."""
    state_format: int = 0
    decided_by: int = 0
    """See `state_format`; 0 where nothing is said."""
    passed: Instant = 0
    """Everything due at or before this instant has fired, but for profiles that wait."""
    cadences: dict[str, Duration] = field(default_factory=dict)
    """List destinations that were ever in force, to a duration of which all their syncs are multiples."""
    reported: dict[str, Instant] = field(default_factory=dict)
    """List destination to the sync whose passing was reported to its home."""

    @property
    def progress(self) -> float:
        """About which share of the profiles the topology version on its way has passed; 1 when none is on its way.

        Ids are derived by a hash and passed in their order, so the place of the last one tells it.
        """
        if not self.reconsidered_from:
            return 1.0
        return share_before(self.reconsidered)


class OpenMessage(Struct, frozen=True):
    """A message of profile changes in hand."""

    step: int
    previous: int
    topology_version: str
    count: int
    """How many changes it has."""
    sweeps: bool
    """Does it go through all profiles?"""
    changes: list[ProfileChange] | None = None
    """None: the core has them."""


class Shipment(Struct, frozen=True, tag="state"):
    """One piece of an absorbed profile's state, on its way to the survivor's partition."""

    absorbed: ProfileId
    into: ProfileId
    piece: int
    pieces: int
    data: bytes


class Parked(Struct, frozen=True):
    """A change that waits, with all that it needs to be played later exactly as if it had not waited."""

    offset: int
    step: int
    topology_version: str
    """In force before the change."""
    change: ProfileChange


class Cargo(Struct, frozen=True):
    """What a shipment carries: the profile and its history."""

    profile: ProfileState
    history: Entries


class ProfileStep(Struct):
    """What messages decided that share a step: records to send, state to write, figures."""

    outputs: list[OutputRecord]
    writes: dict[bytes, bytes | None]
    tally: Counter[tuple[str, ...]]
    done: bool
    """False: a message was cut; it is to be offered again once this step is stored."""


encode_shipment: Final = msgspec.msgpack.Encoder().encode
decode_shipment: Final = msgspec.msgpack.Decoder(Shipment | ListNews | ListsPassed).decode
decode_cargo: Final = msgspec.msgpack.Decoder(Cargo).decode
decode_parked: Final = msgspec.msgpack.Decoder(Parked).decode
decode_changes: Final = msgspec.json.Decoder(ProfileChanges).decode
decode_change: Final = msgspec.json.Decoder(ProfileChange).decode


def encode_changes(message: ProfileChanges) -> bytes:
    """A message of profile changes as it stands in its topic."""
    return msgspec.json.encode(message)


def place_of(parked: Parked) -> tuple[int, int]:
    """Where a change stands among the partition's."""
    return parked.offset, parked.change.index


def cause_of(kind: str, parked: Parked, time: Instant, message_id: str) -> Cause:
    """Why something is told: the change, and its place in the log."""
    seq = seq_text(parked.step, parked.change.record)
    return Cause(kind=kind, time=time, now=parked.change.now, message_id=message_id, seq=seq)

"""The profile stage: one message of profile changes, or one piece of a shipment, becomes one step of a partition.

A merge reaches two partitions. The absorbed profile's partition ships its whole state to the survivor's; from
`absorbs` on, the survivor *parks*: whatever concerns it waits in the state, in order, until everything it absorbs has
arrived. Only that profile waits. Waits follow the order of the identity log, so they form no cycle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct, field

from cdp_stream.config.topology import Topology
from cdp_stream.errors import LogContradiction
from cdp_stream.model.change import (
    Absorbed,
    Absorbs,
    Clock,
    ProfileChange,
    ProfileChanges,
    ProfileEvent,
    TopologyApplied,
)
from cdp_stream.model.ids import ProfileId
from cdp_stream.model.ports import Store
from cdp_stream.model.profile import Cause, ProfileState
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import CompiledTopology, absorb_profiles, compile_topology, leave_profile, update_profile
from cdp_stream.stages.identity import BARRIER_KEY, load_topology_version, topology_write
from cdp_stream.stages.profile_states import ProfileDraft
from cdp_stream.stages.records import SHIPMENTS, OutputRecord, partition_of, seq_number, seq_text
from cdp_stream.stages.rows import output_record

PIECE_BYTES_MAX: Final = 512 * 1024
"""How much of an absorbed profile's state one shipment record carries."""


class ProfileBarrier(Struct, kw_only=True):
    """Where a partition of the stage stands; written with every step, in the same batch as the step's changes."""

    next_offset: int = 0
    """Next offset of the partition of profile changes."""
    last_offset: int = -1
    """Offset of the last message done; the next one names it as `previous`."""
    shipments_next: int = 0
    now: Instant = 0
    topology_version: str | None = None
    outputs: dict[str, dict[int, int]] = field(default_factory=dict)
    changelog: int = 0
    producer_id: int = -1
    parked: int = 0
    """How many profiles wait for shipments."""


class Shipment(Struct, frozen=True):
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
    change: ProfileChange


class Cargo(Struct, frozen=True):
    """What a shipment carries: the profile and the message ids of its events with their places in the log."""

    profile: ProfileState
    history: list[tuple[int, str]]


class ProfileStep(Struct):
    """What one message decided: records to send, state to write, figures."""

    outputs: list[OutputRecord]
    writes: dict[bytes, bytes | None]
    tally: Counter[tuple[str, ...]]


_encode_shipment = msgspec.msgpack.Encoder().encode
_decode_shipment = msgspec.msgpack.Decoder(Shipment).decode
_decode_cargo = msgspec.msgpack.Decoder(Cargo).decode
_decode_changes = msgspec.json.Decoder(ProfileChanges).decode


class ProfileStage:
    """The single writer of one partition's profiles, over a store."""

    def __init__(self, store: Store, partition: int, partitions: int) -> None:
        """Open the state as the last commit left it."""
        self.store = store
        self.partition = partition
        self.partitions = partitions
        raw = store.get(BARRIER_KEY)
        self.barrier = ProfileBarrier() if raw is None else msgspec.msgpack.decode(raw, type=ProfileBarrier)
        self.states = ProfileDraft(store)
        self._topologies: dict[str, CompiledTopology] = {}
        self._outputs: list[OutputRecord] = []
        self._tally: Counter[tuple[str, ...]] = Counter()
        self._extra: dict[bytes, bytes | None] = {}

    def decide(self, offset: int, raw: bytes) -> ProfileStep | None:
        """The step of one message of profile changes; None if it was done already."""
        if offset < self.barrier.next_offset:
            return None
        message = _decode_changes(raw)
        if message.previous != self.barrier.last_offset:
            raise LogContradiction(
                f"profile changes {self.partition}: message {offset} follows {message.previous}, but the last one "
                f"done is {self.barrier.last_offset}; messages are missing"
            )
        for change in message.changes:
            self.barrier.now = max(self.barrier.now, change.now)
            self._take(Parked(offset, message.step, message.topology_version, change))
        self.barrier.next_offset = offset + 1
        self.barrier.last_offset = offset
        return self._finish()

    def decide_shipment(self, offset: int, raw: bytes) -> ProfileStep | None:
        """The step of one shipment record; None if it was done already."""
        if offset < self.barrier.shipments_next:
            return None
        shipment = _decode_shipment(raw)
        self.states.put_piece(shipment.absorbed, shipment.piece, shipment.pieces, shipment.data)
        if self.states.is_parked(shipment.into):
            self._play(shipment.into)
        self.barrier.shipments_next = offset + 1
        return self._finish()

    def outputs_done(self) -> Callable[[str], bool]:
        """Asks of the `src` of an output of ours: does it come from a change that is done, as things stand now?

        A change is done when its message is, unless it waits in a queue.
        """
        waiting = set()
        for raw in self.states.all_parked():
            parked = msgspec.msgpack.decode(raw, type=Parked)
            waiting.add((parked.offset, parked.change.index))
        next_offset = self.barrier.next_offset

        def is_done(src: str) -> bool:
            offset, index = (int(part) for part in src.split("/")[2:4])
            return offset < next_offset and (offset, index) not in waiting

        return is_done

    def encoded_barrier(self) -> bytes:
        """The barrier as it is stored, after positions of the step's outputs have been entered."""
        return msgspec.msgpack.encode(self.barrier)

    def topology(self, version: str) -> CompiledTopology:
        """A topology version that was in force once; parked records are played with their own."""
        compiled = self._topologies.get(version)
        if compiled is None:
            compiled = self._topologies[version] = load_topology_version(self.store, version)
        return compiled

    def _finish(self) -> ProfileStep:
        writes = self.states.take_writes()
        writes.update(self._extra)
        step = ProfileStep(self._outputs, writes, self._tally)
        self._outputs, self._tally, self._extra = [], Counter(), {}
        return step

    def _take(self, parked: Parked) -> None:
        change = parked.change
        match change:
            case ProfileEvent() | Absorbed() | Absorbs():
                if self.states.is_parked(change.profile_id):
                    self.states.park(change.profile_id, msgspec.msgpack.encode(parked))
                elif not self._do(parked):
                    self.states.park(change.profile_id, msgspec.msgpack.encode(parked))
                    self.barrier.parked += 1
                    self._tally["parked",] += 1
            case TopologyApplied():
                self._put_in_force(change)
            case Clock():
                pass

    def _put_in_force(self, change: TopologyApplied) -> None:
        compiled = compile_topology(Topology.from_canonical(change.topology))
        self._topologies[change.version] = compiled
        key, value = topology_write(compiled)
        self._extra[key] = value
        self.barrier.topology_version = change.version

    def _do(self, parked: Parked) -> bool:
        """Do a change; False if it must wait for shipments."""
        change = parked.change
        match change:
            case ProfileEvent():
                self._update(parked, change)
            case Absorbed():
                self._ship(parked, change)
            case Absorbs():
                return self._absorb(parked, change)
            case _:
                raise AssertionError(change)
        return True

    def _play(self, profile_id: ProfileId) -> None:
        """Play what a profile has parked, in order, until something must wait again."""
        for raw in self.states.parked(profile_id):
            if not self._do(msgspec.msgpack.decode(raw, type=Parked)):
                return
            self.states.unpark_first(profile_id)
        self.barrier.parked -= 1

    def _update(self, parked: Parked, event: ProfileEvent) -> None:
        topology = self.topology(parked.topology_version)
        cause = _cause("event", parked, event.time, event.message_id)
        update = update_profile(self.states.get(event.profile_id), event, topology, cause)
        self.states.put(update.profile)
        self.states.add_history(event.profile_id, seq_number(parked.step, event.record), event.message_id)
        self._emit(parked, update.outputs)

    def _ship(self, parked: Parked, change: Absorbed) -> None:
        profile = self.states.get(change.profile_id)
        assert profile is not None, change.profile_id
        cause = _cause("absorbed", parked, change.time, change.message_id)
        sent = self._emit(parked, leave_profile(profile, change.into, cause))
        cargo = _encode_shipment(Cargo(profile, self.states.history(change.profile_id)))
        pieces = [cargo[start : start + PIECE_BYTES_MAX] for start in range(0, len(cargo), PIECE_BYTES_MAX)]
        partition = partition_of(change.into, self.partitions)
        for number, data in enumerate(pieces):
            value = _encode_shipment(Shipment(change.profile_id, change.into, number, len(pieces), data))
            src = f"profiles/{self.partition}/{parked.offset}/{change.index}/{sent + number}"
            self._outputs.append(OutputRecord(SHIPMENTS, partition, change.into.encode(), value, src))
        self.states.redirect(change.profile_id, change.into)

    def _absorb(self, parked: Parked, change: Absorbs) -> bool:
        if not all(self.states.has_arrived(absorbed) for absorbed in change.absorbed):
            return False
        cargoes = [_decode_cargo(self.states.take_pieces(absorbed)) for absorbed in change.absorbed]
        survivor = self.states.get(change.profile_id)
        assert survivor is not None, change.profile_id
        cause = _cause("merge", parked, change.time, change.message_id)
        states = [cargo.profile for cargo in cargoes]
        update = absorb_profiles(survivor, states, self.topology(parked.topology_version), cause)
        self.states.put(update.profile)
        for cargo in cargoes:
            for seq, message_id in cargo.history:
                self.states.add_history(change.profile_id, seq, message_id)
        self._emit(parked, update.outputs)
        self._tally["merged",] += len(cargoes)
        return True

    def _emit(self, parked: Parked, outputs: tuple[object, ...]) -> int:
        for number, output in enumerate(outputs):
            src = f"profiles/{self.partition}/{parked.offset}/{parked.change.index}/{number}"
            record, what = output_record(output, src, self.partition)
            self._outputs.append(record)
            self._tally[what] += 1
        return len(outputs)


def _cause(kind: str, parked: Parked, time: Instant, message_id: str) -> Cause:
    seq = seq_text(parked.step, parked.change.record)
    return Cause(kind=kind, time=time, now=parked.change.now, message_id=message_id, seq=seq)


def encode_changes(message: ProfileChanges) -> bytes:
    """A message of profile changes as it stands in its topic."""
    return msgspec.json.encode(message)

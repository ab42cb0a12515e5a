"""The profile stage: one message of profile changes, or one piece of a shipment, becomes steps of a partition.

Mostly one step. Where a message asks for more than a step may hold (a million due times at one clock, a new topology
version for every profile), it is cut: each step ends with a cursor in the barrier, and the same message is offered
again until its step says `done`.

Time: a due time fires at its own instant, before the next change of its profile, or when a clock passes it, whichever
comes first in the log. What it tells does not depend on which of them it was.

A merge reaches two partitions. The absorbed profile's partition ships its whole state to the survivor's; from
`absorbs` on, the survivor *parks*: whatever concerns it waits in the state, in order, until everything it absorbs has
arrived. Only that profile waits. Waits follow the order of the identity log, so they form no cycle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import gcd
from typing import Final, assert_never

import msgspec
from msgspec import Struct, field

from cdp_stream.config.topology import Topology
from cdp_stream.destinations.lists import list_cadences, next_sync
from cdp_stream.errors import LogContradiction
from cdp_stream.model.change import (
    Absorbed,
    Absorbs,
    Clock,
    ProfileChange,
    ProfileChanges,
    ProfileEvent,
    Resync,
    TopologyApplied,
)
from cdp_stream.model.ids import USERS, ProfileId, share_before
from cdp_stream.model.ports import Store
from cdp_stream.model.profile import Cause, ListChange, PastEvent, ProfileState, ProfileUpdate
from cdp_stream.model.time import Duration, Instant
from cdp_stream.pipeline import (
    CompiledTopology,
    absorb_profiles,
    compile_topology,
    fire_due,
    leave_profile,
    past_matters,
    reconsider,
    resync,
    update_profile,
)
from cdp_stream.stages.history import Entries, cut, merged, retained
from cdp_stream.stages.identity import BARRIER_KEY
from cdp_stream.stages.lists import ListNews, Lists, ListsPassed, news_record, passed_record
from cdp_stream.stages.profile_states import ProfileDraft
from cdp_stream.stages.records import SHIPMENTS, OutputRecord, partition_of, seq_number, seq_text
from cdp_stream.stages.rows import output_record
from cdp_stream.stages.state_format import decode_barrier, stamp
from cdp_stream.stages.versions import load_topology_version, topology_write

PIECE_BYTES_MAX: Final = 512 * 1024
"""How much of an absorbed profile's state one shipment record carries."""


STEP_BYTES_MAX: Final = 2 * 1024 * 1024
"""A step is cut when it has about so much to send and to write."""
STEP_UNITS_MAX: Final = 2_000
"""A step is cut when it has fired, played or reconsidered so many times."""
_PAST_EVENTS_A_UNIT: Final = 4
"""How many past events, folded anew, count as much as one such time."""


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
    """Where a new topology version, or a resync, is on its way through the profiles: the last id done."""
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
    """What one message decided: records to send, state to write, figures."""

    outputs: list[OutputRecord]
    writes: dict[bytes, bytes | None]
    tally: Counter[tuple[str, ...]]
    done: bool
    """False: the input is not done; it is to be offered again once this step is stored."""


_encode_shipment = msgspec.msgpack.Encoder().encode
_decode_shipment = msgspec.msgpack.Decoder(Shipment | ListNews | ListsPassed).decode
_decode_cargo = msgspec.msgpack.Decoder(Cargo).decode
_decode_changes = msgspec.json.Decoder(ProfileChanges).decode


class ProfileStage:
    """The single writer of one partition's profiles, over a store."""

    def __init__(self, store: Store, partition: int, partitions: int) -> None:
        """Open the state as the last commit left it."""
        self.store = store
        self.partition = partition
        self.partitions = partitions
        self.barrier = decode_barrier(store.get(BARRIER_KEY), ProfileBarrier)
        self.states = ProfileDraft(store)
        self.lists = Lists(store, partition, partitions)
        self._topologies: dict[str, CompiledTopology] = {}
        self._outputs: list[OutputRecord] = []
        self._tally: Counter[tuple[str, ...]] = Counter()
        self._extra: dict[bytes, bytes | None] = {}
        self._units = 0
        self._sent_bytes = 0

    def decide(self, offset: int, raw: bytes) -> ProfileStep | None:
        """The next step of one message of profile changes; None if the message was done already."""
        barrier = self.barrier
        if offset < barrier.next_offset:
            return None
        message = _decode_changes(raw)
        if message.previous != barrier.last_offset:
            raise LogContradiction(
                f"profile changes {self.partition}: message {offset} follows {message.previous}, but the last one "
                f"done is {barrier.last_offset}; messages are missing"
            )
        for change in message.changes[barrier.cursor :]:
            barrier.now = max(barrier.now, change.now)
            if self._is_full() or not self._take(Parked(offset, message.step, message.topology_version, change)):
                return self._finish(done=False)
            barrier.cursor += 1
            barrier.cursor_index = change.index
        barrier.cursor, barrier.cursor_index = 0, -1
        barrier.next_offset = offset + 1
        barrier.last_offset = offset
        return self._finish(done=True)

    def decide_shipment(self, offset: int, raw: bytes) -> ProfileStep | None:
        """The next step of one shipment record; None if it was done already."""
        return self.decide_shipments([(offset, raw)])

    def decide_shipments(self, records: Sequence[tuple[int, bytes]]) -> ProfileStep | None:
        """The next step of these records, with their offsets; None if all were done already.

        Members on their way to a list come in thousands, and go into one step together; anything else has its own.
        """
        barrier = self.barrier
        kept = False
        for offset, raw in records:
            if offset < barrier.shipments_next:
                continue
            shipment = _decode_shipment(raw)
            if not isinstance(shipment, ListNews):
                if kept:
                    break
                return self._receive(offset, shipment)
            self.lists.keep(shipment, raw)
            self._units += 1
            kept = True
            barrier.shipments_next = offset + 1
            if self._is_full():
                break
        return self._finish(done=True) if kept else None

    def _receive(self, offset: int, shipment: Shipment | ListsPassed) -> ProfileStep:
        barrier = self.barrier
        if isinstance(shipment, ListsPassed):
            self.lists.pass_by(shipment)
            done = self._tell_lists(shipment.destination)
        else:
            if not barrier.playing:
                self.states.put_piece(shipment.absorbed, shipment.piece, shipment.pieces, shipment.data)
                barrier.playing = shipment.into if self.states.is_parked(shipment.into) else ""
            done = not barrier.playing or self._play(ProfileId(barrier.playing))
            if done:
                barrier.playing = ""
                self._report_passed()
        if done:
            barrier.shipments_next = offset + 1
        return self._finish(done=done)

    def _tell_lists(self, destination: str) -> bool:
        """Tell what is complete of a destination's lists; False when the step is full before."""
        if self.barrier.topology_version is None:
            # Others may be ahead; without this partition's own word nothing is complete.
            return True
        for record in self.lists.tell(destination, self.topology(self.barrier.topology_version).space):
            self._outputs.append(record)
            self._sent_bytes += len(record.value)
            self._tally["destination", destination] += 1
            if self._is_full():
                return False
        return True

    def _report_passed(self) -> None:
        """Tell the homes of lists which syncs are behind everything here: nothing more comes for them."""
        barrier = self.barrier
        passed = {name: barrier.passed // every * every for name, every in barrier.cadences.items()}
        if all(sync <= barrier.reported.get(name, -1) for name, sync in passed.items()):
            return
        until = self._behind_everything()
        for name, every in sorted(barrier.cadences.items()):
            sync = until // every * every
            if sync > barrier.reported.get(name, -1):
                barrier.reported[name] = sync
                self._outputs.append(passed_record(name, self.partition, sync, self.partitions))

    def _behind_everything(self) -> Instant:
        """Up to when nothing that was due is left, also not of a profile that waits."""
        until = self.barrier.passed
        for profile_id in self.states.parked_ids():
            waiting = msgspec.msgpack.decode(next(self.states.parked(profile_id)), type=Parked)
            until = min(until, waiting.change.now)
            profile = self.states.get(profile_id)
            if profile is not None and profile.due is not None:
                until = min(until, profile.due - 1)
        due = self.states.next_due(self.barrier.now)
        return until if due is None else min(until, due[0] - 1)

    def outputs_done(self) -> Callable[[str], bool]:
        """Asks of the `src` of an output of ours: does it come from a change that is done, as things stand now?

        A change is done when its message is, or a step that ended inside it, unless it waits in a queue. A due time is
        done when `now` has passed it, unless its profile still waits or still has it ahead. A part of a list is done
        when a later one comes next; the word that a sync is passed, when it has been given.
        """
        waiting = set()
        for raw in self.states.all_parked():
            parked = msgspec.msgpack.decode(raw, type=Parked)
            waiting.add((parked.offset, parked.change.index))
        barrier, states, lists = self.barrier, self.states, self.lists
        next_offset, cursor_index, reconsidered, now = (
            barrier.next_offset,
            barrier.cursor_index,
            barrier.reconsidered,
            barrier.now,
        )

        def is_done(src: str) -> bool:
            place, about, *rest = src.split("/")[2:]
            if place == "passed":
                return int(about) <= barrier.reported.get(rest[0], -1)
            if place == "sync":
                return lists.is_told(rest[0], int(about), rest[1], int(rest[2]))
            if place == "due":
                instant, profile_id = int(about), ProfileId(rest[0])
                if instant > now or states.is_parked(profile_id):
                    return False
                profile = states.get(profile_id)
                return profile is None or profile.due is None or profile.due > instant
            offset, index = int(place), int(about)
            if (offset, index) in waiting:
                return False
            inside = len(rest) > 1 and rest[0] <= reconsidered
            return offset < next_offset or (offset == next_offset and (index <= cursor_index or inside))

        return is_done

    def encoded_barrier(self) -> bytes:
        """The barrier as it is stored, after positions of the step's outputs have been entered."""
        stamp(self.barrier)
        return msgspec.msgpack.encode(self.barrier)

    def topology(self, version: str) -> CompiledTopology:
        """A topology version that was in force once; parked records are played with their own."""
        compiled = self._topologies.get(version)
        if compiled is None:
            compiled = self._topologies[version] = load_topology_version(self.store, version)
        return compiled

    def _finish(self, *, done: bool) -> ProfileStep:
        self.barrier.parked = self.states.parked_count()
        if not self.barrier.parked and not self.barrier.playing:
            self.states.drop_clocks()
        writes = self.states.take_writes()
        writes.update(self.lists.take_writes())
        writes.update(self._extra)
        step = ProfileStep(self._outputs, writes, self._tally, done)
        self._outputs, self._tally, self._extra = [], Counter(), {}
        self._units = self._sent_bytes = 0
        return step

    def _is_full(self) -> bool:
        """Has the step as much as it may hold?"""
        pending = self._sent_bytes + self.states.bytes_pending + self.lists.bytes_pending
        return self._units >= STEP_UNITS_MAX or pending >= STEP_BYTES_MAX

    def _take(self, parked: Parked) -> bool:
        """Do or park a change; False when the step is full before the change is done."""
        change = parked.change
        match change:
            case ProfileEvent() | Absorbed() | Absorbs():
                profile_id = change.profile_id
                if self.states.is_parked(profile_id):
                    self._park(profile_id, parked)
                elif not self._age(profile_id, parked):
                    return False
                elif not self._do(parked):
                    self._park(profile_id, parked)
                    self._tally["parked",] += 1
                return True
            case TopologyApplied():
                return self._put_in_force(parked, change)
            case Resync():
                return self._resync_all(parked, change)
            case Clock():
                return self._pass_time(parked)
            case _:
                assert_never(change)

    def _park(self, profile_id: ProfileId, parked: Parked) -> None:
        self.states.park(profile_id, msgspec.msgpack.encode(parked))

    def _pass_time(self, parked: Parked) -> bool:
        """Fire everything that is due, by instant, then profile id; False when the step is full before."""
        now = self.barrier.now
        topology = self.topology(self.barrier.topology_version or parked.topology_version)
        while (due := self.states.next_due(now)) is not None:
            if self._is_full():
                return False
            self._fire(*due, topology, parked)
        self.states.due_passed(now)
        if self.states.parked_count():
            self.states.keep_clock(parked.offset, parked.change.index, msgspec.msgpack.encode(parked))
        self.barrier.passed = now
        self._report_passed()
        return True

    def _age(self, profile_id: ProfileId, parked: Parked) -> bool:
        """Fire what is due of one profile at or before the change; False when the step is full before."""
        profile = self.states.get(profile_id)
        while profile is not None and (due := profile.due) is not None and due <= parked.change.now:
            if self._is_full():
                return False
            profile = self._fire(due, profile_id, self.topology(parked.topology_version), parked)
        return True

    def _fire(self, instant: Instant, profile_id: ProfileId, topology: CompiledTopology, by: Parked) -> ProfileState:
        """Fire one profile's due time. `by`: the change that it fires before, or the clock."""
        profile = self.states.get(profile_id)
        assert profile is not None, profile_id
        seq = seq_text(by.step, by.change.record)
        cause = Cause(kind="time", time=instant, now=by.change.now, message_id="", seq=seq)
        update = fire_due(profile, instant, topology, cause)
        assert update.profile.due is None or update.profile.due > instant, (profile_id, instant)
        self.states.put(update.profile)
        self._emit(f"due/{instant}/{profile_id}", update)
        self._tally["due",] += 1
        self._units += 1
        return update.profile

    def _put_in_force(self, parked: Parked, change: TopologyApplied) -> bool:
        """A new version: what was due before it fires under the old one, then every profile is looked at anew.

        False when the step is full before. Profiles that wait have it wait with the rest.
        """
        barrier = self.barrier
        if barrier.topology_version != change.version:
            if barrier.topology_version is not None and not self._pass_time(parked):
                return False
            compiled = compile_topology(Topology.from_canonical(change.topology), since=change.since)
            self._topologies[change.version] = compiled
            key, value = topology_write(compiled)
            self._extra[key] = value
            before = barrier.topology_version or change.version
            for profile_id in self.states.parked_ids():
                self._park(profile_id, msgspec.structs.replace(parked, topology_version=before))
            barrier.topology_version = change.version
            barrier.reconsidered_from = before
            for name, every in compiled.routes.cadences.items():
                barrier.cadences[name] = gcd(every, barrier.cadences.get(name, 0))
            self.lists.replan(list_cadences(compiled.routes), change.now)
        before = barrier.reconsidered_from or change.version
        for profile_id in self.states.ids_after(barrier.reconsidered):
            if self._is_full():
                return False
            if not self.states.is_parked(profile_id):
                self._reconsider(profile_id, msgspec.structs.replace(parked, topology_version=before), change)
            barrier.reconsidered = profile_id
            barrier.reconsidered_count += 1
        barrier.reconsidered = barrier.reconsidered_from = ""
        barrier.reconsidered_count = 0
        return True

    def _reconsider(self, profile_id: ProfileId, parked: Parked, change: TopologyApplied) -> None:
        """Look at one profile anew, with its past where the version computes what the one before it did not."""
        profile = self.states.get(profile_id)
        if profile is None:
            # It was absorbed itself while this waited, and its survivor is looked at in its own place.
            return
        before, after = self.topology(parked.topology_version), self.topology(change.version)
        past: list[PastEvent] = []
        if before.retention != after.retention:
            # What has not been cut yet is not to come to light under limits that are wider.
            history = self.states.history(profile_id)
            self._let_go(self.states.put_history(profile_id, history, before.retention, change.now))
        if past_matters(before, after) and profile.collection == USERS:
            # What was kept is what the version before said.
            past = retained(self.states.history(profile_id), before.retention, change.now)
        cause = _cause("topology", parked, change.now, change.version)
        update = reconsider(profile, before, after, cause, past)
        self.states.put(update.profile)
        self._emit(f"{parked.offset}/{change.index}/{profile_id}", update)
        self._units += 1 + len(past) // _PAST_EVENTS_A_UNIT
        self._tally["backfill", "profiles"] += 1
        self._tally["backfill", "events"] += len(past)

    def _resync_all(self, parked: Parked, change: Resync) -> bool:
        """Tell a destination of every member again, after what was due before; False when the step is full before."""
        if not self._pass_time(parked):
            return False
        every = self.topology(parked.topology_version).routes.cadences.get(change.destination)
        if every is not None:
            self.lists.tell_again(change.destination, change.audience_key, next_sync(change.now, every))
        barrier = self.barrier
        for profile_id in self.states.ids_after(barrier.reconsidered):
            if self._is_full():
                return False
            if self.states.is_parked(profile_id):
                self._park(profile_id, parked)
            else:
                self._resync(profile_id, parked, change)
            barrier.reconsidered = profile_id
        barrier.reconsidered = ""
        return True

    def _resync(self, profile_id: ProfileId, parked: Parked, change: Resync) -> None:
        profile = self.states.get(profile_id)
        if profile is None:
            # Absorbed, too: its survivor is told of in its own place.
            return
        cause = _cause("resync", parked, change.now, change.message_id)
        what = (change.audience_key, change.destination)
        update = resync(profile, what, self.topology(parked.topology_version), cause)
        self.states.put(update.profile)
        self._emit(f"{parked.offset}/{change.index}/{profile_id}", update)
        self._units += 1

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
        self._units += 1
        return True

    def _play(self, profile_id: ProfileId) -> bool:
        """Play what a profile has parked, in order, until something must wait again; False when the step is full before.

        Clocks that came meanwhile are played where they stood: what is told does not depend on when a shipment comes.
        """
        clocks = [msgspec.msgpack.decode(raw, type=Parked) for raw in self.states.kept_clocks()]
        for raw in self.states.parked(profile_id):
            parked = msgspec.msgpack.decode(raw, type=Parked)
            while clocks and _place(clocks[0]) < _place(parked):
                if not self._age(profile_id, clocks[0]):
                    return False
                clocks.pop(0)
            if self._is_full() or not self._age(profile_id, parked):
                return False
            if isinstance(parked.change, TopologyApplied):
                self._reconsider(profile_id, parked, parked.change)
            elif isinstance(parked.change, Resync):
                self._resync(profile_id, parked, parked.change)
            elif not self._do(parked):
                return True
            self.states.unpark_first(profile_id)
        return all(self._age(profile_id, clock) for clock in clocks)

    def _update(self, parked: Parked, event: ProfileEvent) -> None:
        topology = self.topology(parked.topology_version)
        cause = _cause("event", parked, event.time, event.message_id)
        update = update_profile(self.states.get(event.profile_id), event, topology, cause)
        self.states.put(update.profile)
        place = seq_number(parked.step, event.record)
        self._let_go(self.states.add_history(event.profile_id, place, event, topology.retention))
        self._emit(f"{parked.offset}/{event.index}", update)

    def _ship(self, parked: Parked, change: Absorbed) -> None:
        profile = self.states.get(change.profile_id)
        assert profile is not None, change.profile_id
        cause = _cause("absorbed", parked, change.time, change.message_id)
        place = f"{parked.offset}/{change.index}"
        sent = self._emit(place, leave_profile(profile, change.into, cause))
        retention = self.topology(parked.topology_version).retention
        history, let_go = cut(self.states.history(change.profile_id), retention, change.now)
        self._let_go(let_go)
        cargo = _encode_shipment(Cargo(profile, history))
        pieces = [cargo[start : start + PIECE_BYTES_MAX] for start in range(0, len(cargo), PIECE_BYTES_MAX)]
        partition = partition_of(change.into, self.partitions)
        for number, data in enumerate(pieces):
            value = _encode_shipment(Shipment(change.profile_id, change.into, number, len(pieces), data))
            self._sent_bytes += len(value)
            src = f"profiles/{self.partition}/{place}/{sent + number}"
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
        topology = self.topology(parked.topology_version)
        update = absorb_profiles(survivor, states, topology, cause)
        self.states.put(update.profile)
        history = merged([self.states.history(change.profile_id), *(cargo.history for cargo in cargoes)])
        self._let_go(self.states.put_history(change.profile_id, history, topology.retention, change.now))
        self._emit(f"{parked.offset}/{change.index}", update)
        self._tally["merged",] += len(cargoes)
        return True

    def _let_go(self, events: int) -> None:
        """Count events that are not retained any more, though they are not too old."""
        if events:
            self._tally["limit", "history"] += events

    def _emit(self, place: str, update: ProfileUpdate) -> int:
        """Put an update's outputs into the step; `place` is the middle of their `src`. Returns how many there are."""
        for number, output in enumerate(update.outputs):
            src = f"profiles/{self.partition}/{place}/{number}"
            if isinstance(output, ListChange):
                record = news_record(output, src, self.partitions)
            else:
                record, what = output_record(output, src, self.partition)
                self._tally[what] += 1
            self._outputs.append(record)
            self._sent_bytes += len(record.value)
        for kind in update.full:
            self._tally["limit", kind] += 1
        return len(update.outputs)


def _place(parked: Parked) -> tuple[int, int]:
    """Where a change stands among the partition's."""
    return parked.offset, parked.change.index


def _cause(kind: str, parked: Parked, time: Instant, message_id: str) -> Cause:
    seq = seq_text(parked.step, parked.change.record)
    return Cause(kind=kind, time=time, now=parked.change.now, message_id=message_id, seq=seq)


def encode_changes(message: ProfileChanges) -> bytes:
    """A message of profile changes as it stands in its topic."""
    return msgspec.json.encode(message)

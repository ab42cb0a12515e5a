"""The profile stage: messages of profile changes, or pieces of shipments, become steps of a partition.

A step takes as many messages as are there, up to a bound: what comes of them is the same, whichever share a step. Where
one asks for more than a step may hold (a million due times at one clock, a new topology version for every profile), it
is cut: each step ends with a cursor in the barrier, and the same message is offered again until its step says `done`.

Its rooms work on one `PartitionWork`: how time passes (`profile_time`), how a merge ships and takes in (`profile_merges`),
and what goes through all profiles (`profile_sweeps`). What waits, and in which order it is played, is told here.

A merge reaches two partitions. The absorbed profile's partition ships its whole state to the survivor's; from
`absorbs` on, the survivor *parks*: whatever concerns it waits in the state, in order, until everything it absorbs has
arrived. Only that profile waits. Waits follow the order of the identity log, so they form no cycle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, assert_never

import msgspec

from cdp_stream.errors import LogContradiction
from cdp_stream.model.change import Absorbed, Absorbs, Clock, ProfileChange, ProfileEvent, Resync, TopologyApplied
from cdp_stream.model.ids import ProfileId
from cdp_stream.model.ports import Store
from cdp_stream.pipeline import update_profile
from cdp_stream.stages.lists import ListNews, ListsPassed
from cdp_stream.stages.profile_merges import absorb, ship
from cdp_stream.stages.profile_shapes import (
    OpenMessage,
    Parked,
    ProfileStep,
    Shipment,
    cause_of,
    decode_change,
    decode_changes,
    decode_parked,
    decode_shipment,
    place_of,
)
from cdp_stream.stages.profile_sweeps import put_in_force, reconsider_one, resync_all, resync_one
from cdp_stream.stages.profile_time import age, pass_time, report_passed
from cdp_stream.stages.profile_work import PartitionWork
from cdp_stream.stages.records import seq_number
from cdp_stream.stages.state_format import stamp

SHARED_UNITS_MAX: Final = 256
"""A step that has done so much takes no further message: more saves next to nothing, and the process has others to serve."""


class ProfileStage:
    """The single writer of one partition's profiles, over a store."""

    def __init__(self, store: Store, partition: int, partitions: int, *, compiled: bool = True) -> None:
        """Open the state as the last commit left it. `compiled`: False walks every change in Python."""
        self.store = store
        self.work = PartitionWork(store, partition, partitions, compiled=compiled)
        self.barrier, self.states, self.lists = self.work.barrier, self.work.states, self.work.lists
        self._clocks: dict[bytes, Parked] = {}

    def decide(self, messages: Sequence[tuple[int, bytes]]) -> ProfileStep | None:
        """The next step of these messages of profile changes, with their offsets; None if all were done already.

        A message that goes through all profiles has steps of its own, since it goes by what is stored.
        """
        begun = False
        for offset, raw in messages:
            if offset < self.barrier.next_offset:
                continue
            message = self._open(raw)
            if begun and (message.sweeps or self.work.units >= SHARED_UNITS_MAX):
                break
            begun = True
            if not self._take_message(offset, message):
                return self.work.finish(done=False)
            if message.sweeps:
                break
        return self.work.finish(done=True) if begun else None

    def decide_shipments(self, records: Sequence[tuple[int, bytes]]) -> ProfileStep | None:
        """The next step of these records, with their offsets; None if all were done already.

        Members on their way to a list come in thousands, and go into one step together; anything else has its own.
        """
        barrier = self.barrier
        kept = False
        for offset, raw in records:
            if offset < barrier.shipments_next:
                continue
            shipment = decode_shipment(raw)
            if not isinstance(shipment, ListNews):
                if kept:
                    break
                return self._receive(offset, shipment)
            self.lists.keep(shipment, raw)
            self.work.units += 1
            kept = True
            barrier.shipments_next = offset + 1
            if self.work.is_full():
                break
        return self.work.finish(done=True) if kept else None

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
                report_passed(self.work)
        if done:
            barrier.shipments_next = offset + 1
        return self.work.finish(done=done)

    def _tell_lists(self, destination: str) -> bool:
        """Tell what is complete of a destination's lists; False when the step is full before."""
        if self.barrier.topology_version is None:
            # Others may be ahead; without this partition's own word nothing is complete.
            return True
        for record in self.lists.tell(destination, self.work.topology(self.barrier.topology_version).space):
            self.work.send(record)
            self.work.tally["destination", destination] += 1
            if self.work.is_full():
                return False
        return True

    def outputs_done(self) -> Callable[[str], bool]:
        """Asks of the `src` of an output of ours: does it come from a change that is done, as things stand now?

        A change is done when its message is, or a step that ended inside it, unless it waits in a queue. A due time is
        done when `now` has passed it, unless its profile still waits or still has it ahead. A part of a list is done
        when a later one comes next; the word that a sync is passed, when it has been given.
        """
        waiting = set()
        for raw in self.states.all_parked():
            parked = decode_parked(raw)
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

    def _open(self, raw: bytes) -> OpenMessage:
        """Read a message, with the core where that knows the version; the first version comes into force by the rooms."""
        core, version = self.work.core, self.barrier.topology_version
        if core is not None and version is not None and self.work.is_planned(version):
            opened = core.open(raw)
            if opened is not None and not opened[-1] and self.work.is_planned(opened[2]):
                return OpenMessage(*opened)
        message = decode_changes(raw)
        sweeps = any(isinstance(change, TopologyApplied | Resync) for change in message.changes)
        count = len(message.changes)
        return OpenMessage(message.step, message.previous, message.topology_version, count, sweeps, message.changes)

    def _next_change(self, offset: int, message: OpenMessage) -> ProfileChange | None:
        """The next change of a message for the rooms; None: the core has done the last one, or the step is full."""
        barrier, work = self.barrier, self.work
        if message.changes is not None:
            return message.changes[barrier.cursor]
        while True:
            run = work.run_core(offset, barrier.cursor)
            barrier.now = max(barrier.now, run.now)
            if run.last >= 0:
                barrier.cursor, barrier.cursor_index = run.position, run.last
            if run.cut is not None:
                profile_id, now = run.cut
                retention = work.topology(message.topology_version).retention
                work.let_go(self.states.histories.cut(ProfileId(profile_id), retention, now))
            elif run.stopped != "left":
                return None
            else:
                assert work.core is not None, "it was asked just now"
                return decode_change(work.core.change(barrier.cursor))

    def _take_message(self, offset: int, message: OpenMessage) -> bool:
        """Do or park a message's changes, from the cursor on; False when the step is full before the last of them."""
        barrier = self.barrier
        if message.previous != barrier.last_offset:
            raise LogContradiction(
                f"profile changes {self.work.partition}: message {offset} follows {message.previous}, but the last one "
                f"done is {barrier.last_offset}; messages are missing"
            )
        while barrier.cursor < message.count:
            change = self._next_change(offset, message)
            if change is None:
                if barrier.cursor < message.count:
                    return False
                break
            barrier.now = max(barrier.now, change.now)
            if self.work.is_full() or not self._take(Parked(offset, message.step, message.topology_version, change)):
                return False
            barrier.cursor += 1
            barrier.cursor_index = change.index
        barrier.cursor, barrier.cursor_index = 0, -1
        barrier.next_offset = offset + 1
        barrier.last_offset = offset
        return True

    def _take(self, parked: Parked) -> bool:
        """Do or park a change; False when the step is full before the change is done."""
        change = parked.change
        match change:
            case ProfileEvent() | Absorbed() | Absorbs():
                profile_id = change.profile_id
                if self.states.is_parked(profile_id):
                    self.work.park(profile_id, parked)
                elif not age(self.work, profile_id, parked):
                    return False
                elif not self._do(parked):
                    self.work.park(profile_id, parked)
                    self.work.tally["parked",] += 1
                return True
            case TopologyApplied():
                return put_in_force(self.work, parked, change)
            case Resync():
                return resync_all(self.work, parked, change)
            case Clock():
                return pass_time(self.work, parked)
            case _:
                assert_never(change)

    def _do(self, parked: Parked) -> bool:
        """Do a change; False if it must wait for shipments."""
        change = parked.change
        match change:
            case ProfileEvent():
                self._update(parked, change)
            case Absorbed():
                ship(self.work, parked, change)
            case Absorbs():
                return absorb(self.work, parked, change)
            case _:
                raise AssertionError(change)
        self.work.units += 1
        return True

    def _play(self, profile_id: ProfileId) -> bool:
        """Play what a profile has parked, in order, until something must wait again; False when the step is full before.

        Clocks that came meanwhile are played where they stood: what is told does not depend on when a shipment comes.
        """
        self.work.held_back.pop(profile_id, None)
        clocks = self._kept_clocks()
        for raw in self.states.parked(profile_id):
            parked = decode_parked(raw)
            while clocks and place_of(clocks[0]) < place_of(parked):
                if not age(self.work, profile_id, clocks[0]):
                    return False
                clocks.popleft()
            if self.work.is_full() or not age(self.work, profile_id, parked):
                return False
            if isinstance(parked.change, TopologyApplied):
                reconsider_one(self.work, profile_id, parked, parked.change)
            elif isinstance(parked.change, Resync):
                resync_one(self.work, profile_id, parked, parked.change)
            elif not self._do(parked):
                return True
            self.states.unpark_first(profile_id)
        return all(age(self.work, profile_id, clock) for clock in clocks)

    def _kept_clocks(self) -> deque[Parked]:
        """In order. Each is decoded once: as long as anybody waits they grow more, and every shipment asks for them."""
        kept = self.states.kept_clocks()
        known = self._clocks
        self._clocks = {raw: known.get(raw) or decode_parked(raw) for raw in kept}
        return deque(self._clocks.values())

    def _update(self, parked: Parked, event: ProfileEvent) -> None:
        topology = self.work.topology(parked.topology_version)
        cause = cause_of("event", parked, event.time, event.message_id)
        update = update_profile(self.states.get(event.profile_id), event, topology, cause)
        self.states.put(update.profile)
        place = seq_number(parked.step, event.record)
        self.work.let_go(self.states.histories.add(event.profile_id, place, event, topology.retention))
        self.work.emit(f"{parked.offset}/{event.index}", update)

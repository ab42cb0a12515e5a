"""A step of the profile stage while it is being decided: the partition's state, and what has come of it so far."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from cdp_stream.model.ids import ProfileId
from cdp_stream.model.ports import Store
from cdp_stream.model.profile import ListChange, ProfileUpdate
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.identity import BARRIER_KEY
from cdp_stream.stages.lists import Lists, news_record
from cdp_stream.stages.profile_shapes import Parked, ProfileBarrier, ProfileStep
from cdp_stream.stages.profile_states import ProfileDraft
from cdp_stream.stages.records import OutputRecord
from cdp_stream.stages.rows import output_record
from cdp_stream.stages.state_format import decode_barrier
from cdp_stream.stages.versions import load_topology_version, topology_write

STEP_BYTES_MAX: Final = 2 * 1024 * 1024
"""A step is cut when it has about so much to send and to write."""
STEP_UNITS_MAX: Final = 2_000
"""A step is cut when it has fired, played or reconsidered so many times."""


class PartitionWork:
    """One partition's barrier and profiles, and the step in hand. The rooms of the stage work on it."""

    def __init__(self, store: Store, partition: int, partitions: int) -> None:
        """Open the state as the last commit left it."""
        self.store = store
        self.partition = partition
        self.partitions = partitions
        self.barrier = decode_barrier(store.get(BARRIER_KEY), ProfileBarrier)
        self.states = ProfileDraft(store)
        self.lists = Lists(store, partition, partitions)
        self.tally: Counter[tuple[str, ...]] = Counter()
        self.units = 0
        """What counts towards `STEP_UNITS_MAX`."""
        self.held_back: dict[ProfileId, Instant] = {}
        """Up to when nothing that was due is left of profiles that wait, as far as it was asked; playing one changes it."""
        self._topologies: dict[str, CompiledTopology] = {}
        self._outputs: list[OutputRecord] = []
        self._extra: dict[bytes, bytes | None] = {}
        self._sent_bytes = 0

    def topology(self, version: str) -> CompiledTopology:
        """A topology version that was in force once; parked records are played with their own."""
        compiled = self._topologies.get(version)
        if compiled is None:
            compiled = self._topologies[version] = load_topology_version(self.store, version)
        return compiled

    def keep_topology(self, compiled: CompiledTopology) -> None:
        """A version that has come into force."""
        self._topologies[compiled.version] = compiled
        key, value = topology_write(compiled)
        self._extra[key] = value

    def is_full(self) -> bool:
        """Has the step as much as it may hold?"""
        pending = self._sent_bytes + self.states.bytes_pending + self.lists.bytes_pending
        return self.units >= STEP_UNITS_MAX or pending >= STEP_BYTES_MAX

    def park(self, profile_id: ProfileId, parked: Parked) -> None:
        """Let a change wait behind what its profile waits for."""
        self.states.park(profile_id, msgspec.msgpack.encode(parked))

    def send(self, record: OutputRecord) -> None:
        """Put a record into the step."""
        self._outputs.append(record)
        self._sent_bytes += len(record.value)

    def emit(self, place: str, update: ProfileUpdate) -> int:
        """Put an update's outputs into the step; `place` is the middle of their `src`. Returns how many there are."""
        for number, output in enumerate(update.outputs):
            src = f"profiles/{self.partition}/{place}/{number}"
            if isinstance(output, ListChange):
                record = news_record(output, src, self.partitions)
            else:
                record, what = output_record(output, src, self.partition)
                self.tally[what] += 1
            self.send(record)
        for kind in update.full:
            self.tally["limit", kind] += 1
        return len(update.outputs)

    def let_go(self, events: int) -> None:
        """Count events that are not retained any more, though they are not too old."""
        if events:
            self.tally["limit", "history"] += events

    def finish(self, *, done: bool) -> ProfileStep:
        """The step as it stands; the next one begins empty."""
        self.barrier.parked = self.states.parked_count()
        if not self.barrier.parked and not self.barrier.playing:
            self.states.drop_clocks()
        writes = self.states.take_writes()
        writes.update(self.lists.take_writes())
        writes.update(self._extra)
        step = ProfileStep(self._outputs, writes, self.tally, done)
        self._outputs, self.tally, self._extra = [], Counter(), {}
        self.units = self._sent_bytes = 0
        return step

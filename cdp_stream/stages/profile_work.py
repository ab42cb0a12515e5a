"""A step of the profile stage while it is being decided: the partition's state, and what has come of it so far."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cdp_stream.model.ids import ProfileId
from cdp_stream.model.ports import Store
from cdp_stream.model.profile import ListChange, ProfileUpdate
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.identity import BARRIER_KEY
from cdp_stream.stages.lists import Lists, news_record
from cdp_stream.stages.native import NATIVE
from cdp_stream.stages.native_plan import plan_of
from cdp_stream.stages.profile_shapes import Parked, ProfileBarrier, ProfileStep
from cdp_stream.stages.profile_states import ProfileDraft
from cdp_stream.stages.records import OutputRecord
from cdp_stream.stages.rows import output_record
from cdp_stream.stages.state_format import decode_barrier
from cdp_stream.stages.versions import load_topology_version, topology_write

if TYPE_CHECKING:
    from cdp_stream.stages._native import ProfileCore

STEP_BYTES_MAX: Final = 2 * 1024 * 1024
"""A step is cut when it has about so much to send and to write."""
STEP_UNITS_MAX: Final = 2_000
"""A step is cut when it has fired, played or reconsidered so many times."""


class CoreRun(NamedTuple):
    """How far the core has come with a message."""

    position: int
    now: Instant
    """The latest of the changes that it looked at; far below zero: none."""
    last: int
    """The `index` of the last change done, -1: none."""
    stopped: str
    """`done`, `left` (the next change is one for the rooms), `full`, or `cut`."""
    cut: tuple[str, Instant] | None
    """The profile whose history is to be cut, and as of when."""


class PartitionWork:
    """One partition's barrier and profiles, and the step in hand. The rooms of the stage work on it."""

    def __init__(self, store: Store, partition: int, partitions: int, *, compiled: bool = True) -> None:
        """Open the state as the last commit left it. `compiled`: let the core do what it can, where it was built."""
        self.store = store
        self.partition = partition
        self.partitions = partitions
        self.barrier = decode_barrier(store.get(BARRIER_KEY), ProfileBarrier)
        self.core = NATIVE.ProfileCore(partition, OutputRecord) if compiled and NATIVE is not None else None
        self.states = ProfileDraft(store, self.core)
        self.lists = Lists(store, partition, partitions)
        self.tally: Counter[tuple[str, ...]] = Counter()
        self.units = 0
        """What counts towards `STEP_UNITS_MAX`."""
        self.held_back: dict[ProfileId, Instant] = {}
        """Up to when nothing that was due is left of profiles that wait, as far as it was asked; playing one changes it."""
        self._topologies: dict[str, CompiledTopology] = {}
        self._planned: dict[str, bool] = {}
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

    def is_planned(self, version: str) -> bool:
        """Does the core decide by this version? Not where it was not built, or the version has what only the rooms do."""
        planned = self._planned.get(version)
        if planned is None:
            plan = None if self.core is None else plan_of(self.topology(version))
            if self.core is not None and plan is not None:
                self.core.add_plan(version, plan)
            planned = self._planned[version] = plan is not None
        return planned

    def run_core(self, offset: int, position: int) -> CoreRun:
        """Let the core do the open message's changes from `position` on, as far as it can."""
        assert self.core is not None, "a message is opened by the core"
        left = max(0, STEP_UNITS_MAX - self.units), max(0, STEP_BYTES_MAX - self._pending())
        run = CoreRun(*self.core.run(offset, position, *left, self.states.lend, self._outputs))
        self._take_sizes(self.core)
        return run

    def fire_in_core(self, instant: Instant, profile_id: ProfileId, by: Parked, version: str) -> bool:
        """Have the core fire one profile's due time; False: it leaves it to the rooms."""
        if self.core is None or not self.is_planned(version):
            return False
        place = (by.step, by.change.record)
        lend, now = self.states.lend, by.change.now
        fired: bool = self.core.fire(profile_id, instant, now, place, version, lend, self._outputs)
        self._take_sizes(self.core)
        return fired

    def _take_sizes(self, core: ProfileCore) -> None:
        units, sent, pending = core.take_sizes()
        self.units += units
        self._sent_bytes += sent
        self.states.bytes_pending += pending

    def _pending(self) -> int:
        return (
            self._sent_bytes
            + self.states.bytes_pending
            + self.states.histories.bytes_pending
            + self.lists.bytes_pending
        )

    def is_full(self) -> bool:
        """Has the step as much as it may hold?"""
        return self.units >= STEP_UNITS_MAX or self._pending() >= STEP_BYTES_MAX

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
        if self.core is not None:
            self.tally.update(self.core.take_tally())
        writes = self.states.take_writes()
        writes.update(self.lists.take_writes())
        writes.update(self._extra)
        step = ProfileStep(self._outputs, writes, self.tally, done)
        self._outputs, self.tally, self._extra = [], Counter(), {}
        self.units = self._sent_bytes = 0
        return step

"""The identity agent's work: the owner of the identity log reads the sources, appends slices, and takes their steps."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from cdp_stream.errors import LogContradiction, StartAgain
from cdp_stream.metrics import IdentityMetrics
from cdp_stream.model.change import ProfileChanges
from cdp_stream.model.event import RawRecord
from cdp_stream.pipeline import CompiledTopology
from cdp_stream.stages.entries import ClockEntry, Entry, Slice, decode_entry, encode_entry
from cdp_stream.stages.identity import IdentityBarrier, IdentityStage, IdentityStep
from cdp_stream.stages.orders import apply_control, first_topology
from cdp_stream.stages.profile_shapes import encode_changes
from cdp_stream.stages.records import PROFILE_CHANGES, OutputRecord
from cdp_stream.stream.catch_up import read_to_end
from cdp_stream.stream.identity_log import is_given_up, recognise
from cdp_stream.stream.log import NOT_TOLD, TopicShape, World, consuming
from cdp_stream.stream.owner import Owner
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.sources import SourceReader, SourceTopic, find_sources, sources_of
from cdp_stream.stream.topics import TopicNames

_SLICES_AHEAD = 3
"""Slices in the log that are not decided yet while there is a backlog: one being decided, the others on their way through
the log. Without one a slice waits until the one before is decided, and what comes meanwhile is in it, too.
"""
_UNDER_WAY = 3
"""Steps that are decided and not stored: one in the store's hands, one in the changelog's, one on its way to the topics."""
_POLL_MS = 100
_COMMIT_EVERY_S = 2.0
_LOOK_EVERY_S = 10.0
_READ_BACK_EVERY_S = 0.005
"""While there is nothing else to do: half of the time, so that whatever comes meanwhile waits some milliseconds at most."""
_SILENT_S = 5.0
"""After so long without an entry the log is read, whatever the group's client says."""
log = logging.getLogger("cdp_stream.identity")


class _Found(NamedTuple):
    """An entry that stands in the log."""

    offset: int
    timestamp: int = NOT_TOLD
    entry: Entry | None = None
    """None: it has to be read."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What a step tells the ones behind it, and what it hears from the one before."""

    sent: asyncio.Future[None]
    logged: asyncio.Future[None]
    logged_before: asyncio.Future[None] | None
    stored_before: asyncio.Task[None] | None


class IdentityOwner:
    """Owns the identity log's one partition: the single writer of the space's graph."""

    def __init__(
        self,
        settings: Settings,
        names: TopicNames,
        topology: CompiledTopology,
        metrics: IdentityMetrics,
        world: World,
        *,
        replaces: str | None = None,
    ) -> None:
        self._settings = settings
        self._names = names
        self._proposed = topology
        self._replaces = replaces
        self._metrics = metrics
        self._world = world
        self._owner = Owner(settings, names, "identity", 0, world)
        self._log = TopicPartition(names.identity_log, 0)
        self._queue: asyncio.Queue[_Found] = asyncio.Queue()
        self._accepts = False
        self._appended: set[int] = set()
        """Slices that stand in the log and are not decided yet."""
        self._decided = asyncio.Event()
        self._sent: asyncio.Future[None] | None = None
        self._logged: asyncio.Future[None] | None = None
        """Of the last step: its outputs, and those before it in the changelog; its own place in that."""
        self._under_way: deque[asyncio.Task[None]] = deque()
        """Steps that are decided and not stored, as far as it is known."""
        self._positions: dict[TopicPartition, int] = {}
        self._tasks: asyncio.TaskGroup
        self.stage: IdentityStage
        self._sources: SourceReader
        self._checked: str | None = None
        self._found: Mapping[str, TopicShape] = {}
        self._reads: dict[str, bool] = {}
        """The topics that are read, and whether each one's events may map identifiers."""

    @property
    def phase(self) -> str:
        """What it is doing, for the readiness page."""
        return self._owner.phase

    def hear(self, offset: int, done: Callable[[], None]) -> None:
        """The log has come as far as this offset; `done` is called when what stands there is stored."""
        self._owner.hear(offset, done)
        if self._accepts and offset >= self.stage.barrier.next_offset:
            self._queue.put_nowait(_Found(offset))

    async def run(self) -> None:
        """Claim, do every entry present, then append slices and take the entries as they come. Never returns."""
        store = await self._owner.claim_and_restore()
        self.stage = IdentityStage(store, self._names.partitions, topic_prefix=self._names.prefix)
        await self._owner.catch_up(self.stage.barrier, self.stage.is_done)
        self._owner.stored(self.stage.barrier.next_offset)
        await recognise(self._world.log, self._log, self.stage.barrier)
        self._sources = await self._open_sources()
        async with asyncio.TaskGroup() as self._tasks:
            # Twice: what comes while the first pass reads is not kept, and is there for the second.
            await self._do_present_entries()
            self._accepts = True
            await self._do_present_entries()
            await self._propose_topology()
            self._require_same_sources()
            await self._sources.start(_source_positions(self.stage.barrier))
            self._owner.is_ready()
            log.info("ready: entries up to %d are done", self.stage.barrier.next_offset - 1)
            self._tasks.create_task(self._append_entries())
            self._tasks.create_task(self._publish_positions())
            self._tasks.create_task(self._watch_sources())
            self._tasks.create_task(self._read_back())
            self._tasks.create_task(self._take_entries())

    async def close(self) -> None:
        """Close everything; what was not stored is decided again by the next owner."""
        try:
            if hasattr(self, "_sources"):
                await self._sources.stop()
        finally:
            await self._owner.close()

    async def _open_sources(self) -> SourceReader:
        self._reads = sources_of(self.stage.topology or self._proposed, self._names.prefix)
        found = self._found = await find_sources(self._world.log, sorted(self._reads))
        topics = [SourceTopic(name, info.topic_id, info.partitions, self._reads[name]) for name, info in found.items()]
        group = f"{self._names.prefix}{self._names.space}.sources"
        return SourceReader(
            self._world.log, group, topics, self._settings.step_events_max, self._settings.step_bytes_max
        )

    def _require_same_sources(self) -> None:
        """The sources are those that the state was made from. Raises LogContradiction."""
        for topic, positions in self.stage.barrier.sources.items():
            for position in positions.values():
                if topic in self._found and position.topic_id != self._found[topic].topic_id:
                    raise LogContradiction(
                        f"{topic}: the topic was deleted and made anew (its id was {position.topic_id}, now "
                        f"{self._found[topic].topic_id}); `cdp-stream source-reset` reads it from its beginning"
                    )

    async def _watch_sources(self) -> None:
        """What happens to a source while it is read: more partitions, or another topic under its name."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            found = await find_sources(self._world.log, sorted(self._reads))
            before, self._found = self._found, found
            self._require_same_sources()
            for topic, info in found.items():
                if info.partitions != before[topic].partitions:
                    raise StartAgain(f"{topic} has {info.partitions} partitions now")

    async def _do_present_entries(self, before: int | None = None) -> None:
        """Entries that stand in the log and are not done, up to its end or to an offset.

        At a claim these come first, identically, before anything is appended.
        """
        async with consuming(self._world.log) as consumer:
            start = {self._log: self.stage.barrier.next_offset}
            least = None if before is None else {self._log: before}
            async for _, record in read_to_end(consumer, start, least):
                if before is not None and record.offset >= before:
                    break
                await self._step(record.offset, record.timestamp, decode_entry(record.value))
            await self._at_most_under_way(0)

    async def _propose_topology(self) -> None:
        in_force = self.stage.barrier.topology_version
        if in_force is None:
            await self._append(first_topology(self._proposed, self._world.clock_ms()))
        elif in_force != self._proposed.version:
            if in_force != self._replaces:
                log.warning(
                    "the topology file is version %s, in force is %s; take it with --apply or `cdp-stream apply`",
                    self._proposed.version,
                    in_force,
                )
                return
            await find_sources(self._world.log, sorted(sources_of(self._proposed, self._names.prefix)))
            next_offset = self.stage.barrier.next_offset
            await self._append(apply_control(self._proposed, in_force, next_offset, self._world.clock_ms()))

    async def _append(self, entry: Entry) -> int:
        """Append an entry, and take it at once: what the log says of it is all that reading it would tell."""
        taken = await self._owner.writer.append(self._log, encode_entry(entry))
        is_told = taken.appended_ms != NOT_TOLD
        self._queue.put_nowait(_Found(taken.offset, taken.appended_ms, entry) if is_told else _Found(taken.offset))
        return taken.offset

    async def _append_entries(self) -> None:
        """Slices as records come, clocks as time passes; never more than a few ahead of what is decided."""
        loop = asyncio.get_running_loop()
        interval_s = self._settings.clock_interval_ms / 1000
        next_clock = loop.time() + interval_s
        while True:
            if await self._sources.fill(_POLL_MS):
                await self._room()
                parts = self._sources.cut()
                offset = await self._append(Slice(self._world.clock_ms(), parts))
                # The agent may be faster than the acknowledgement: then the slice is decided already.
                if offset >= self.stage.barrier.next_offset:
                    self._appended.add(offset)
            if loop.time() >= next_clock:
                next_clock = loop.time() + interval_s
                await self._append(ClockEntry(self._world.clock_ms(), await self._sources.is_drained()))

    async def _take_entries(self) -> None:
        """Entries as they are appended here, and the last one that the agent knows of. What lies before one, such as an
        operator's order, is read here.
        """
        while True:
            try:
                async with asyncio.timeout(_SILENT_S):
                    found = await self._queue.get()
            except TimeoutError:
                # A clock is due much sooner, so it stands in the log and was not brought.
                await self._do_present_entries()
                self._make_room()
                continue
            known_from = found.offset + (found.entry is None)
            if known_from > self.stage.barrier.next_offset:
                await self._do_present_entries(known_from)
            if found.entry is not None and found.offset >= self.stage.barrier.next_offset:
                await self._step(found.offset, found.timestamp, found.entry)
            self._make_room()

    async def _read_back(self) -> None:
        """What the store knew at the start is remembered while nothing is to be decided; steps have a piece each, too."""
        left = True
        while left:
            await asyncio.sleep(_READ_BACK_EVERY_S)
            if not self._appended and self._queue.empty():
                left = self.stage.graph.read_back()

    async def _room(self) -> None:
        """Wait until another slice may stand in the log, and take in what comes meanwhile."""
        while True:
            await self._sources.fill(0)
            if len(self._appended) < (_SLICES_AHEAD if self._sources.has_backlog() else 1):
                return
            self._decided.clear()
            await self._decided.wait()

    def _make_room(self) -> None:
        self._appended = {offset for offset in self._appended if offset >= self.stage.barrier.next_offset}
        self._decided.set()

    async def _step(self, offset: int, timestamp: int, entry: Entry) -> None:
        """Decide an entry while the one before is under way."""
        began, records, step = await self._decide(offset, timestamp, entry)
        if self._sent is not None:
            await self._sent
        await self._at_most_under_way(_UNDER_WAY - 1)
        stored_before = self._under_way[-1] if self._under_way else None
        logged_before, loop = self._logged, asyncio.get_running_loop()
        self._sent, self._logged = loop.create_future(), loop.create_future()
        told = _Told(self._sent, self._logged, logged_before, stored_before)
        self._under_way.append(self._tasks.create_task(self._send_and_store(step, records, began, told)))

    async def _at_most_under_way(self, steps: int) -> None:
        while len(self._under_way) > steps:
            await self._under_way.popleft()

    async def _decide(
        self, offset: int, timestamp: int, entry: Entry
    ) -> tuple[float, Sequence[RawRecord], IdentityStep]:
        """When its decision began, its records, and the step of an entry."""
        try:
            records = await self._sources.take(entry.sources) if isinstance(entry, Slice) else []
            began = time.perf_counter()
            return began, records, self.stage.decide(offset, timestamp, entry, records)
        except LogContradiction as error:
            if not isinstance(entry, Slice) or not await is_given_up(self._world.log, self._log, offset, entry):
                raise
            log.warning("entry %d is passed over, as an operator has ordered: %s", offset, error)
            return time.perf_counter(), [], self.stage.decide(offset, timestamp, entry, None)

    async def _send_and_store(
        self,
        step: IdentityStep,
        records: Sequence[RawRecord],
        began: float,
        told: _Told,
    ) -> None:
        """The outputs, then the changelog, then the store. The next step's outputs go out beside this one's changelog,
        but not before the changelog of the step before this one is acknowledged.
        """
        offset, barrier = step.offset, self.stage.barrier
        outputs = list(step.outputs)
        messages = sorted(step.changes.items())
        for partition, changes in messages:
            message = ProfileChanges(
                step=offset,
                previous=barrier.previous[partition],
                topology_version=step.topology_version,
                changes=changes,
            )
            src = f"identity/0/{offset}/0/{partition}"
            outputs.append(OutputRecord(PROFILE_CHANGES, partition, b"", encode_changes(message), src))
        offsets = await self._owner.send(outputs, barrier.outputs)
        acked = time.perf_counter()
        for (partition, _), at in zip(messages, offsets[len(step.outputs) :], strict=True):
            barrier.previous[partition] = at
        if told.logged_before is not None:
            await told.logged_before
        encoded = self.stage.encode_barrier(step)
        told.sent.set_result(None)
        writes = await self._owner.log_step(step.writes, barrier, encoded)
        told.logged.set_result(None)
        if told.stored_before is not None:
            await told.stored_before
        await self._owner.commit(writes)
        self.stage.graph.committed()
        self._positions = _source_positions(step.barrier)
        self._owner.stored(offset + 1)
        self._metrics.step(step, len(records), acked - began, time.perf_counter() - began)
        self._check_sources(step)
        if records:
            self._metrics.end_to_end(self._world.clock_ms(), records)

    def _check_sources(self, step: IdentityStep) -> None:
        """Once this step has put a topology in force that has other sources than are read: claim anew."""
        if step.moves_positions:
            raise StartAgain("an operator has moved the position in a source")
        if step.topology_version == self._checked:
            return
        topology = self.stage.topology
        if topology is not None and sources_of(topology, self._names.prefix) != self._reads:
            raise StartAgain(f"topology version {topology.version} has other sources")
        self._checked = step.topology_version

    async def _publish_positions(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_EVERY_S)
            barrier = self.stage.barrier
            self._metrics.position(barrier.now, self.stage.graph.profiles_count, await self._sources.lag())
            self._metrics.state(self._owner.state_bytes(), self._queue.qsize())
            try:
                await self._sources.commit(self._positions)
            except Exception as error:  # noqa: BLE001 - only a display; the position that counts is in the state
                log.warning("the positions could not be published for lag tools: %r", error)


def _source_positions(barrier: IdentityBarrier) -> dict[TopicPartition, int]:
    return {
        TopicPartition(topic, partition): position.offset
        for topic, partitions in barrier.sources.items()
        for partition, position in partitions.items()
    }

"""What it takes to own a stage partition: claim, restore, catch up; then a step at a time."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from aiokafka.structs import TopicPartition

from cdp_stream.model.ports import Changes, Store
from cdp_stream.model.time import DAY_MS, HOUR_MS, Instant
from cdp_stream.stages.identity import BARRIER_KEY, IdentityBarrier
from cdp_stream.stages.profile_shapes import ProfileBarrier
from cdp_stream.stages.records import OutputRecord
from cdp_stream.stages.state_format import decode_barrier, require_same_decisions
from cdp_stream.store.rocks import files_written_ms
from cdp_stream.stream.catch_up import CURRENT_KEY, current_ms, encode_current, outputs_beyond, restore
from cdp_stream.stream.claim import claim
from cdp_stream.stream.log import BatchWriter, World
from cdp_stream.stream.pages import READY
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.step import Positions, StepWriter
from cdp_stream.stream.topics import DELETE_RETENTION_MS, TopicNames

Barrier = IdentityBarrier | ProfileBarrier
_HEARD_MAX = 16
log = logging.getLogger("cdp_stream.owner")


def state_folder(settings: Settings, names: TopicNames) -> Path:
    """Where a space's state lies: one folder below it per stage partition."""
    return Path(settings.data_dir) / f"{names.prefix}{names.space}"


class Owner:
    """The one writer of a stage partition, from `take_over` on."""

    def __init__(self, settings: Settings, names: TopicNames, stage: str, partition: int, world: World) -> None:
        self._world = world
        self.settings = settings
        self.names = names
        self.stage_name = stage
        self.partition = partition
        self.changelog = TopicPartition(names.changelog(stage), partition)
        self.store: Store
        self.writer: StepWriter
        self._claimed: BatchWriter
        self._producer_id = -1
        self.phase = "claiming"
        self._heard: deque[tuple[int, Callable[[], None]]] = deque()
        self._stored = 0

    @property
    def name(self) -> str:
        """`<space>.<stage>.<partition>`, also the id of the claim."""
        return f"{self.names.prefix}{self.names.space}.{self.stage_name}.{self.partition}"

    async def claim_and_restore(self) -> Store:
        """Fence older owners off, open the store and bring it up to the changelog's end."""
        outputs = self.names.outputs(self.stage_name, self.partition)
        self._claimed, self._producer_id = await claim(
            self._world.log, self.name, outputs, lambda: self._world.is_ours(self.partition)
        )
        folder = partition_folder(self.settings, self.names, self.stage_name, self.partition)
        self.store = open_state(self._world, folder)
        self.phase = "restoring"
        start, now_ms = changelog_position(self.store, self.stage_name), self._world.clock_ms()
        self._restored = await restore(self._world.log, self.store, self.changelog, start, self._restoring, now_ms)
        return self.store

    def _restoring(self, percent: int) -> None:
        self.phase = f"restoring, {percent} %"

    async def catch_up(self, barrier: Barrier, is_done: Callable[[str], bool]) -> None:
        """Find what of our outputs the log holds beyond the restored state; from here on steps may be sent.

        `is_done`: does an output of this `src` come from a step that is stored?
        """
        if barrier.producer_id not in (-1, self._producer_id):
            log.warning("%s: the producer id changed; the older owner's fence had lapsed", self.name)
        self.phase = "catching up"
        barrier.producer_id = self._producer_id
        barrier.changelog = self._restored
        outputs = [
            where
            for where in self.names.outputs(self.stage_name, self.partition)
            if where != self.changelog and where.topic != self.names.identity_log
        ]
        own = f"{self.stage_name}/{self.partition}/"
        sent = await outputs_beyond(self._world.log, outputs, barrier.outputs, own, is_done)
        require_same_decisions(barrier.decided_by, len(sent), self.name)
        self.writer = StepWriter(self._claimed, self.names, self.changelog, sent)

    def hear(self, offset: int, done: Callable[[], None]) -> None:
        """The agent's word that the input has come so far; `done` is called when that is stored."""
        # Each holds its message; and the last that is acknowledged speaks for all before it.
        if len(self._heard) == _HEARD_MAX:
            self._heard.pop()
        self._heard.append((offset, done))
        self.stored(self._stored)

    def stored(self, next_offset: int) -> None:
        """All of the input before this offset is."""
        self._stored = next_offset
        while self._heard and self._heard[0][0] < next_offset:
            _, done = self._heard.popleft()
            done()

    def is_ready(self) -> None:
        """Everything that stood in the log is done; from here on records are taken as they come."""
        self.phase = READY

    async def send(self, records: Sequence[OutputRecord], positions: Positions) -> list[int]:
        """Send a step's outputs and await their acknowledgements."""
        return await self.writer.send(records, positions)

    async def store_step(self, writes: Changes, barrier: Barrier, encoded: bytes) -> None:
        """Changelog, then the store. Only after every output of the step is acknowledged."""
        with self.writer.step():
            await self.commit(await self.log_step(writes, barrier, encoded))

    async def log_step(self, writes: Changes, barrier: Barrier, encoded: bytes) -> Changes:
        """The changelog, once every output of the step is acknowledged. Returns what is to be committed then, in the order
        of the steps.
        """
        changes = {**writes, BARRIER_KEY: encoded}
        barrier.changelog = await self.writer.changelog(changes)
        changes[CURRENT_KEY] = encode_current(self._world.clock_ms())
        return changes

    async def commit(self, changes: Changes) -> None:
        """The store, last."""
        with self.writer.step():
            await self._world.commit(self.store, changes)

    def state_bytes(self) -> int:
        """Size of the state's files; 0 if the store keeps none."""
        folder = partition_folder(self.settings, self.names, self.stage_name, self.partition)
        size = 0
        # The store removes files at any time, also between the listing and the look at one.
        with contextlib.suppress(FileNotFoundError):
            for file in os.scandir(folder):
                with contextlib.suppress(FileNotFoundError):
                    size += file.stat().st_size
        return size

    async def close(self) -> None:
        """Close the store and stop the writer."""
        # The store first: the next owner in this process needs it, and a writer may take long where a broker is away.
        try:
            if hasattr(self, "store"):
                self.store.close()
        finally:
            if hasattr(self, "_claimed"):
                await self._claimed.stop()


def partition_folder(settings: Settings, names: TopicNames, stage: str, partition: int) -> Path:
    """Where the state of one stage partition lies."""
    return state_folder(settings, names) / f"{stage}-{partition}"


def open_state(world: World, folder: Path) -> Store:
    """Open or create a store. One that is so old that the changelog may have forgotten deletions since is made anew.

    Raises StateError where another process has it open, which keeps it as it is.
    """
    written = files_written_ms(folder)
    store = world.open_store(folder)
    now_ms = world.clock_ms()
    current = current_ms(store)
    if current is None and next(iter(store.scan(b"")), None) is not None:
        # Of a version whose stores did not say it. Those had a log of their own, so their files are as old as they are.
        current = written
    if current is not None and is_stale(current, now_ms):
        log.warning("%s: last written %d days ago; restoring anew", folder, (now_ms - current) // DAY_MS)
        store.close()
        world.wipe(folder)
        store, current = world.open_store(folder), None
    if current_ms(store) is None:
        # Whatever comes into an empty one is read from the changelog from now on.
        store.commit({CURRENT_KEY: encode_current(now_ms if current is None else current)})
    return store


def is_stale(current: Instant, now_ms: Instant) -> bool:
    """Was it last at the changelog's end so long ago that this may have forgotten deletions since? A time to come says nothing."""
    return now_ms - current > DELETE_RETENTION_MS // 2 or current - now_ms > HOUR_MS


def changelog_position(store: Store, stage: str) -> int:
    """Up to where the stored barrier knows the changelog; 0 for an empty store. Raises StateError if it is no barrier."""
    return decode_stage_barrier(store.get(BARRIER_KEY), stage).changelog


def decode_stage_barrier(raw: bytes | None, stage: str) -> Barrier:
    """The barrier of a partition of this stage, or a new one. Raises StateError if it is no barrier."""
    kind: type[Barrier] = IdentityBarrier if stage == "identity" else ProfileBarrier
    return decode_barrier(raw, kind)

"""The profile agents' work: each partition's owner takes the steps of profile changes and of arriving shipments."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from aiokafka.structs import TopicPartition

from cdp_stream.errors import StartAgain
from cdp_stream.metrics import ProfileMetrics
from cdp_stream.stages.profile_shapes import ProfileStep
from cdp_stream.stages.profile_work import STEP_BYTES_MAX
from cdp_stream.stages.profiles import ProfileStage
from cdp_stream.stages.records import PROFILE_CHANGES, SHIPMENTS
from cdp_stream.stream.catch_up import read_to_end, require_input
from cdp_stream.stream.inputs import Inbox
from cdp_stream.stream.log import World, consuming
from cdp_stream.stream.owner import Owner
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import TopicNames

_REPORT_EVERY_S = 5.0
_SCANNED_AT_ONCE = 200
_HELD_MAX = 200
"""Messages that are taken at once while what is present is done."""
log = logging.getLogger("cdp_stream.profiles")


class ProfileOwner:
    """Owns one partition of the profile stage."""

    def __init__(
        self, settings: Settings, names: TopicNames, partition: int, metrics: ProfileMetrics, world: World
    ) -> None:
        self._world = world
        self._settings = settings
        self._checked: str | None = None
        self._names = names
        self._partition = partition
        self._metrics = metrics
        self._owner = Owner(settings, names, "profiles", partition, world)
        self._one_step = asyncio.Lock()
        self._changes = TopicPartition(names.of_role(PROFILE_CHANGES), partition)
        self._shipments = TopicPartition(names.of_role(SHIPMENTS), partition)
        self.stage: ProfileStage

    @property
    def phase(self) -> str:
        """What it is doing, for the readiness page."""
        return self._owner.phase

    def hear(self, offset: int, done: Callable[[], None]) -> None:
        """The partition has come as far as this offset; `done` is called when what stands there is stored."""
        self._owner.hear(offset, done)

    async def run(self) -> None:
        """Claim, do what is present, then take messages and shipments as they come. Never returns."""
        store = await self._owner.claim_and_restore()
        self.stage = ProfileStage(store, self._partition, self._names.partitions)
        await self._owner.catch_up(self.stage.barrier, self.stage.outputs_done())
        self._owner.stored(self.stage.barrier.next_offset)
        await require_input(self._world.log, self._changes, self.stage.barrier.next_offset)
        await require_input(self._world.log, self._shipments, self.stage.barrier.shipments_next)
        self._check_destinations()
        async with asyncio.TaskGroup() as group:
            # From the beginning: until a shipment is taken in, all that concerns its survivor is put aside.
            shipments = self._world.log.inputs.follow(self._shipments, self.stage.barrier.shipments_next)
            group.create_task(self._take_shipments(shipments))
            # Twice: much may come while a long first pass reads.
            await self._do_present()
            await self._do_present()
            messages = self._world.log.inputs.follow(self._changes, self.stage.barrier.next_offset)
            self._owner.is_ready()
            log.info("ready: partition %d, messages up to %d", self._partition, self.stage.barrier.next_offset - 1)
            group.create_task(self._report(messages))
            group.create_task(self._take_messages(messages))

    async def close(self) -> None:
        """Close everything; what was not stored is decided again by the next owner."""
        self._metrics.gone(self._partition)
        try:
            await self._owner.close()
        finally:
            for where in (self._changes, self._shipments):
                await self._world.log.inputs.leave(where)

    async def _do_present(self) -> None:
        """What stands in the log beyond the state, up to its end, wherever the group's committed offset is."""
        held: list[tuple[int, bytes]] = []
        size = 0
        async with consuming(self._world.log) as consumer:
            async for _, record in read_to_end(consumer, {self._changes: self.stage.barrier.next_offset}):
                held.append((record.offset, record.value))
                size += len(record.value)
                if len(held) >= _HELD_MAX or size >= STEP_BYTES_MAX:
                    await self._take_steps(partial(self.stage.decide, held))
                    held, size = [], 0
            await self._take_steps(partial(self.stage.decide, held))

    async def _report(self, messages: Inbox) -> None:
        # The scan sees the state as it is now; what steps change meanwhile, they tell by themselves.
        sizes: Counter[str] = Counter()
        for number, profile in enumerate(self.stage.states.all_profiles(), start=1):
            sizes.update(key for key, member in profile.memberships.items() if member)
            if number % _SCANNED_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._metrics.audience_sizes(self._partition, sizes)
        while True:
            await asyncio.sleep(_REPORT_EVERY_S)
            parked = self.stage.states.parked_count()
            self._metrics.state(self._partition, self._owner.state_bytes(), parked, len(messages))

    async def _take_messages(self, inbox: Inbox) -> None:
        """Messages as they come; what comes while a step is under way shares the next one."""
        while True:
            await self._take_steps(partial(self.stage.decide, await inbox.take()))

    async def _take_shipments(self, inbox: Inbox) -> None:
        while True:
            await self._take_steps(partial(self.stage.decide_shipments, await inbox.take()))

    def _check_destinations(self) -> None:
        """Before anything goes to a topic that this claim does not cover, it is claimed anew with all of them."""
        version = self.stage.barrier.topology_version
        if version is None or version == self._checked:
            return
        topology = self.stage.work.topology(version).topology
        if not set(TopicNames.of(topology, self._settings).destinations) <= set(self._names.destinations):
            raise StartAgain(f"topology version {version} has other destinations")
        self._checked = version

    async def _take_steps(self, decide: Callable[[], ProfileStep | None]) -> None:
        """Take the steps of inputs of one kind, until all are done. Those of the other kind get their turn in between,
        but not while an input is cut.
        """
        more = True
        while more:
            async with self._one_step:
                more = await self._take_whole(decide)

    async def _take_whole(self, decide: Callable[[], ProfileStep | None]) -> bool:
        """Take one step, and more as long as it ends within an input; False if nothing was left."""
        done = False
        while not done:
            began = time.perf_counter()
            with self._owner.writer.step():
                step = decide()
                if step is None:
                    return False
                await self._finish(step, began)
            done = step.done
        return True

    async def _finish(self, step: ProfileStep, began: float) -> None:
        self._check_destinations()
        barrier = self.stage.barrier
        # Shipments go last: what the survivor tells after it has taken one in must not stand before what the absorbed
        # profile had told, or a destination that reads both would believe the older news.
        shipments = [record for record in step.outputs if record.topic == SHIPMENTS]
        if shipments:
            told = [record for record in step.outputs if record.topic != SHIPMENTS]
            await self._owner.send(told, barrier.outputs)
            await self._owner.send(shipments, barrier.outputs)
        else:
            await self._owner.send(step.outputs, barrier.outputs)
        await self._owner.store_step(step.writes, barrier, self.stage.encoded_barrier())
        self.stage.states.committed()
        self._owner.stored(barrier.next_offset)
        self._metrics.step(self._partition, step, time.perf_counter() - began)
        self._metrics.backfill(self._partition, self.stage.barrier.progress)

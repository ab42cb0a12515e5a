"""A simulated run from its plan: traffic, owners that die and come back, and the end at which all is compared."""

from __future__ import annotations

import asyncio
import itertools
import logging
import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from aiokafka.structs import TopicPartition

from cdp_stream.errors import Fenced, StartAgain
from cdp_stream.metrics import IdentityMetrics, Metrics, ProfileMetrics
from cdp_stream.model.ports import Changes, Store
from cdp_stream.model.time import Instant
from cdp_stream.pipeline import CompiledTopology, compile_topology
from cdp_stream.stages.records import PROFILE_CHANGES, SHIPMENTS
from cdp_stream.stream.identity import IdentityOwner
from cdp_stream.stream.log import World
from cdp_stream.stream.profiles import ProfileOwner
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topics import TopicNames
from cdp_stream.testing.simulation.auditor import Auditor
from cdp_stream.testing.simulation.broker import SimulatedBroker
from cdp_stream.testing.simulation.client import Lost, Network, SimulatedLog
from cdp_stream.testing.simulation.ending import compare_with_recomputation
from cdp_stream.testing.simulation.invariants import Violation, Violations
from cdp_stream.testing.simulation.life import Life
from cdp_stream.testing.simulation.loop import Stuck, VirtualLoop
from cdp_stream.testing.simulation.plan import Plan
from cdp_stream.testing.simulation.process import Disk, Killed, Process
from cdp_stream.testing.simulation.sending import send_traffic

START: Instant = 1_767_225_600_000
MACHINES = 3
_ENDS_WITHIN_S = 120.0
"""Of the run's own time: whoever waits longer waits for something that never comes."""


class Report(msgspec.Struct):
    """How a run ended."""

    seed: int
    violations: list[Violation]
    figures: dict[str, int]
    digest: str = ""


@lru_cache(maxsize=1)
def _metrics() -> tuple[IdentityMetrics, ProfileMetrics]:
    metrics = Metrics()
    return IdentityMetrics(metrics), ProfileMetrics(metrics)


def simulate(plan: Plan) -> Report:
    """Run a plan to its end. The same plan gives the same report."""
    logging.getLogger("cdp_stream").setLevel(logging.CRITICAL)
    loop = VirtualLoop()
    with tempfile.TemporaryDirectory() as folder:
        run = Simulation(plan, Path(folder), loop)
        try:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(run.main())
        except Stuck as stuck:
            run.violations.add(1, "the run", str(stuck))
        finally:
            _abandon(loop)
            asyncio.set_event_loop(None)
    return run.report()


def _abandon(loop: VirtualLoop) -> None:
    pending = asyncio.all_tasks(loop)
    for task in pending:
        task.cancel()
    if pending:
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


class Simulation:
    """The world of one run."""

    def __init__(self, plan: Plan, folder: Path, loop: VirtualLoop) -> None:
        self.plan = plan
        self._loop = loop
        self._draw = plan.draw("faults")
        self.clock_jump = 0
        self.broker = SimulatedBroker(plan.draw("broker"), self._broker_clock)
        self.network = Network(plan.draw("network"), plan.faults.slow_partitions, plan.faults.answers_lost)
        self.violations = Violations()
        self.versions: list[CompiledTopology] = [compile_topology(version) for version in plan.versions]
        self.file = 0
        self.apply = False
        settings: dict[str, Any] = {"step_events_max": plan.step_events, "step_bytes_max": plan.step_bytes}
        self.settings = Settings("simulated:1", data_dir=str(folder / "none"), metrics_port=0, **settings)
        every = {found.name: found.topic for version in plan.versions for found in version.destinations}
        self.names = TopicNames.of(plan.versions[0], self.settings, every)
        rocks = plan.store == "rocksdb"
        self.disks = [Disk(folder / f"machine-{number}" if rocks else None) for number in range(MACHINES)]
        for disk_folder in [folder / f"machine-{number}" for number in range(MACHINES)]:
            disk_folder.mkdir()
        self.auditor = Auditor(self.names, self.violations, self.broker)
        self.broker.heard.append(self.auditor.taken)
        self.broker.claims.append(self.auditor.claimed)
        self._bad_left = plan.faults.lives
        self.lives: dict[str, Life] = {}
        self._all: list[Life] = []
        self._numbers = itertools.count()
        self._closing: set[str] = set()
        self.digest = ""
        self.figures: Counter[str] = Counter()

    def elapsed_s(self) -> float:
        """Seconds of the run's own time."""
        return self._loop.time()

    def world_clock(self) -> Instant:
        """What every good clock shows."""
        return START + int(self._loop.now_s * 1000 * self.plan.speed)

    def _broker_clock(self) -> Instant:
        return self.world_clock() + self.clock_jump

    def report(self) -> Report:
        """The report so far."""
        return Report(self.plan.seed, self.violations.found, dict(sorted(self.figures.items())), self.digest)

    async def main(self) -> None:
        """Everything, in order."""
        self._create_topics()
        owners = [("identity", 0), *(("profiles", number) for number in range(self.plan.partitions))]
        supervisors = [asyncio.ensure_future(self._supervise(stage, number)) for stage, number in owners]
        try:
            await send_traffic(self, START)
            await asyncio.sleep(self.plan.quiet_s)
            await self._until("every source record is decided", self._sources_done)
            self._stop("identity-0")
            await self._until("every message and shipment is done", self._profiles_done)
        except TimeoutError as late:
            self.violations.add(1, "the run", f"not within {_ENDS_WITHIN_S:.0f} s: {late}; {self._whereabouts()}")
        for name in list(self.lives):
            self._stop(name)
        for life in self._all:
            life.process.die()
        await asyncio.gather(*supervisors)
        for life in self._all:
            await life.ended.wait()
            if life.superseded:
                self._judge(life)
        self.figures.update(lives=len(self._all), actions=sum(life.process.actions for life in self._all))
        self.figures["frozen"] = sum(
            1
            for life in self._all
            if life.process.freezes_at is not None and life.process.actions > life.process.freezes_at
        )
        if not self.violations.found:
            self.digest = compare_with_recomputation(self)

    def _whereabouts(self) -> str:
        return "; ".join(f"{name} after {life.process.last!r}" for name, life in sorted(self.lives.items()))

    def _create_topics(self) -> None:
        for source in self.names.sources:
            self.broker.create(source, self.plan.source_partitions)
        for topic, (partitions, settings) in self.names.ours().items():
            self.broker.create(topic, partitions)
            if settings.get("message.timestamp.type") == "LogAppendTime":
                self.broker.append_time.add(topic)
            if settings.get("cleanup.policy") == "compact":
                self.broker.compacted.add(topic)

    async def _until(self, what: str, done: Any) -> None:
        until = self._loop.time() + _ENDS_WITHIN_S
        while not done() and not self.violations.found:
            if self._loop.time() > until:
                raise TimeoutError(what)
            await asyncio.sleep(0.005)

    def _stop(self, name: str) -> None:
        self._closing.add(name)
        life = self.lives.get(name)
        if life is not None:
            life.process.die()

    def _sources_done(self) -> bool:
        barrier = self.auditor.identity_barrier
        if barrier is None or self._last_record(self.names.identity_log, 0) != barrier.entry_offset:
            return False
        for topic in self.names.sources:
            for number in range(self.plan.source_partitions):
                last = self._last_record(topic, number)
                position = barrier.sources.get(topic, {}).get(number)
                if last >= 0 and (position is None or position.offset <= last):
                    return False
        return True

    def _profiles_done(self) -> bool:
        for number in range(self.plan.partitions):
            barrier = self.auditor.profile_barriers.get(number)
            changes = self._last_record(self.names.of_role(PROFILE_CHANGES), number)
            shipments = self._last_record(self.names.of_role(SHIPMENTS), number)
            if barrier is None or barrier.last_offset != changes or barrier.shipments_next <= shipments:
                return False
        return True

    def _last_record(self, topic: str, number: int) -> int:
        for stored in reversed(self.broker.partitions[TopicPartition(topic, number)].stored):
            if not stored.marker and not stored.aborted:
                return stored.offset
        return -1

    async def _supervise(self, stage: str, number: int) -> None:
        """Start the owner again whenever it ends; hand it over to another machine now and then."""
        name = f"{stage}-{number}"
        while name not in self._closing:
            machine = await self._free_machine(name)
            life = self.lives[name] = self._begin(stage, number, name, machine)
            ends_badly = self._bad_left > 0
            chance = self._draw.random()
            patience = self._draw.expovariate(2.0) if ends_badly else None
            faults = self.plan.faults
            try:
                await asyncio.wait_for(life.ended.wait(), patience)
            except TimeoutError:
                if name in self._closing:
                    continue
                life.superseded = True
                if chance < faults.graceful:
                    self.figures["rebalances"] += 1
                    await life.replace()
                    await life.ended.wait()
                elif chance < faults.graceful + faults.zombies and self._machines_free(name) > 0:
                    self.figures["zombies"] += 1
                else:
                    life.superseded = False
                    await life.ended.wait()
            if life.ended.is_set():
                self._judge(life)

    def _judge(self, life: Life) -> None:
        error = life.error
        if error is None or isinstance(error, Killed | StartAgain):
            return
        superseded = life.superseded or self.plan.faults.answers_lost > 0
        if isinstance(error, Fenced) and (superseded or self._has_rival(life)):
            return
        if isinstance(error, Fenced | Lost) and self.plan.faults.answers_lost > 0:
            return
        self.violations.add(2, life.process.name, f"an owner stopped: {type(error).__name__}: {error}", error)

    def _has_rival(self, life: Life) -> bool:
        """Could a zombie's claim have come in between?"""
        return any(other is not life and other.group == life.group and other.superseded for other in self._all)

    def _machines_free(self, name: str) -> int:
        return sum(1 for disk in self.disks if name not in disk.in_use)

    async def _free_machine(self, name: str) -> int:
        """A machine on which nobody holds this owner's state; a zombie that has not noticed yet goes at last."""
        while True:
            free = [machine for machine, disk in enumerate(self.disks) if name not in disk.in_use]
            if free:
                return self._draw.choice(free)
            oldest = next(life for life in self._all if life.group == name and not life.ended.is_set())
            oldest.process.die()
            await oldest.ended.wait()

    def _in_force(self) -> TopicNames:
        """The topics that a worker knows which starts now: those of the topology in force, or of its file."""
        barrier = self.auditor.identity_barrier
        version = None if barrier is None else barrier.topology_version
        if barrier is None or version is None:
            return TopicNames.of(self.versions[self.file].topology, self.settings)
        topology = next(one.topology for one in self.versions if one.version == version)
        return TopicNames.of(topology, self.settings, barrier.destinations)

    def _begin(self, stage: str, number: int, name: str, machine: int) -> Life:
        draw, faults = self._draw, self.plan.faults
        dies_at = freezes_at = None
        if self._bad_left > 0:
            self._bad_left -= 1
            dies_at = 1 + int(draw.expovariate(1 / faults.actions_mean))
            if draw.random() < 0.3:
                freezes_at = draw.choice((1 + int(draw.expovariate(1 / faults.actions_mean)), draw.randint(2, 6)))
        disk = self.disks[machine]
        if draw.random() < faults.lost_disks and faults.lives:
            self.figures["lost disks"] += 1
            disk.wipe(name)
        elif draw.random() < faults.unflushed:
            self.figures["commits taken back"] += disk.take_back(name, draw)
        process = Process(f"{name}#{next(self._numbers)}", dies_at, freezes_at, draw.choice((0.1, 1.0, 5.0)))
        log = SimulatedLog(self.broker, self.network, process)
        topic = self.names.identity_log if stage == "identity" else self.names.of_role(PROFILE_CHANGES)
        life = Life(process, disk, log, TopicPartition(topic, number), self.plan)

        def committed(store: Store, changes: Changes) -> None:
            self.auditor.committed(stage, number, store, changes)

        async def is_ours(_: int) -> bool:
            # The group's word arrives late. Some runs go without it: the fence must hold alone.
            known = self.plan.seed % 2 == 0 or not life.superseded
            await asyncio.sleep(self.network.delay(life.where))
            return known

        async def commit(store: Store, changes: Changes) -> None:
            # Others have their turn before it is done, and after it before the owner hears of it.
            await asyncio.sleep(self.network.delay(life.where))
            store.commit(changes)
            await asyncio.sleep(self.network.delay(life.where))

        world = World(
            log,
            life.opener(committed),
            clock_ms=lambda: self.world_clock() + 7 * machine,
            is_ours=is_ours,
            commit=commit,
            wipe=lambda folder: disk.wipe(folder.name),
        )
        identity_metrics, profile_metrics = _metrics()
        owner: Any
        if stage == "identity":
            file = self.versions[self.file]
            barrier = self.auditor.identity_barrier
            replaces = barrier.topology_version if self.apply and barrier is not None else None
            owner = IdentityOwner(self.settings, self._in_force(), file, identity_metrics, world, replaces=replaces)
        else:
            owner = ProfileOwner(self.settings, self._in_force(), number, profile_metrics, world)
        life.start(owner)
        self._all.append(life)
        return life

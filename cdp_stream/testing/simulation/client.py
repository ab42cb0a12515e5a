"""The port of `stream.log` on the simulated broker: what a process sends takes time, and may get lost with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from aiokafka.structs import TopicPartition

from cdp_stream.stream.inputs import Inputs
from cdp_stream.stream.log import NOT_TOLD, BatchRecord, BatchWriter, Consumer
from cdp_stream.testing.simulation.broker import Refused, SimulatedBroker, Stored
from cdp_stream.testing.simulation.process import Killed, Process

_FETCH_MAX = 500
_SENT_AGAIN = 4
"""Every so-manieth batch counts as sent twice: its sender is not told when it was appended."""
_STOP_POLL_S = 0.01
_STOP_POLLS = 1_000


@dataclass(frozen=True, slots=True)
class Taken:
    """What the broker says of a batch that it has taken."""

    offset: int
    appended_ms: int = NOT_TOLD


class Lost(Exception):
    """No answer came in time; the batch may stand in the log or not."""


class Network:
    """How long things take; some partitions lie on a slow broker."""

    def __init__(self, draw: Random, slow: float, answers_lost: float) -> None:
        """`slow`: share of partitions that answer late. `answers_lost`: share of batches without an answer."""
        self._draw = draw
        self._slow = slow
        self.answers_lost = answers_lost
        self._factor: dict[TopicPartition, float] = {}

    def delay(self, where: TopicPartition) -> float:
        """Seconds of one way."""
        if where not in self._factor:
            self._factor[where] = 40.0 if self._draw.random() < self._slow else 1.0
        return (0.0002 + 0.001 * self._draw.random()) * self._factor[where]

    def happens(self, share: float) -> bool:
        """With this likelihood."""
        return share > 0 and self._draw.random() < share


class SimulatedLog:
    """`stream.log.Log` for one process."""

    def __init__(self, broker: SimulatedBroker, network: Network, process: Process) -> None:
        self.broker = broker
        self.network = network
        self.process = process
        self.inputs = Inputs(self)

    def consumer(self, **more: Any) -> Consumer:
        """A consumer of this process."""
        # Nothing is trimmed here that a consumer could fall behind, and a fetch costs nothing.
        return SimulatedConsumer(self, more.get("group_id"), more.get("isolation_level", "read_uncommitted"))

    async def mark(self, transactional_id: str, outputs: Sequence[TopicPartition]) -> tuple[int, int]:
        """The empty transaction of a claim."""
        await self.process.step("begin the claim's transaction")
        marked = await self.broker.mark(transactional_id, outputs)
        await self.process.step("abort the claim's transaction")
        return marked

    async def initialise(self, transactional_id: str) -> tuple[int, int]:
        """Producer id and epoch."""
        await self.process.step("initialise")
        found = await self.broker.initialise(transactional_id)
        await self.process.step("initialised")
        return found

    async def writer(self, producer_id: int, epoch: int) -> BatchWriter:
        """A writer with this id and epoch."""
        for hear in self.broker.claims:
            hear(producer_id, epoch)
        return SimulatedWriter(self, producer_id, epoch)

    async def describe(self, topics: Sequence[str]) -> Mapping[str, Any]:
        """Those of the topics that exist."""
        return {name: self.broker.topics[name] for name in topics if name in self.broker.topics}


class SimulatedWriter:
    """`stream.log.BatchWriter`: batches of a partition arrive in order; those of different ones in any."""

    def __init__(self, log: SimulatedLog, producer_id: int, epoch: int) -> None:
        self._log = log
        self._producer = (producer_id, epoch)
        self._lines: dict[TopicPartition, float] = {}
        self._broken: set[TopicPartition] = set()
        self._under_way: set[asyncio.Future[Taken]] = set()

    async def submit(self, where: TopicPartition, records: Sequence[BatchRecord]) -> Awaitable[Taken]:
        """Put one batch in line."""
        await self._log.process.step(f"send {len(records)} to {where.topic}/{where.partition}")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Taken] = loop.create_future()
        # A batch that is given up with its process is nobody's error.
        answer.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        self._under_way.add(answer)
        arrival = max(loop.time() + self._log.network.delay(where), self._lines.get(where, 0.0))
        self._lines[where] = arrival
        loop.call_at(arrival, self._arrive, where, list(records), answer)
        return answer

    def _arrive(self, where: TopicPartition, records: list[BatchRecord], answer: asyncio.Future[Taken]) -> None:
        log, loop = self._log, asyncio.get_running_loop()
        if log.process.dead and log.network.happens(0.5):
            self._broken.add(where)
        if where in self._broken:
            # It was still in the dead sender's hands, or what came before it in this partition got lost.
            self._under_way.discard(answer)
            return
        try:
            base = log.broker.append(where, records, producer=self._producer)
        except Refused as refused:
            loop.call_later(log.network.delay(where), self._answer, answer, refused)
            return
        lost = log.network.happens(log.network.answers_lost)
        told = where.topic in log.broker.append_time and base % _SENT_AGAIN
        at = log.broker.partitions[where].stored[-1].timestamp if told else NOT_TOLD
        said: Taken | Exception = Lost(f"{where.topic}: no answer in time") if lost else Taken(base, at)
        loop.call_later(log.network.delay(where), self._answer, answer, said)

    def _answer(self, answer: asyncio.Future[Taken], said: Taken | Exception) -> None:
        self._under_way.discard(answer)
        try:
            self._log.process.act("an answer")
        except Killed:
            return
        if answer.done():
            return
        if isinstance(said, Taken):
            answer.set_result(said)
        else:
            answer.set_exception(said)

    async def stop(self) -> None:
        """A producer that is stopped in order sends first what it holds."""
        for _ in range(_STOP_POLLS):
            if not self._under_way or self._log.process.dead:
                return
            await asyncio.sleep(_STOP_POLL_S)


class SimulatedConsumer:
    """`stream.log.Consumer`; with `isolation_level`, aborted records and those of open transactions are not read."""

    def __init__(
        self, log: SimulatedLog, group_id: str | None = None, isolation_level: str = "read_uncommitted"
    ) -> None:
        self._log = log
        self._group = group_id
        self._committed_only = isolation_level == "read_committed"
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._fetched: dict[TopicPartition, tuple[int, int]] = {}

    async def start(self) -> None:
        """Connect."""
        await self._log.process.step("start a consumer")

    async def stop(self) -> None:
        """Nothing to release."""

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these from their beginnings."""
        self._positions = dict.fromkeys(partitions, 0)
        self._paused.clear()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from this offset."""
        self._positions[partition] = offset

    def pause(self, *partitions: TopicPartition) -> None:
        """Give no more records of these."""
        self._paused.update(partitions)

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[Stored]]:
        """What is there, after waiting at most so long for the first of it."""
        # Callers keep partitions in sets, whose order is not that of the seed.
        wanted = sorted(where for where in partitions or self._positions if where not in self._paused)
        await self._log.process.step("fetch")
        await asyncio.sleep(self._log.network.delay(wanted[0]) if wanted else 0)
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_ms / 1000
        while True:
            found = self._fetch(wanted, max_records or _FETCH_MAX)
            left = until - loop.time()
            if found or left <= 0:
                return found
            news: asyncio.Future[None] = loop.create_future()
            for where in wanted:
                self._log.broker.partitions[where].waiting.append(news)
            await asyncio.wait([news], timeout=left)
            await self._log.process.step("wait for records")

    def _fetch(self, wanted: Sequence[TopicPartition], room: int) -> dict[TopicPartition, list[Stored]]:
        found: dict[TopicPartition, list[Stored]] = {}
        for where in wanted:
            partition = self._log.broker.partitions[where]
            end = partition.last_stable if self._committed_only else partition.end
            self._fetched[where] = (partition.end, partition.last_stable)
            position = self._positions[where]
            for stored in partition.since(position):
                if stored.offset >= end or room <= 0:
                    break
                position = stored.offset + 1
                if not stored.marker and not (stored.aborted and self._committed_only):
                    found.setdefault(where, []).append(stored)
                    room -= 1
            self._positions[where] = position
        return found

    async def position(self, partition: TopicPartition) -> int:
        """Where the next read begins."""
        return self._positions[partition]

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Nothing is ever trimmed here."""
        await self._log.process.step("ask for beginnings")
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The ends as they are now."""
        await self._log.process.step("ask for ends")
        ends = {}
        for where in partitions:
            partition = self._log.broker.partitions[where]
            ends[where] = partition.last_stable if self._committed_only else partition.end
        return ends

    def last_stable_offset(self, partition: TopicPartition) -> int | None:
        """As of the last fetch."""
        seen = self._fetched.get(partition)
        return None if seen is None else seen[1]

    def highwater(self, partition: TopicPartition) -> int | None:
        """As of the last fetch."""
        seen = self._fetched.get(partition)
        return None if seen is None else seen[0]

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Publish positions of the group."""
        await self._log.process.step("commit group offsets")
        for where, offset in offsets.items():
            self._log.broker.committed[self._group or "", where] = offset

"""One life of an owner: the real `IdentityOwner` or `ProfileOwner` with an agent that hands it what the log holds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiokafka.structs import TopicPartition

from cdp_stream.errors import Fenced
from cdp_stream.model.ports import Changes, Store
from cdp_stream.testing.simulation.client import SimulatedLog
from cdp_stream.testing.simulation.plan import Plan
from cdp_stream.testing.simulation.process import Disk, Killed, Process, SimulatedStore

_OFFERED_MAX = 60
_HAND_OVER_MS = 200


class Life:
    """From start to end, whichever that is. `ended` is set when nothing of it runs any more."""

    def __init__(
        self,
        process: Process,
        disk: Disk,
        log: SimulatedLog,
        where: TopicPartition,
        plan: Plan,
    ) -> None:
        """`where`: the stage's input. `plan`: what goes wrong with the agent that reads it."""
        self.process = process
        self.disk = disk
        self.log = log
        self.where = where
        self.group = process.name.split("#")[0]
        self.ended = asyncio.Event()
        self.error: BaseException | None = None
        self.superseded = False
        self._draw = plan.draw(process.name)
        self._faults = plan.faults
        self._passes_over = plan.draw(f"{process.name}/passed over")
        self._stores: list[SimulatedStore] = []
        self._offered: deque[list[int]] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self.owner: Any = None

    def opener(self, committed: Callable[[Store, Changes], None]) -> Callable[[Path], Store]:
        """Opens the store of this life's machine."""

        def open_store(folder: Path) -> Store:
            store = SimulatedStore(self.process, self.disk, folder.name, committed)
            self._stores.append(store)
            return store

        return open_store

    def start(self, owner: Any) -> None:
        """Begin."""
        self.owner = owner
        self.disk.in_use.add(self.group)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._own()), loop.create_task(self._hand_over())]
        self.process.on_death = self._cancel
        self._waiter = loop.create_task(self._wait())

    async def replace(self) -> None:
        """An ordinary rebalance: the owner is stopped between two of its awaits, and closes what it holds."""
        self._cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            if self.owner is not None and not self.process.dead:
                await self.owner.close()
        except (Killed, Fenced):
            pass
        self.process.die()

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _own(self) -> None:
        try:
            await self.owner.run()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever ends an owner ends its process
            self.error = _innermost(error)
            self.process.die()

    async def _wait(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # A rebalance closes the owner itself first.
        await self.process.gone.wait()
        for store in self._stores:
            store.close()
        self.disk.in_use.discard(self.group)
        self.ended.set()

    async def _hand_over(self) -> None:
        """What Faust's agent does: from the committed offset on, and sometimes from there again."""
        try:
            consumer = self.log.consumer()
            consumer.assign([self.where])
            committed = self.log.broker.committed
            position = committed.get((self.group, self.where), 0)
            consumer.seek(self.where, position)
            while True:
                while len(self._offered) > _OFFERED_MAX:
                    await asyncio.sleep(0.01)
                    self._commit()
                count = self._draw.choice((1, 5, 40))
                batches = await consumer.getmany(self.where, timeout_ms=_HAND_OVER_MS, max_records=count)
                for record in batches.get(self.where, []):
                    if self._passes_over.random() >= self._faults.passed_over:
                        self._offer(record)
                if self._draw.random() < 0.3:
                    self._commit()
                if self._draw.random() < self._faults.redelivery:
                    self._offered.clear()
                    consumer.seek(self.where, committed.get((self.group, self.where), 0))
        except Killed:
            return

    def _offer(self, record: Any) -> None:
        place = [record.offset, 0]
        self._offered.append(place)

        def done() -> None:
            place[1] = 1

        self.owner.hear(record.offset, done)

    def _commit(self) -> None:
        while self._offered and self._offered[0][1]:
            offset = self._offered.popleft()[0] + 1
            if not self.superseded and not self.process.dead:
                self.log.broker.committed[self.group, self.where] = offset


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

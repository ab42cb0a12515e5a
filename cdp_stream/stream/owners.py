"""The owners of the partitions that the group gave to this process: begun, ended, and begun again after a fence.

A partition that stays with the process through a rebalance keeps its owner, and with it its claim. One that goes is
ended between two awaits of its owner; an unfinished step is decided again by the next. An owner that was fenced, or
whose broker is away, begins again from the stored state if the group still gives it the partition. Any other failure
ends the process: nothing half done may go on, and the next start goes on from the store.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from aiokafka.errors import KafkaError

from cdp_stream.errors import Fenced, StartAgain, StateError
from cdp_stream.stream.membership import Membership

_CANCEL_AGAIN_S: Final = 0.5
_END_WITHIN_S: Final = 30.0
_FENCED_MAX: Final = 5
_FENCED_WITHIN_S: Final = 120.0
_PAUSES_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Before claiming again: longer and longer where one claim ends soon after the other."""
_SOON_S: Final = 20.0
log = logging.getLogger("cdp_stream.owners")


class PartitionOwner(Protocol):
    """What is needed of an owner."""

    @property
    def phase(self) -> str:
        """What it is doing: `claiming`, `restoring`, `restoring, 40 %`, `catching up`, `ready`."""

    def hear(self, offset: int, done: Callable[[], None]) -> None:
        """The partition has come as far as this offset; `done` is called when what stands there is stored."""

    async def run(self) -> None:
        """Own the partition until cancelled."""

    async def close(self) -> None:
        """Release what is held."""


class _Lease:
    """A partition while it is ours."""

    def __init__(self) -> None:
        self.owner: PartitionOwner | None = None
        self.over = asyncio.Event()
        self.task: asyncio.Task[None]


class Owners:
    """The owners of the assigned partitions.

    `make` makes one; `renew_s`: how long one claim is used; `crash`: given what no owner can go on after.
    """

    def __init__(
        self,
        make: Callable[[int], PartitionOwner],
        renew_s: float,
        crash: Callable[[BaseException], None],
    ) -> None:
        self._make = make
        self._renew_s = renew_s
        self._crash = crash
        self._leases: dict[int, _Lease] = {}
        self._ending: dict[int, asyncio.Task[None]] = {}
        self._stopped = False
        self._words = 0
        self.assigned = False
        self.before_again: Callable[[], Awaitable[None]] = _nothing
        """Awaited when an owner needs other topics than it has claimed: from then on `make` knows them."""
        self.release: Callable[[int], None] = _keep
        """Called before a partition that is given to us is opened: nobody else here may hold its store."""
        self.membership: Membership | None = None

    def get(self, partition: int) -> PartitionOwner | None:
        """The owner of a partition, or None if it is not ours, or is just being claimed anew."""
        lease = self._leases.get(partition)
        return None if lease is None else lease.owner

    def owned(self) -> list[int]:
        """The partitions that are ours."""
        return sorted(self._leases)

    def phases(self) -> dict[int, str]:
        """What the owner of each partition is doing; may be asked from another thread."""
        leases = dict(self._leases)
        owners = {partition: lease.owner for partition, lease in leases.items()}
        return {partition: "claiming" if owner is None else owner.phase for partition, owner in owners.items()}

    def assign(self, wanted: set[int]) -> None:
        """The group's word: these partitions and no others. Returns at once; heartbeats must go on."""
        if self._stopped:
            return
        self.assigned = True
        self._words += 1
        for partition in sorted(self._leases.keys() - wanted):
            self._end(partition)
        for partition in sorted(wanted - self._leases.keys()):
            self.release(partition)
            lease = self._leases[partition] = _Lease()
            before = self._ending.get(partition)
            lease.task = asyncio.get_running_loop().create_task(self._guarded(partition, lease, before))

    async def is_ours(self, partition: int) -> bool:
        """Does the group give this process the partition? Waits while the group is undecided."""
        return self.membership is None or await self.membership.holds(partition)

    async def stop_all(self) -> None:
        """Give every partition up, for good."""
        self._stopped = True
        for partition in self.owned():
            self._end(partition)
        await asyncio.gather(*self._ending.values())

    def _end(self, partition: int) -> None:
        lease = self._leases.pop(partition)
        lease.over.set()
        self._ending[partition] = lease.task

    async def _guarded(self, partition: int, lease: _Lease, before: asyncio.Task[None] | None) -> None:
        """Whatever goes wrong outside a claim, such as in closing an owner, leaves no partition without one."""
        try:
            await self._hold(partition, lease, before)
        except BaseException as error:  # noqa: BLE001 - every failure ends the process
            # A cancellation too: nobody here cancels this task, so it comes from a client that did not close.
            self._crash(_innermost(error))

    async def _hold(self, partition: int, lease: _Lease, before: asyncio.Task[None] | None) -> None:
        """Own the partition, claim after claim, until the lease is over."""
        if before is not None:
            await before
        failed: deque[float] = deque(maxlen=_FENCED_MAX)
        ended: deque[float] = deque(maxlen=len(_PAUSES_S))
        while not lease.over.is_set():
            error = await self._own(partition, lease)
            if error is None:
                continue
            if isinstance(error, StartAgain):
                log.info("partition %d: claiming anew: %s", partition, error)
                await self.before_again()
                await _first_of(lease.over, _PAUSES_S[0])
                continue
            if not isinstance(error, Fenced | KafkaError | ConnectionError):
                self._crash(error)
                return
            log.warning("partition %d: the claim has ended: %s", partition, error)
            if isinstance(error, Fenced):
                failed.append(time.monotonic())
                if len(failed) == _FENCED_MAX and failed[-1] - failed[0] < _FENCED_WITHIN_S:
                    self._crash(Fenced(f"fenced {_FENCED_MAX} times in a row; does another group run on this space?"))
                    return
            ended.append(time.monotonic())
            soon = sum(1 for moment in ended if ended[-1] - moment < _SOON_S)
            await _first_of(lease.over, _PAUSES_S[soon - 1])
            if not await self._may_go_on(partition, lease):
                log.warning("partition %d: no longer ours", partition)
                if self._leases.get(partition) is lease:
                    self._end(partition)
                return

    async def _own(self, partition: int, lease: _Lease) -> BaseException | None:
        """One claim. Returns what ended it; None if the lease is over or the claim was old enough to be renewed."""
        owner = lease.owner = self._make(partition)
        running = asyncio.get_running_loop().create_task(owner.run())
        over = asyncio.get_running_loop().create_task(lease.over.wait())
        try:
            await asyncio.wait({running, over}, timeout=self._renew_s, return_when=asyncio.FIRST_COMPLETED)
            ended = running.done()
            if not ended and not lease.over.is_set():
                log.info("partition %d: claiming anew, as every %.0f s", partition, self._renew_s)
            await _cancelled(running)
        finally:
            over.cancel()
            lease.owner = None
            await _closed(owner)
        error = None if running.cancelled() else running.exception()
        return _innermost(error) if ended and error is not None else None

    async def _may_go_on(self, partition: int, lease: _Lease) -> bool:
        over = asyncio.get_running_loop().create_task(lease.over.wait())
        try:
            while True:
                words = self._words
                asking = asyncio.get_running_loop().create_task(self.is_ours(partition))
                await asyncio.wait({asking, over}, return_when=asyncio.FIRST_COMPLETED)
                if lease.over.is_set():
                    asking.cancel()
                    return False
                # Where the group has spoken meanwhile, and has left us the partition, a "no" is of before.
                if asking.result() or words == self._words:
                    return asking.result()
        finally:
            over.cancel()


async def _nothing() -> None:
    return


def _keep(_partition: int) -> None:
    return


async def _first_of(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return


async def _cancelled(running: asyncio.Task[None]) -> None:
    """Raises StateError when it does not end: nobody else could have the partition from this process then."""
    until = time.monotonic() + _END_WITHIN_S
    while not running.done():
        if time.monotonic() > until:
            raise StateError(f"an owner did not end within {_END_WITHIN_S:.0f} s")
        # Again and again: clients swallow a cancellation that meets them while they close.
        running.cancel()
        await asyncio.wait({running}, timeout=_CANCEL_AGAIN_S)


async def _closed(owner: PartitionOwner) -> None:
    """Raises StateError when it does not close."""
    closing = asyncio.get_running_loop().create_task(owner.close())
    # Not `wait_for`: that would wait for a client that swallows its cancellation.
    await asyncio.wait({closing}, timeout=_END_WITHIN_S)
    if not closing.done():
        raise StateError(f"an owner did not close within {_END_WITHIN_S:.0f} s")
    closing.result()


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

"""Messages on their way to a webhook: one profile's in order, different profiles' at the same time, in bounded memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiokafka.structs import TopicPartition

from cdp_stream.stream.webhook_delivery import Abandoned

IN_FLIGHT_MAX: Final = 1_000
IN_FLIGHT_BYTES_MAX: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """A record of a destination's topic."""

    where: TopicPartition
    offset: int
    key: bytes | None
    value: bytes
    src: bytes | None = None


class Lanes:
    """Hands messages to `handle`, those of one key one after the other. For one assignment of partitions only."""

    def __init__(self, handle: Callable[[Message, asyncio.Event], Awaitable[None]]) -> None:
        """`handle` raises Abandoned when the event is set before the message is dealt with."""
        self._handle = handle
        self._closing = asyncio.Event()
        self._waiting: dict[tuple[TopicPartition, bytes | None], deque[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: dict[TopicPartition, dict[int, None]] = {}
        """Offsets that are not dealt with, in order."""
        self._next: dict[TopicPartition, int] = {}
        self._bytes = 0
        self._count = 0
        self.failure: BaseException | None = None

    def room(self) -> int:
        """How many more messages may be put."""
        return max(0, IN_FLIGHT_MAX - self._count) if self._bytes < IN_FLIGHT_BYTES_MAX else 0

    @property
    def in_flight(self) -> int:
        """How many messages are not dealt with."""
        return self._count

    def put(self, message: Message) -> None:
        """Take a message in; later than all others of its partition. Once closed, nothing is taken in any more."""
        if self._closing.is_set():
            return
        self._count += 1
        self._bytes += len(message.value)
        self._open.setdefault(message.where, {})[message.offset] = None
        self._next[message.where] = message.offset + 1
        lane = (message.where, message.key)
        if lane in self._waiting:
            self._waiting[lane].append(message)
            return
        self._waiting[lane] = deque([message])
        task = asyncio.get_running_loop().create_task(self._run(lane))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def committable(self) -> dict[TopicPartition, int]:
        """For each partition the offset before which everything is dealt with."""
        return {where: next(iter(self._open[where]), after) for where, after in self._next.items()}

    def position(self, where: TopicPartition, otherwise: int) -> int:
        """The offset after the last message that was put."""
        return self._next.get(where, otherwise)

    async def close(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._closing.set()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, lane: tuple[TopicPartition, bytes | None]) -> None:
        queue = self._waiting[lane]
        while queue and not self._closing.is_set():
            message = queue[0]
            try:
                await self._handle(message, self._closing)
            except Abandoned:
                return
            queue.popleft()
            del self._open[message.where][message.offset]
            self._bytes -= len(message.value)
            self._count -= 1
        if not queue:
            del self._waiting[lane]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = self.failure or error

"""The inputs of all partitions that a process owns: one consumer for a topic, and an inbox for each partition.

An owner reads its partition by itself, from where its state stands and without gaps, whatever the group's client does
meanwhile. A consumer of its own for each would ask the broker as many times for what comes at one time
(docs/adr/0021-owners-read.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aiokafka.structs import TopicPartition

from cdp_stream.stream.log import Consumer, ReadRecord, consuming

if TYPE_CHECKING:
    from cdp_stream.stream.log import Log

_HELD_MAX: Final = 200
_HELD_BYTES_MAX: Final = 8 * 1024 * 1024
"""What an inbox holds before no more is read for it; the answers under way come on top."""
_WAIT_MS: Final = 100
_FULL_WAIT_MS: Final = 5
_ENDS_WITHIN_S: Final = 1.0
"""How long to wait for records while an inbox is full: room may be made at any time."""


class Inbox:
    """What was read of a partition and not taken yet, in order."""

    def __init__(self, start: int) -> None:
        """`start`: offset of the first record that is wanted."""
        self.next_offset = start
        """From where on to read."""
        self._held: list[tuple[int, bytes]] = []
        self._size = 0
        self._news = asyncio.Event()
        self._failed: BaseException | None = None

    def __len__(self) -> int:
        return len(self._held)

    @property
    def has_room(self) -> bool:
        """May more be read for it?"""
        return len(self._held) < _HELD_MAX and self._size < _HELD_BYTES_MAX

    def put(self, records: Sequence[ReadRecord]) -> None:
        """These come next."""
        self._held.extend((record.offset, record.value) for record in records)
        self._size += sum(len(record.value) for record in records)
        self.next_offset = records[-1].offset + 1
        self._news.set()

    def fail(self, error: BaseException) -> None:
        """Nothing more will come, and this is why."""
        self._failed = error
        self._news.set()

    async def take(self) -> list[tuple[int, bytes]]:
        """Everything that is there, with its offsets, after waiting for the first of it. Raises what has ended the reading."""
        while not self._held:
            if self._failed is not None:
                raise self._failed
            self._news.clear()
            await self._news.wait()
        held, self._held, self._size = self._held, [], 0
        return held


class Inputs:
    """The inboxes of a process; nothing is connected as long as there is none."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._topics: dict[str, _TopicReader] = {}

    def follow(self, where: TopicPartition, start: int) -> Inbox:
        """Read a partition from `start` on, until it is left."""
        reader = self._topics.get(where.topic)
        if reader is None:
            reader = self._topics[where.topic] = _TopicReader(self._log)
        return reader.follow(where, start)

    async def leave(self, where: TopicPartition) -> None:
        """Read a partition no more, if it is read at all."""
        reader = self._topics.get(where.topic)
        if reader is not None:
            await reader.leave(where)


class _TopicReader:
    """Reads some partitions of a topic with one consumer."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._inboxes: dict[TopicPartition, Inbox] = {}
        self._changed = False
        """Are the inboxes others than those that the consumer reads for?"""
        self._reading: asyncio.Task[None] | None = None

    def follow(self, where: TopicPartition, start: int) -> Inbox:
        inbox = self._inboxes[where] = Inbox(start)
        self._changed = True
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._read())
        return inbox

    async def leave(self, where: TopicPartition) -> None:
        if self._inboxes.pop(where, None) is None:
            return
        self._changed = True
        if not self._inboxes and self._reading is not None:
            reading, self._reading = self._reading, None
            reading.cancel()
            # Nothing depends on its end, which takes long where a broker is away.
            await asyncio.wait({reading}, timeout=_ENDS_WITHIN_S)

    async def _read(self) -> None:
        """Read until cancelled. What ends it otherwise is told to whoever waits, and the next to come begins anew."""
        try:
            async with consuming(self._log, bare=True, fetch_max_wait_ms=_WAIT_MS) as consumer:
                while self._reading is asyncio.current_task():
                    await self._read_some(consumer)
        except BaseException as error:  # noqa: BLE001 - the owners raise it
            if self._reading is not asyncio.current_task():
                return  # nobody reads with it any more
            if isinstance(error, asyncio.CancelledError):
                # Not ours, which comes when nobody reads any more: a client has let one out.
                error = ConnectionError("the reading was cancelled by the client")
            inboxes, self._inboxes, self._reading = self._inboxes, {}, None
            for inbox in inboxes.values():
                inbox.fail(error)

    async def _read_some(self, consumer: Consumer) -> None:
        if self._changed:
            self._changed = False
            consumer.assign(sorted(self._inboxes))
            for where, inbox in self._inboxes.items():
                consumer.seek(where, inbox.next_offset)
        open_ones = [where for where, inbox in self._inboxes.items() if inbox.has_room]
        if not open_ones:
            await asyncio.sleep(_FULL_WAIT_MS / 1000)
            return
        is_any_full = len(open_ones) < len(self._inboxes)
        found = await consumer.getmany(*open_ones, timeout_ms=_FULL_WAIT_MS if is_any_full else _WAIT_MS)
        # Whoever came meanwhile reads from another place; then all are read again from where they stand.
        if not self._changed and self._reading is asyncio.current_task():
            for where, records in found.items():
                self._inboxes[where].put(records)

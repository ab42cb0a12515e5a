"""The group's client, which hands messages over to the agents."""

from __future__ import annotations

import inspect
import types
from collections.abc import Coroutine, Generator
from typing import Any, Final

import uvloop
from aiokafka import AIOKafkaConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from mode.services import WaitResults

_GATHERED_BYTES: Final = 64 * 1024
_GATHERED_MS: Final = 100
"""What the agent brings may be so late where it only brings what the owner knows already, and what others have written."""


class GatheringThread(AIOKafkaConsumerThread):
    """Faust's own, which does not ask for each message as it comes. An answer goes through two threads and costs both."""

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_min_bytes = _GATHERED_BYTES  # noqa: SLF001 - a contract test watches it
        consumer._fetch_max_wait_ms = _GATHERED_MS  # noqa: SLF001
        return consumer


class EagerConsumer(Consumer):
    """Faust's own, which waits for a message to be handed over only where that takes waiting.

    As it comes, it makes four tasks for every message, to be interrupted while an agent's queue is full. Each message
    then takes some turns of the event loop, during which the stage's work goes on: some hundred messages a second, however
    many lie there.
    """

    thread = AIOKafkaConsumerThread

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        # With a loop like the main thread's. Faust leaves it open when it stops, and the process ends then.
        return self.thread(self, loop=self.loop, thread_loop=uvloop.new_event_loop(), beacon=self.beacon)

    async def wait_first(self, *coros: Any, timeout: Any = None) -> WaitResults:  # noqa: ASYNC109 - as in `mode.Service`
        """The results of whichever of these is done first; see `mode.Service`."""
        first, *others = coros
        if not inspect.iscoroutine(first):
            return await super().wait_first(first, *others, timeout=timeout)
        try:
            awaited = first.send(None)
        except BaseException as ended:
            for other in others:
                if inspect.iscoroutine(other):
                    other.close()
            if isinstance(ended, StopIteration):
                return WaitResults([first], [ended.value], False)
            raise
        return await super().wait_first(_go_on(first, awaited), *others, timeout=timeout)


async def _go_on(begun: Coroutine[Any, Any, Any], awaited: Any) -> Any:
    """The rest of a coroutine that has begun and awaits something."""
    return await _resumed(begun, awaited)


@types.coroutine
def _resumed(begun: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, Any]:
    while True:
        try:
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001 - the coroutine's own to handle, cancellation too
                awaited = begun.throw(error)
            else:
                awaited = begun.send(sent)
        except StopIteration as returned:
            return returned.value


class GatheringConsumer(EagerConsumer):
    """For a stage whose owner takes its messages by itself: the agent hears of them a little later."""

    thread = GatheringThread

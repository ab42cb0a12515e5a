"""The group's client, which hands messages over to the agents."""

from __future__ import annotations

import inspect
import types
from collections.abc import Coroutine, Generator
from typing import Any

import uvloop
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from mode.services import WaitResults


class EagerConsumer(Consumer):
    """Faust's own, which waits for a message to be handed over only where that takes waiting.

    As it comes, it makes four tasks for every message, to be interrupted while an agent's queue is full. Each message
    then takes some turns of the event loop, during which the stage's work goes on: some hundred messages a second, however
    many lie there.
    """

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        # With a loop like the main thread's. Faust leaves it open when it stops, and the process ends then.
        return AIOKafkaConsumerThread(self, loop=self.loop, thread_loop=uvloop.new_event_loop(), beacon=self.beacon)

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

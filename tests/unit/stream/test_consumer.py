"""The group's client hands a message over at once where nobody has to wait, and as before where somebody has."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from mode import Service

from cdp_stream.stream.consumer import EagerConsumer, GatheringThread


def run(scenario: Callable[[EagerConsumer], Awaitable[Any]]) -> Any:
    async def started() -> Any:
        consumer = EagerConsumer.__new__(EagerConsumer)
        Service.__init__(consumer)
        return await scenario(consumer)

    return asyncio.run(started())


def test_what_need_not_wait_is_done_in_the_same_turn() -> None:
    turns = []

    async def counts() -> None:
        while True:
            turns.append(len(turns))
            await asyncio.sleep(0)

    async def hands_over(message: int) -> int:
        return message * 2

    async def scenario(consumer: EagerConsumer) -> list[Any]:
        counter = asyncio.create_task(counts())
        never = asyncio.Event()
        told = [(await consumer.wait_first(hands_over(number), never.wait())).results for number in range(100)]
        counter.cancel()
        return told

    assert [[number * 2] for number in range(100)] == run(scenario)
    assert not turns


def test_what_waits_is_finished_when_it_can_be() -> None:
    said = []

    async def hands_over(lock: asyncio.Lock) -> str:
        async with lock:
            said.append("locked")
            await asyncio.sleep(0)
            try:
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)
            except TimeoutError:
                said.append("in vain")
        return "done"

    async def scenario(consumer: EagerConsumer) -> Any:
        lock = asyncio.Lock()
        await lock.acquire()
        asyncio.get_running_loop().call_later(0.01, lock.release)
        found = await consumer.wait_first(hands_over(lock), asyncio.Event().wait())
        assert not lock.locked()
        return found

    found = run(scenario)
    assert (["done"], False) == (found.results, found.stopped)
    assert ["locked", "in vain"] == said


def test_it_is_given_up_when_the_other_comes_first() -> None:
    said = []

    async def hands_over() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    async def scenario(consumer: EagerConsumer) -> Any:
        suspended = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, suspended.set)
        found = await consumer.wait_first(hands_over(), suspended.wait())
        await asyncio.sleep(0)
        return found.results

    assert [True] == run(scenario)
    assert ["cancelled"] == said


@pytest.mark.parametrize("waits", [False, True])
def test_what_fails_is_heard_of(waits: bool) -> None:
    async def hands_over() -> None:
        if waits:
            await asyncio.sleep(0)
        raise ValueError("refused")

    async def scenario(consumer: EagerConsumer) -> None:
        await consumer.wait_first(hands_over(), asyncio.Event().wait())

    with pytest.raises(ValueError, match="refused"):
        run(scenario)


def test_what_gathers_does_not_ask_for_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contract with the client, whose consumer hands both on to its fetcher when it starts."""

    async def scenario() -> None:
        plain = AIOKafkaConsumer(bootstrap_servers="none:1")
        assert plain._fetch_min_bytes == 1
        monkeypatch.setattr(AIOKafkaConsumerThread, "_create_worker_consumer", lambda *_: plain)
        gathering: Any = GatheringThread._create_worker_consumer(GatheringThread.__new__(GatheringThread), None)
        assert (gathering._fetch_min_bytes, gathering._fetch_max_wait_ms) == (64 * 1024, 100)
        await plain.stop()

    asyncio.run(scenario())
    source = inspect.getsource(AIOKafkaConsumer.start)
    assert "fetch_min_bytes=self._fetch_min_bytes" in source
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in source

"""The group's client asks seldom, and tells the agents of the last message that has come."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types import TP

from cdp_stream.stream.consumer import GatheringConsumer, GatheringThread


def test_what_gathers_does_not_ask_for_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contract with the client, whose consumer hands both on to its fetcher when it starts."""

    async def scenario() -> None:
        plain = AIOKafkaConsumer(bootstrap_servers="none:1")
        assert plain._fetch_min_bytes == 1
        monkeypatch.setattr(AIOKafkaConsumerThread, "_create_worker_consumer", lambda *_: plain)
        gathering: Any = GatheringThread._create_worker_consumer(GatheringThread.__new__(GatheringThread), None)
        assert (gathering._fetch_min_bytes, gathering._fetch_max_wait_ms) == (1024 * 1024, 250)
        await plain.stop()

    asyncio.run(scenario())
    source = inspect.getsource(AIOKafkaConsumer.start)
    assert "fetch_min_bytes=self._fetch_min_bytes" in source
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in source


def test_the_last_of_each_partition_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetched(*_: Any) -> dict[TP, list[int]]:
        return {TP("t", 0): [1, 2, 3], TP("t", 1): [7]}

    monkeypatch.setattr(Consumer, "_getmany", fetched)
    told = asyncio.run(GatheringConsumer._getmany(GatheringConsumer.__new__(GatheringConsumer), None, 1.0))
    assert told == {TP("t", 0): [3], TP("t", 1): [7]}


def test_what_is_acknowledged_speaks_for_all_before_it() -> None:
    consumer = GatheringConsumer.__new__(GatheringConsumer)
    where = TP("t", 0)
    consumer._acked, consumer._acked_index = {where: [9, 3]}, {where: {3, 9}}  # type: ignore[assignment]
    assert consumer._new_offset(where) == 10
    assert consumer._new_offset(where) is None
    assert not consumer._acked_index[where]

"""One consumer reads for all partitions of a topic: in order, without gaps, whoever comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from cdp_stream.stream.inputs import Inputs

ONE, TWO, OTHER = TopicPartition("t", 1), TopicPartition("t", 2), TopicPartition("other", 1)


@dataclass
class Record:
    offset: int
    value: bytes = b"v"


class Consumer:
    """Gives what the log has, a few at a time."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.positions: dict[TopicPartition, int] = {}
        self.asked: list[tuple[TopicPartition, ...]] = []
        self.open = False

    async def start(self) -> None:
        self.open = True

    async def stop(self) -> None:
        self.open = False

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.positions = dict.fromkeys(partitions, 0)

    def seek(self, where: TopicPartition, offset: int) -> None:
        self.positions[where] = offset

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int) -> Mapping[TopicPartition, Sequence[Record]]:
        assert partitions, "none would mean all"
        self.asked.append(partitions)
        until = asyncio.get_running_loop().time() + timeout_ms / 1000
        while True:
            if self.log.broken is not None:
                raise self.log.broken
            found = {}
            for where in partitions:
                behind = [one for one in self.log.records.get(where, []) if one.offset >= self.positions[where]]
                if behind:
                    found[where] = behind[: self.log.at_once]
                    self.positions[where] = found[where][-1].offset + 1
            if found or asyncio.get_running_loop().time() > until:
                # As an answer does that was on its way when somebody came.
                await asyncio.sleep(0.002)
                return found
            await asyncio.sleep(0.001)


class Log:
    def __init__(self) -> None:
        self.records: dict[TopicPartition, list[Record]] = {}
        self.consumers: list[Consumer] = []
        self.broken: Exception | None = None
        self.at_once = 3

    def consumer(self, **_: Any) -> Consumer:
        self.consumers.append(Consumer(self))
        return self.consumers[-1]

    def append(self, where: TopicPartition, *offsets: int, size: int = 1) -> None:
        self.records.setdefault(where, []).extend(Record(offset, bytes(size)) for offset in offsets)


def run(scenario: Callable[[Inputs, Log], Awaitable[None]]) -> None:
    async def inside() -> None:
        log = Log()
        inputs = Inputs(log)  # type: ignore[arg-type] # as much of a log as is used
        async with asyncio.timeout(10):
            await scenario(inputs, log)
            for where in (ONE, TWO, OTHER):
                await inputs.leave(where)
        assert not any(consumer.open for consumer in log.consumers)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(inside())


async def take(inbox: Any, until: int) -> list[int]:
    offsets: list[int] = []
    while not offsets or offsets[-1] < until:
        offsets += [offset for offset, _ in await inbox.take()]
    return offsets


def test_each_inbox_has_its_partition_from_its_start_on() -> None:
    async def scenario(inputs: Inputs, log: Log) -> None:
        log.append(ONE, *range(10))
        log.append(TWO, 4, 7, 9)
        one, two = inputs.follow(ONE, 3), inputs.follow(TWO, 5)
        assert await take(one, 9) == [3, 4, 5, 6, 7, 8, 9]
        assert await take(two, 9) == [7, 9]
        log.append(ONE, 12)
        assert await take(one, 12) == [12]
        assert len(log.consumers) == 1

    run(scenario)


def test_each_topic_has_a_consumer_of_its_own() -> None:
    async def scenario(inputs: Inputs, log: Log) -> None:
        log.append(ONE, 0)
        log.append(OTHER, 0)
        for inbox in (inputs.follow(ONE, 0), inputs.follow(OTHER, 0)):
            assert await take(inbox, 0) == [0]
        assert len(log.consumers) == 2

    run(scenario)


def test_whoever_comes_or_goes_takes_nothing_from_the_others() -> None:
    async def scenario(inputs: Inputs, log: Log) -> None:
        one = inputs.follow(ONE, 0)
        seen: list[int] = []
        for begun in range(0, 60, 6):
            log.append(ONE, *range(begun, begun + 6))
            log.append(TWO, *range(begun, begun + 6))
            # Amid an answer that is on its way.
            await asyncio.sleep(0.001)
            two = inputs.follow(TWO, 0)
            assert await take(two, begun + 5) == list(range(begun + 6))
            await inputs.leave(TWO)
            seen += await take(one, begun + 5)
        assert seen == list(range(60))

    run(scenario)


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_full_inbox_is_not_read_for_and_holds_nobody_up(size: int) -> None:
    async def scenario(inputs: Inputs, log: Log) -> None:
        log.at_once = 50
        log.append(ONE, *range(1_000), size=size)
        one, two = inputs.follow(ONE, 0), inputs.follow(TWO, 0)
        while one.has_room:
            await asyncio.sleep(0.001)
        held = len(one)
        assert held < 300
        log.append(TWO, 0)
        assert await take(two, 0) == [0]
        assert len(one) == held
        assert log.consumers[0].asked[-1] == (TWO,)
        assert await take(one, 999) == list(range(1_000))

    run(scenario)


def test_what_ends_the_reading_is_told_to_all_and_the_next_begins_anew() -> None:
    async def scenario(inputs: Inputs, log: Log) -> None:
        log.append(ONE, 0)
        one, two = inputs.follow(ONE, 0), inputs.follow(TWO, 0)
        assert await take(one, 0) == [0]
        log.broken = ConnectionError("the broker is away")
        for inbox in (one, two):
            with pytest.raises(ConnectionError, match="away"):
                await inbox.take()
        log.broken = None
        log.append(ONE, 1)
        assert await take(inputs.follow(ONE, 1), 1) == [1]
        assert len(log.consumers) == 2

    run(scenario)

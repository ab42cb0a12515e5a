"""How the reader of the sources ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka.structs import TopicPartition

from cdp_stream.stream.sources import SourceReader, SourceTopic


class SlowConsumer:
    """Commits when it is let."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.may_commit = asyncio.Event()

    async def start(self) -> None: ...

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    def assign(self, partitions: Sequence[TopicPartition]) -> None: ...

    def seek(self, where: TopicPartition, offset: int) -> None: ...

    async def commit(self, _offsets: dict[TopicPartition, int]) -> None:
        await self.may_commit.wait()
        self.told.append("committed")

    async def stop(self) -> None:
        self.told.append("stopped")


class OneConsumer:
    """A log whose only consumer is this one."""

    def __init__(self, made: SlowConsumer) -> None:
        self.made = made

    def consumer(self, **_: Any) -> Any:
        return self.made


async def stopped_amid_a_commit(consumer: SlowConsumer, answers_after_s: float | None) -> asyncio.Task[None]:
    """A reader that is stopped while its positions are on their way; whoever had them sent was cancelled before."""
    log = OneConsumer(consumer)
    reader = SourceReader(log, "group", [SourceTopic("web", "id", 1, True)], 100, 1_000)  # type: ignore[arg-type]
    await reader.start({})
    committing = asyncio.create_task(reader.commit({TopicPartition("web", 0): 5}))
    await asyncio.sleep(0)
    committing.cancel()
    if answers_after_s is not None:
        asyncio.get_running_loop().call_later(answers_after_s, consumer.may_commit.set)
    async with asyncio.timeout(5):
        await reader.stop()
    return committing


def test_positions_on_their_way_to_the_broker_are_waited_for_before_the_connection_closes() -> None:
    consumer = SlowConsumer()
    committing = asyncio.run(stopped_amid_a_commit(consumer, answers_after_s=0.02))
    assert consumer.told == ["committed", "stopped"]
    assert committing.cancelled()


def test_a_broker_that_does_not_answer_does_not_keep_the_connection_open() -> None:
    consumer = SlowConsumer()
    asyncio.run(stopped_amid_a_commit(consumer, answers_after_s=None))
    assert consumer.told == ["stopped"]

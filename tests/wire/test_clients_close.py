"""The clients on a real broker, told to close: whoever waits for that can still be cancelled."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from cdp_stream.stream.broker import Broker
from cdp_stream.stream.kafka_log import KafkaLog

pytestmark = [pytest.mark.wire, pytest.mark.timeout(60)]


def test_a_cancellation_that_meets_a_consumer_in_closing_is_not_lost(kafka: Broker, topic_prefix: str) -> None:
    where = TopicPartition(f"{topic_prefix}closing", 0)
    log = KafkaLog({"bootstrap_servers": kafka.bootstrap})

    async def close_while_cancelled(turns: int) -> str:
        """Cancel whoever closes a consumer, so many turns of the loop after it has begun to."""
        closing = asyncio.Event()

        async def read() -> None:
            consumer = log.consumer()
            await consumer.start()
            try:
                consumer.assign([where])
                consumer.seek(where, 0)
                await consumer.getmany(where, timeout_ms=50)
            finally:
                closing.set()
                await consumer.stop()

        reading = asyncio.create_task(read())
        await closing.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        if reading.done():
            return "closed before"
        reading.cancel()
        await asyncio.wait({reading})
        return "cancelled" if reading.cancelled() else "lost"

    async def scenario() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(where.topic, 1, 1)])
        await admin.close()
        ends = [await close_while_cancelled(turns) for turns in range(16)]
        # The consumers go on closing by themselves.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        assert ends[0] == "cancelled"
        assert "lost" not in ends

    asyncio.run(scenario())

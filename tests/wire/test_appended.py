"""What a real broker says of an append is what a reader finds: the owner takes its own entries without reading them."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from cdp_stream.stream.broker import Broker
from cdp_stream.stream.catch_up import read_to_end
from cdp_stream.stream.kafka_log import KafkaLog
from cdp_stream.stream.log import NOT_TOLD

pytestmark = [pytest.mark.wire, pytest.mark.timeout(60)]


@pytest.mark.parametrize("own_time", [True, False])
def test_offset_and_time_of_an_append_are_those_of_the_record(kafka: Broker, topic_prefix: str, own_time: bool) -> None:
    where = TopicPartition(f"{topic_prefix}entries", 0)
    log = KafkaLog({"bootstrap_servers": kafka.bootstrap})

    async def scenario() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        configs = {"message.timestamp.type": "LogAppendTime"} if own_time else {}
        await admin.create_topics([NewTopic(where.topic, 1, 1, topic_configs=configs)])
        await admin.close()
        writer = await log.writer(*await log.mark(f"{topic_prefix}owner", [where]))
        told = []
        for number in range(20):
            taken = await (await writer.submit(where, [(None, b"%d" % number, None)]))
            told.append((taken.offset, taken.appended_ms, b"%d" % number))
            await asyncio.sleep(0.003)
        await writer.stop()
        consumer = log.consumer()
        await consumer.start()
        found = [(one.offset, one.timestamp, one.value) async for _, one in read_to_end(consumer, {where: 0})]
        await consumer.stop()
        if own_time:
            assert told == found
            assert len({time for _, time, _ in found}) > 1
        else:
            # Then the time is the sender's, which the broker does not repeat.
            assert {time for _, time, _ in told} == {NOT_TOLD}

    asyncio.run(scenario())

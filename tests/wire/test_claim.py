"""The fence, on a real broker: a contract with the client's internals and with Kafka."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from cdp_stream.errors import Fenced
from cdp_stream.stages.records import LEDGER, OutputRecord
from cdp_stream.stream.broker import Broker
from cdp_stream.stream.catch_up import outputs_beyond
from cdp_stream.stream.claim import claim
from cdp_stream.stream.kafka_log import KafkaLog
from cdp_stream.stream.log import BatchWriter
from cdp_stream.stream.step import StepWriter
from cdp_stream.stream.topics import TopicNames

pytestmark = pytest.mark.wire
PARTITIONS = 3


def record(number: int) -> OutputRecord:
    return OutputRecord(LEDGER, number % PARTITIONS, b"key", b"{}", f"identity/0/{number}/0/0")


class Setting:
    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.options = {"bootstrap_servers": bootstrap}
        self.log = KafkaLog(self.options)
        self.names = TopicNames("fence", prefix, PARTITIONS, (), ())
        self.topic = self.names.of_role(LEDGER)
        self.outputs = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]
        self.id = f"{prefix}fence.identity.0"

    async def is_ours(self) -> bool:
        return True

    async def create(self) -> None:
        admin = AIOKafkaAdminClient(**self.options)
        await admin.start()
        await admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)])
        await admin.close()

    async def writer(self) -> tuple[StepWriter, int, BatchWriter]:
        writer, producer_id = await claim(self.log, self.id, self.outputs, self.is_ours)
        sent = await outputs_beyond(self.log, self.outputs, {}, "identity/0/", lambda _: False)
        return StepWriter(writer, self.names, self.outputs[0], sent), producer_id, writer

    async def ends(self) -> dict[TopicPartition, int]:
        consumer = AIOKafkaConsumer(**self.options)
        await consumer.start()
        ends = await consumer.end_offsets(self.outputs)
        await consumer.stop()
        return dict(ends)


def test_a_claim_leaves_a_marker_in_every_output_and_keeps_its_producer_id(kafka: Broker, topic_prefix: str) -> None:
    async def scenario() -> None:
        setting = Setting(kafka.bootstrap, topic_prefix)
        await setting.create()
        _, first_id, first = await setting.writer()
        assert [1] * PARTITIONS == list((await setting.ends()).values())
        _, second_id, second = await setting.writer()
        assert first_id == second_id
        assert [2] * PARTITIONS == list((await setting.ends()).values())
        await first.stop()
        await second.stop()

    asyncio.run(scenario())


def test_an_older_owner_is_refused_in_every_output(kafka: Broker, topic_prefix: str) -> None:
    async def scenario() -> None:
        setting = Setting(kafka.bootstrap, topic_prefix)
        await setting.create()
        old, _, old_producer = await setting.writer()
        await old.send([record(0)], {})
        new, _, new_producer = await setting.writer()
        before = await setting.ends()
        for number in range(1, 1 + PARTITIONS):
            with pytest.raises(Fenced):
                await asyncio.wait_for(old.send([record(number)], {}), 30)
        assert before == await setting.ends()
        await new.send([record(4)], {})
        await old_producer.stop()
        await new_producer.stop()

    asyncio.run(scenario())


def test_outputs_the_log_holds_are_not_sent_again(kafka: Broker, topic_prefix: str) -> None:
    async def scenario() -> None:
        setting = Setting(kafka.bootstrap, topic_prefix)
        await setting.create()
        first, _, producer = await setting.writer()
        offsets = await first.send([record(number) for number in range(4)], {})
        await producer.stop()
        again, _, producer = await setting.writer()
        before = await setting.ends()
        assert offsets == await again.send([record(number) for number in range(4)], {})
        assert before == await setting.ends()
        await again.send([record(9)], {})
        assert sum(before.values()) + 1 == sum((await setting.ends()).values())
        await producer.stop()

    asyncio.run(scenario())
